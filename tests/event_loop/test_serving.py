"""Servers: how connections are taken, and what becomes of them at the end."""

import asyncio
import contextvars
import inspect
import itertools
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import carboy


def run(main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    carboy.run(bounded(), debug=debug)


class Greeter(asyncio.Protocol):
    """Says who it is, and notes its end."""

    def __init__(self, connections: set["Greeter"]) -> None:
        self.connections = connections

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connections.add(self)
        transport.write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)


async def ended(server: asyncio.AbstractServer, connections: set[Greeter]) -> None:
    """Close a server whose clients have gone, and wait: wait_closed does so since 3.12."""
    server.close()
    while connections:
        await asyncio.sleep(0)
    await server.wait_closed()


async def greeting(address: Any, family: int = socket.AF_INET) -> socket.socket:
    """Give a socket that was greeted."""
    connection = socket.socket(family)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(connection, address)
    except OSError:
        connection.close()
        raise
    assert await loop.sock_recv(connection, 100) == b"hello"
    return connection


def test_a_server_takes_many_connections_and_waits_for_their_end() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections: set[Greeter] = set()
        server = await loop.create_server(lambda: Greeter(connections), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        assert server.is_serving()
        clients = await asyncio.gather(*(greeting(address) for _ in range(150)))
        assert len(connections) == 150
        server.close()
        assert not server.is_serving()
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            await greeting(address)
        waiting = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(0)
        if sys.version_info >= (3, 12):
            assert not waiting.done()
        for client in clients:
            client.close()
        await waiting
        if sys.version_info >= (3, 12):
            assert not connections
        while connections:
            await asyncio.sleep(0)

    run(main)


def test_a_unix_server(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections: set[Greeter] = set()
        path = str(tmp_path / "socket")
        server = await loop.create_unix_server(lambda: Greeter(connections), path)
        client = await greeting(path, socket.AF_UNIX)
        (served,) = connections
        assert served.transport.get_extra_info("peername") == ""
        assert served.transport.get_extra_info("sockname") == path
        assert served.transport.get_extra_info("socket").family is socket.AF_UNIX
        client.close()
        await ended(server, connections)

    run(main)


def test_a_unix_server_with_an_abstract_name() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections: set[Greeter] = set()
        name = f"\0carboy test {os.getpid()}"
        server = await loop.create_unix_server(lambda: Greeter(connections), name)
        client = await greeting(name, socket.AF_UNIX)
        (served,) = connections
        assert served.transport.get_extra_info("sockname") == name.encode()
        client.close()
        await ended(server, connections)

    run(main)


def test_serving_starts_and_stops_when_it_is_told_to() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections: set[Greeter] = set()
        server: Any = await loop.create_server(
            lambda: Greeter(connections), "127.0.0.1", 0, start_serving=False
        )
        assert not server.is_serving()
        address = server.sockets[0].getsockname()
        forever = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        assert server.is_serving()
        client = await greeting(address)
        client.close()
        while connections:
            await asyncio.sleep(0)
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever
        assert not server.is_serving()

    run(main)


def test_a_connected_socket_of_somebody_else_is_taken() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections: set[Greeter] = set()
        near, far = socket.socketpair()
        far.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(lambda: Greeter(connections), near)
        assert await loop.sock_recv(far, 100) == b"hello"
        transport.close()
        far.close()
        await asyncio.sleep(0)

    run(main)


@pytest.mark.parametrize("debug", [False, True])
def test_a_factory_that_fails_costs_one_connection(debug: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[str] = []
        loop.set_exception_handler(lambda _, details: reported.append(details["message"]))
        connections: set[Greeter] = set()
        error: list[Exception] = [ValueError("a mistake")]

        def factory() -> Greeter:
            if error:
                raise error.pop()
            return Greeter(connections)

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        first = socket.socket()
        first.setblocking(False)
        await loop.sock_connect(first, address)
        assert await loop.sock_recv(first, 1) == b""
        client = await greeting(address)
        # As asyncio, which says so in its debug mode only.
        assert reported == ["Error on transport creation for incoming connection"] * debug
        first.close()
        client.close()
        await ended(server, connections)

    run(main, debug=debug)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_connections_are_made_in_the_context_of_who_has_started_the_server() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        class Observer(Greeter):
            def connection_made(self, transport: Any) -> None:
                seen.append(variable.get())
                variable.set("of one connection")
                super().connection_made(transport)

        connections: set[Greeter] = set()
        variable.set("at the start")
        server = await loop.create_server(lambda: Observer(connections), "127.0.0.1", 0)
        variable.set("later")
        address = server.sockets[0].getsockname()
        clients = [await greeting(address) for _ in range(3)]
        assert seen == ["at the start"] * 3
        for client in clients:
            client.close()
        await ended(server, connections)

    run(main)


def test_a_server_without_descriptors_reports_it_and_tries_again() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, details: reported.append(details))
        connections: set[Greeter] = set()
        server = await loop.create_server(lambda: Greeter(connections), "127.0.0.1", 0)
        client = socket.socket()
        client.setblocking(False)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The highest number that is in use now, and what is free below it.
        spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, limits[1]))
        try:
            await loop.sock_connect(client, server.sockets[0].getsockname())
            while not reported:
                await asyncio.sleep(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for number in spare:
                os.close(number)
        (details,) = reported
        assert details["message"] == "socket.accept() out of system resource"
        assert isinstance(details["exception"], OSError)
        # asyncio's delay: one second.
        assert await loop.sock_recv(client, 100) == b"hello"
        assert len(reported) == 1
        client.close()
        await ended(server, connections)

    run(main)


def test_the_clients_of_a_server_can_be_closed_on_every_python(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for method, path in itertools.product(
            ("close_clients", "abort_clients"), (None, str(tmp_path / "socket"))
        ):
            connections: set[Greeter] = set()

            def greeter(connections: set[Greeter] = connections) -> Greeter:
                return Greeter(connections)

            server: Any
            if path is None:
                server = await loop.create_server(greeter, "127.0.0.1", 0)
                address, family = server.sockets[0].getsockname(), socket.AF_INET
            else:
                server = await loop.create_unix_server(greeter, path)
                address, family = path, socket.AF_UNIX
            assert isinstance(server, asyncio.base_events.Server)
            assert repr(server).startswith("<Server sockets=(<asyncio.TransportSocket fd=")
            clients = [await greeting(address, family) for _ in range(3)]
            # One that has gone by itself is no client any more.
            gone = await greeting(address, family)
            gone.close()
            server.close()
            getattr(server, method)()
            await ended(server, connections)
            assert not connections
            for client in clients:
                assert await loop.sock_recv(client, 1) == b""
                client.close()
            if path is not None:
                Path(path).unlink(missing_ok=True)

    run(main)


def test_a_server_serves_only_when_it_is_told_to() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections: set[Greeter] = set()
        server: Any = await loop.create_server(
            lambda: Greeter(connections), "127.0.0.1", 0, start_serving=False
        )
        address = server.sockets[0].getsockname()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await greeting(address)
        # It has no clients.
        server.close_clients()
        await server.start_serving()
        client = await greeting(address)
        client.close()
        server.close()
        await ended(server, connections)

    run(main)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="asyncio's own wants the transport")
def test_a_server_counts_transports_that_do_not_say_which_they_are() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server: Any = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server._attach()
        server.close()
        server.close_clients()
        server._detach()
        await server.wait_closed()

    run(main)


def test_create_server_says_what_arguments_it_takes() -> None:
    for name in ("create_server", "create_unix_server"):
        own, asyncios = getattr(carboy.EventLoop, name), getattr(asyncio.SelectorEventLoop, name)
        assert inspect.signature(own) == inspect.signature(asyncios)
        assert inspect.iscoroutinefunction(own)
