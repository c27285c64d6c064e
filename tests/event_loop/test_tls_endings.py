"""TLS connections that end in ways that nobody has planned."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import struct
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

import carboy


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(30):
            return await main()

    return carboy.run(bounded())


def reset(raw: socket.socket) -> None:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


class Counted(asyncio.Protocol):
    """A protocol whose instances are known as long as they live."""

    alive: ClassVar[weakref.WeakSet[asyncio.Protocol]] = weakref.WeakSet()
    lost = 0

    def __init__(self) -> None:
        self.alive.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        Counted.lost += 1


@pytest.mark.parametrize("ending", ["reset", "closed", "garbage", "half a handshake"])
def test_clients_that_vanish_in_the_handshake_leave_nothing(
    server_tls: ssl.SSLContext, ending: str
) -> None:
    hello = bytearray()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x")
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    hello += outgoing.read()

    async def main() -> tuple[int, list[str]]:
        loop = asyncio.get_running_loop()
        problems: list[str] = []
        loop.set_exception_handler(lambda _, context: problems.append(context["message"]))
        server = await loop.create_server(Counted, "127.0.0.1", 0, ssl=server_tls)
        address = server.sockets[0].getsockname()
        for _ in range(30):
            raw = socket.create_connection(address)
            raw.sendall(b"GET / HTTP/1.0\r\n\r\n" if ending == "garbage" else hello[:-20])
            if ending == "half a handshake":
                raw.sendall(hello[-20:])
                await asyncio.sleep(0.001)
            if ending == "reset":
                reset(raw)
            else:
                raw.close()
        # Each of them is accepted and noticed; then nothing refers to it.
        for _ in range(1000):
            gc.collect()
            if not Counted.alive:
                break
            await asyncio.sleep(0.005)
        server.close()
        await server.wait_closed()
        return len(Counted.alive), [p for p in problems if "SSL" not in p and "TLS" not in p]

    assert run(main) == (0, [])


@pytest.mark.filterwarnings("ignore:unclosed transport")
def test_a_connection_that_its_owner_never_closes_is_freed_when_the_peer_ends_it(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    class EndsWhenTold(asyncio.Protocol):
        made: ClassVar[list[Any]] = []

        def connection_made(self, transport: Any) -> None:
            self.made.append(transport)

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(EndsWhenTold, "127.0.0.1", 0, ssl=server_tls)
        address = server.sockets[0].getsockname()
        Counted.alive.clear()
        for _ in range(10):
            await loop.create_connection(
                Counted, *address, ssl=client_tls, server_hostname="localhost"
            )
        assert len(Counted.alive) == 10
        # A client's handshake is over before the server's.
        while len(EndsWhenTold.made) < 10:
            await asyncio.sleep(0.001)
        for number, transport in enumerate(EndsWhenTold.made):
            # With the goodbye of TLS, and without.
            (transport.close if number % 2 else transport.abort)()
        del transport
        EndsWhenTold.made.clear()
        for _ in range(1000):
            gc.collect()
            if not Counted.alive:
                break
            await asyncio.sleep(0.005)
        server.close()
        await server.wait_closed()
        return len(Counted.alive), loop_transports(loop)

    before = descriptors()
    assert run(main) == (0, 0)
    assert descriptors() == before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def loop_transports(loop: asyncio.AbstractEventLoop) -> int:
    """Native transports that are not closed."""
    gc.collect()
    return sum(
        isinstance(found, carboy._carboy.StreamTransport) and not found.is_closing()
        for found in gc.get_objects()
    )


def test_writes_over_connections_that_break_and_are_made_again_mix_nothing_up(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Writing goes on from callbacks while a connection is lost and another is made."""

    class Breaking(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.received = transport, 0

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            if self.received > 300_000:
                self.transport.abort()

    async def main() -> tuple[int, list[Any]]:
        loop = asyncio.get_running_loop()
        problems: list[Any] = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        server = await loop.create_server(Breaking, "127.0.0.1", 0, ssl=server_tls)
        address = server.sockets[0].getsockname()
        breaks = 0

        class Writing(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport
                self.paused = False
                self.lost = loop.create_future()
                self.write()

            def write(self) -> None:
                if self.lost.done():
                    return
                for _ in range(5):
                    self.transport.write(b"x" * 20_000)
                loop.call_soon(self.write)

            def pause_writing(self) -> None:
                self.paused = True
                self.transport.write(b"in spite of that")

            def resume_writing(self) -> None:
                self.paused = False
                self.transport.write(b"more")

            def connection_lost(self, error: Exception | None) -> None:
                self.transport.write(b"too late")
                self.lost.set_result(None)

        async def client() -> None:
            nonlocal breaks
            for _ in range(10):
                _, protocol = await loop.create_connection(
                    Writing, *address, ssl=client_tls, server_hostname="localhost"
                )
                await protocol.lost
                breaks += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(client())
        server.close()
        await server.wait_closed()
        return breaks, problems

    assert run(main) == (40, [])
