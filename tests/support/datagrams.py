"""Protocols and endpoints for tests of datagrams."""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import carboy

#: asyncio sends empty datagrams, and counts a header for each that waits, since this version.
SENDS_EMPTY = sys.version_info >= (3, 13)


class Recorder(asyncio.DatagramProtocol):
    """Notes what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.transport: Any = None
        self.changed = asyncio.Event()

    def note(self, event: Any) -> None:
        self.events.append(event)
        self.changed.set()

    async def wait_for(self, condition: Callable[[], Any]) -> None:
        while not condition():
            await self.changed.wait()
            self.changed.clear()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.received.append((data, addr))
        self.note("datagram")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(("lost", exc))

    def is_lost(self) -> bool:
        return any(event[0] == "lost" for event in self.events if isinstance(event, tuple))


class Echo(Recorder):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def endpoint(protocol: Recorder, **options: Any) -> Any:
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(lambda: protocol, **options)
    assert made is protocol
    return transport


async def close(*protocols: Recorder) -> None:
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        await protocol.wait_for(protocol.is_lost)


def fill(sock: socket.socket, size: int) -> int:
    """Send until the socket takes nothing more, and say how many datagrams that were."""
    count = 0
    while True:
        try:
            sock.send(b"x" * size)
        except BlockingIOError:
            return count
        count += 1


def native(transport: Any) -> bool:
    return type(transport) is carboy._carboy.DatagramTransport
