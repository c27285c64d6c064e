"""Protocols that note what they are told, and let a test wait for it."""

import asyncio
from collections.abc import Callable
from typing import Any


class Recording(asyncio.BaseProtocol):
    """What the recorders of all transports have in common."""

    def __init__(self) -> None:
        self.events: list[Any] = []
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

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(("lost", exc))

    def is_lost(self) -> bool:
        return any(event[0] == "lost" for event in self.events if isinstance(event, tuple))


class StreamRecorder(Recording, asyncio.Protocol):
    """Of a transport of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.received = bytearray()
        self.keep_open = False

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received += data
        self.note("data")

    def eof_received(self) -> bool:
        self.note("eof")
        return self.keep_open
