"""A protocol and pipes for tests of their transports."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, BinaryIO


class Recorder(asyncio.Protocol):
    """Notes what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.received = bytearray()
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

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received += data
        self.changed.set()

    def eof_received(self) -> None:
        self.note("eof")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(("lost", exc))

    def is_lost(self) -> bool:
        return any(event[0] == "lost" for event in self.events if isinstance(event, tuple))


def file(number: int, mode: str = "rb") -> Any:
    """Give a file for a transport, which closes it."""
    return os.fdopen(number, mode, 0)


def pipe() -> tuple[BinaryIO, BinaryIO]:
    reading, writing = os.pipe()
    return file(reading), file(writing, "wb")


async def read_end(reading: Any) -> Recorder:
    protocol = Recorder()
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, reading)
    return protocol


async def write_end(writing: Any) -> Recorder:
    protocol = Recorder()
    await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, writing)
    return protocol
