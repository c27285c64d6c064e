"""A protocol and pipes for tests of their transports."""

import asyncio
import os
from typing import Any, BinaryIO

from support.recording import StreamRecorder


class Recorder(StreamRecorder):
    """Of a pipe: how it cuts its bytes does not matter, so that is not noted."""

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received += data
        self.changed.set()


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
