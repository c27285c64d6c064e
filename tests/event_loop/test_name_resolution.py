"""Looking up hosts: numbers at once, names on a thread, several addresses side by side."""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import carboy


def run(main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    carboy.run(bounded(), debug=debug)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a thread was asked")

    monkeypatch.setattr(carboy.EventLoop, "run_in_executor", refuse)


@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1", 80),
        ("::1", 80),
        ("fe80::1", None),
        ("10.0.0.1", "443"),
        ("10.0.0.1", b"443"),
        ("::ffff:1.2.3.4", 0),
    ],
)
def test_numbers_are_answered_at_once_and_as_the_system_does(host: str, port: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for hints in ({}, {"type": socket.SOCK_STREAM}, {"type": socket.SOCK_DGRAM, "proto": 17}):
            found = await loop.getaddrinfo(host, port, **hints)
            assert found == socket.getaddrinfo(host, port, **hints)

    run(main)


@pytest.mark.usefixtures("no_threads")
def test_a_number_that_does_not_fit_is_refused_as_the_system_does() -> None:
    async def main() -> None:
        with pytest.raises(socket.gaierror):
            await asyncio.get_running_loop().getaddrinfo("::1", 80, family=socket.AF_INET)

    run(main)


def test_names_are_looked_up_on_a_thread() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        hosts: list[tuple[Any, Any]] = [
            ("localhost", 80),
            (None, 80),
            ("127.1", 80),
            ("127.0.0.1", "http"),
        ]
        asked: list[Any] = []
        original = loop.run_in_executor

        def note(executor: Any, function: Any, *arguments: Any) -> Any:
            asked.append(arguments)
            return original(executor, function, *arguments)

        loop.run_in_executor = note  # type: ignore[method-assign]
        hints = {"type": socket.SOCK_STREAM}
        for count, (host, port) in enumerate(hosts, 1):
            found = await loop.getaddrinfo(host, port, **hints)
            assert found == socket.getaddrinfo(host, port, **hints)
            assert len(asked) == count
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("host.invalid", 80)

    run(main)


def test_names_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        numbers = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        by_thread = await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
        assert by_thread == socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
        loop.run_in_executor = None  # type: ignore[assignment, method-assign]
        assert await loop.getnameinfo(("127.0.0.1", 80), numbers) == ("127.0.0.1", "80")
        assert await loop.getnameinfo(("::1", 80, 0, 0), numbers) == ("::1", "80")

    run(main)


def address(sock: socket.socket) -> tuple[Any, ...]:
    name = sock.getsockname()
    return (sock.family, socket.SOCK_STREAM, 6, "", name)


def refused_address(host: str) -> tuple[Any, ...]:
    """Give an address that nobody listens at."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as sock:
        return address(sock)


def test_happy_eyeballs_takes_the_first_address_that_answers() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        # Attempts at an address whose queue is full stay in progress.
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        blockers = []
        while True:
            blocker = socket.socket()
            blocker.setblocking(False)
            blockers.append(blocker)
            connecting = asyncio.create_task(loop.sock_connect(blocker, full.getsockname()))
            if not (await asyncio.wait([connecting], timeout=0.2))[0]:
                connecting.cancel()
                break
        await asyncio.wait([connecting])

        async def resolve(*_: object, **__: object) -> list[Any]:
            return [address(full), address(server.sockets[0])]

        loop._ensure_resolved = resolve
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "a name", 80, happy_eyeballs_delay=0.01
        )
        assert transport.get_extra_info("peername") == server.sockets[0].getsockname()
        transport.close()
        server.close()
        await server.wait_closed()
        for sock in (full, *blockers):
            sock.close()

    run(main)


def test_the_errors_of_all_addresses_can_be_asked_for() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def resolve(*_: object, **__: object) -> list[Any]:
            return [refused_address("127.0.0.1"), refused_address("::1")]

        loop._ensure_resolved = resolve
        with pytest.raises(OSError, match="Multiple exceptions"):
            await loop.create_connection(asyncio.Protocol, "a name", 80)
        if sys.version_info >= (3, 12):
            with pytest.raises(ExceptionGroup) as caught:
                await loop.create_connection(asyncio.Protocol, "a name", 80, all_errors=True)
            assert [type(error) for error in caught.value.exceptions] == [
                ConnectionRefusedError
            ] * 2

    run(main)
