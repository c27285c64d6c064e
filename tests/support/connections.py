"""A protocol and a connection for tests of transports."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any


class Recorder(asyncio.Protocol):
    """Notes what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.received = bytearray()
        self.transport: Any = None
        self.changed = asyncio.Event()
        self.keep_open = False

    def note(self, event: Any) -> None:
        self.events.append(event)
        self.changed.set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.changed.wait()
            self.changed.clear()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received += data
        self.note("data")

    def eof_received(self) -> bool:
        self.note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(("lost", exc))

    def is_lost(self) -> bool:
        return any(event[0] == "lost" for event in self.events if isinstance(event, tuple))


async def connect(protocol: asyncio.BaseProtocol) -> tuple[Any, socket.socket]:
    """Give a transport with this protocol, and the socket at the other end."""
    near, far = socket.socketpair()
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    return transport, far


async def read_exactly(far: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await asyncio.get_running_loop().sock_recv(far, count - len(data))
        assert part, "the connection ended too early"
        data += part
    return data
