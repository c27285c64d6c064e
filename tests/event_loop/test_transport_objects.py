"""Transports as Python objects: attributes of one's own, cycles, and being thrown away open."""

import asyncio
import gc
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest

import carboy

KINDS = ("stream", "datagram", "read pipe", "write pipe", "tls")


def run(main: Callable[[], Awaitable[Any]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    carboy.run(bounded())


class Protocol(asyncio.Protocol):
    """Notes its end."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@asynccontextmanager
async def made(
    kind: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> AsyncIterator[Any]:
    """Give an open transport, to which nobody else refers; and see to its peer."""
    loop = asyncio.get_running_loop()
    is_datagram = kind == "datagram"
    near, far = socket.socketpair(type=socket.SOCK_DGRAM if is_datagram else socket.SOCK_STREAM)
    with far:
        if kind == "stream":
            yield (await loop.connect_accepted_socket(Protocol, near))[0]
        elif kind == "datagram":
            yield (await loop.create_datagram_endpoint(Protocol, sock=near))[0]
        elif kind == "tls":
            serving = loop.connect_accepted_socket(Protocol, far.dup(), ssl=server_tls)
            options: Any = {"sock": near, "ssl": client_tls, "server_hostname": "localhost"}
            connecting = loop.create_connection(Protocol, **options)
            (served, _), (transport, _) = await asyncio.gather(serving, connecting)
            yield transport
            served.abort()
        else:
            near.close()
            numbers = os.pipe()
            reading, writing = os.fdopen(numbers[0], "rb"), os.fdopen(numbers[1], "wb")
            if kind == "read pipe":
                with writing:
                    yield (await loop.connect_read_pipe(Protocol, reading))[0]
            else:
                with reading:
                    yield (await loop.connect_write_pipe(Protocol, writing))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_can_be_set_and_methods_replaced(
    kind: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with made(kind, server_tls, client_tls) as transport:
            transport.name = "one's own"
            assert vars(transport) == {"name": "one's own"}
            with mock.patch.object(transport, "close") as close:
                transport.close()
            close.assert_called_once_with()
            assert not transport.is_closing()
            assert transport._closed is False if kind == "tls" else transport._closing is False
            transport.close()
            assert transport.is_closing()
            assert transport._closed is True if kind == "tls" else transport._closing is True

    run(main)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cycle_through_an_attribute_is_collected(
    kind: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with made(kind, server_tls, client_tls) as transport:
            protocol = transport.get_protocol() if kind != "write pipe" else None
            transport.itself = [transport]
            reference = weakref.ref(transport)
            transport.close() if kind != "tls" else transport.abort()
            if protocol is not None:
                await protocol.lost
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            del transport, protocol
        gc.collect()
        assert reference() is None

    run(main)


@pytest.mark.parametrize("kind", ["stream", "datagram", "read pipe"])
def test_one_that_is_thrown_away_in_a_cycle_warns_and_closes_its_file(kind: str) -> None:
    """Also the file is part of the cycle, which the collector takes apart in any order."""
    none = ssl.create_default_context()
    files: list[int] = []

    async def main() -> None:
        async with made(kind, none, none) as transport:
            file = transport.get_extra_info("pipe") if "pipe" in kind else transport._sock
            files.append(file.fileno())
            transport.file = file
            transport.itself = transport
            transport.pause_reading()
            del transport, file

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with mock.patch.object(sys, "unraisablehook") as unraisable:
            run(main)
            gc.collect()
    assert unraisable.mock_calls == []
    name = "ReadPipe" if "pipe" in kind else kind.title()
    # The file may come first, as with asyncio, and say the same of itself.
    (warning,) = [each for each in caught if "unclosed transport" in str(each.message)]
    assert str(warning.message).startswith(f"unclosed transport <{name}Transport fd={files[0]}")
    assert type(warning.source).__name__ == f"{name}Transport"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(files[0])


def test_none_is_looked_at_before_it_is_whole() -> None:
    """CPython 3.11 makes the dict of a new object first, and may collect garbage then."""
    program = """
        import asyncio, gc, os, socket
        import carboy

        async def main():
            loop = asyncio.get_running_loop()
            kept = []
            for number in range(60):
                kind = socket.SOCK_DGRAM if number % 2 else socket.SOCK_STREAM
                near, far = socket.socketpair(socket.AF_UNIX, kind)
                near.setblocking(False)
                reading, writing = os.pipe()
                files = open(reading, "rb"), open(writing, "wb")
                # No dict is left in the list of those that were freed.
                dicts = [{} for _ in range(200)]
                make = loop._make_datagram_transport if number % 2 else loop._make_socket_transport
                made = []
                gc.set_threshold(1)
                made.append(make(near, asyncio.Protocol()))
                made.append(loop._make_read_pipe_transport(files[0], asyncio.Protocol()))
                made.append(loop._make_write_pipe_transport(files[1], asyncio.Protocol()))
                gc.set_threshold(700)
                kept.append((made, far, dicts))
            assert gc.isenabled()
            await asyncio.sleep(0)
            for made, far, _ in kept:
                for transport in made:
                    transport.close()
                far.close()
            await asyncio.sleep(0)

        carboy.run(main())
        print("whole")
    """
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


class Methods:
    """A buffered protocol by its methods alone, as uvloop takes them."""

    def __init__(self) -> None:
        self.received = asyncio.get_running_loop().create_future()
        self.buffer = bytearray(100)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.received.set_result(bytes(self.buffer[:count]))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        pass


def test_a_protocol_with_the_methods_of_a_buffered_one_is_taken_for_one() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with far:
            make: Any = Methods
            transport, protocol = await loop.connect_accepted_socket(make, near)
            far.send(b"into the buffer")
            assert await protocol.received == b"into the buffer"
            transport.close()
            await asyncio.sleep(0)

    run(main)
