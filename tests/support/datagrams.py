"""Protocols and endpoints for tests of datagrams."""

import asyncio
import socket
import sys
from typing import Any

import carboy
from support.recording import Recording

#: asyncio sends empty datagrams, and counts a header for each that waits, since this version.
SENDS_EMPTY = sys.version_info >= (3, 13)


class Recorder(Recording, asyncio.DatagramProtocol):
    """Of an endpoint of datagrams."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.received.append((data, addr))
        self.note("datagram")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error")


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
