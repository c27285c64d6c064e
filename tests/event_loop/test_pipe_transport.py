"""Transports of pipes: reading, writing, flow control, and what counts as a pipe."""

import asyncio
import errno
import os
import pty
import socket
import subprocess
import sys
import tty
from pathlib import Path
from typing import Any

import pytest
from support.bounded_run import run
from support.loop_turns import everything_was_looked_at
from support.pipes import Recorder, file, pipe, read_end, write_end


def test_transports_are_what_asyncios_are() -> None:
    async def main() -> None:
        reading, writing = pipe()
        reader, writer = await read_end(reading), await write_end(writing)
        assert type(reader.transport).__name__ == "ReadPipeTransport"
        assert type(writer.transport).__name__ == "WritePipeTransport"
        kinds = (asyncio.BaseTransport, asyncio.ReadTransport, asyncio.WriteTransport)
        for transport, own in (
            (reader.transport, asyncio.unix_events._UnixReadPipeTransport),
            (writer.transport, asyncio.unix_events._UnixWritePipeTransport),
        ):
            for kind in (*kinds, asyncio.Transport, asyncio.DatagramTransport):
                assert isinstance(transport, kind) == issubclass(own, kind)
        assert reader.transport.get_extra_info("pipe") is reading
        assert writer.transport.get_extra_info("pipe") is writing
        assert writer.transport.get_extra_info("peername", "none") == "none"
        assert reader.transport.get_protocol() is reader
        assert writer.transport.can_write_eof()
        for method in ("pause_reading", "resume_reading"):
            with pytest.raises(NotImplementedError):
                getattr(writer.transport, method)()
        assert not os.get_blocking(reading.fileno())
        assert not os.get_blocking(writing.fileno())
        assert "polling" in repr(reader.transport)
        assert "idle bufsize=0" in repr(writer.transport)
        writer.transport.close()
        await writer.wait_for(writer.is_lost)
        await reader.wait_for(reader.is_lost)
        for protocol in (reader, writer):
            assert "closed" in repr(protocol.transport)
            assert protocol.transport.is_closing()
            assert protocol.transport.get_protocol() is None
        assert reading.closed
        assert writing.closed

    run(main)


def test_methods_can_be_replaced_as_those_of_asyncios() -> None:
    async def main() -> None:
        reading, writing = pipe()
        reader, writer = await read_end(reading), await write_end(writing)
        seen: list[str] = []
        for protocol in (reader, writer):
            protocol.transport.set_protocol = seen.append
            protocol.transport.set_protocol("called")
            protocol.transport.close()
            await protocol.wait_for(protocol.is_lost)
        assert seen == ["called", "called"]

    run(main)


def test_bytes_go_through_and_the_end_is_told() -> None:
    async def main() -> None:
        reading, writing = pipe()
        reader, writer = await read_end(reading), await write_end(writing)
        writer.transport.write(b"bytes ")
        writer.transport.write(bytearray(b"bytearray "))
        writer.transport.write(memoryview(b"memoryview "))
        writer.transport.write(b"")
        writer.transport.writelines([b"several ", b"pieces"])
        writer.transport.write_eof()
        writer.transport.write_eof()
        await reader.wait_for(reader.is_lost)
        assert reader.received == b"bytes bytearray memoryview several pieces"
        assert reader.events == ["made", "eof", ("lost", None)]
        await writer.wait_for(writer.is_lost)
        assert writer.events == ["made", ("lost", None)]
        with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
            writer.transport.write("text")

    run(main)


def test_more_than_the_pipe_takes_arrives_in_order() -> None:
    async def main() -> None:
        reading, writing = pipe()
        writer = await write_end(writing)
        data = os.urandom(1_000_000)
        changing = bytearray(data)
        writer.transport.write(changing)
        changing[:] = bytes(len(changing))
        writer.transport.write(b"behind it")
        assert writer.events == ["made", "pause"]
        assert 0 < writer.transport.get_write_buffer_size() < len(data) + 9
        assert "polling" in repr(writer.transport)
        reader = await read_end(reading)
        await reader.wait_for(lambda: len(reader.received) == len(data) + 9)
        assert reader.received == data + b"behind it"
        await writer.wait_for(lambda: "resume" in writer.events)
        assert writer.transport.get_write_buffer_size() == 0
        writer.transport.close()
        await reader.wait_for(reader.is_lost)
        await writer.wait_for(writer.is_lost)
        assert writer.events == ["made", "pause", "resume", ("lost", None)]

    run(main)


def test_limits_of_the_write_buffer() -> None:
    async def main() -> None:
        reading, writing = pipe()
        writer = await write_end(writing)
        transport = writer.transport
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=200_000)
        assert transport.get_write_buffer_limits() == (50_000, 200_000)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.write(b"x" * 150_000)
        assert writer.events == ["made"]
        transport.set_write_buffer_limits(high=0)
        assert writer.events == ["made", "pause"]
        transport.abort()
        await writer.wait_for(writer.is_lost)
        reading.close()

    run(main)


def test_pausing_and_resuming_what_is_read() -> None:
    async def main() -> None:
        reading, writing = pipe()
        reader = await read_end(reading)
        reader.transport.pause_reading()
        reader.transport.pause_reading()
        assert not reader.transport.is_reading()
        os.write(writing.fileno(), b"x")
        await everything_was_looked_at()
        assert not reader.received
        reader.transport.resume_reading()
        reader.transport.resume_reading()
        await reader.wait_for(lambda: reader.received)
        reader.transport.close()
        reader.transport.close()
        assert not reader.transport.is_reading()
        reader.transport.resume_reading()
        await reader.wait_for(reader.is_lost)
        assert reader.events == ["made", ("lost", None)]
        writing.close()

    run(main)


def test_a_protocol_may_pause_before_anything_is_read() -> None:
    async def main() -> None:
        class Paused(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.pause_reading()

        reading, writing = pipe()
        os.write(writing.fileno(), b"x")
        protocol = Paused()
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, reading)
        await everything_was_looked_at()
        assert not protocol.received
        protocol.transport.resume_reading()
        await protocol.wait_for(lambda: protocol.received)
        protocol.transport.close()
        await protocol.wait_for(protocol.is_lost)
        writing.close()

    run(main)


def test_fifos(tmp_path: Path) -> None:
    async def main() -> None:
        os.mkfifo(tmp_path / "fifo")
        reader = await read_end(file(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)))
        writer = await write_end(file(os.open(tmp_path / "fifo", os.O_WRONLY), "wb"))
        writer.transport.write(b"x")
        await reader.wait_for(lambda: reader.received)
        writer.transport.close()
        await reader.wait_for(reader.is_lost)
        await writer.wait_for(writer.is_lost)

    run(main)


def test_sockets() -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        reader, writer = await read_end(near), await write_end(far)
        writer.transport.write(b"x")
        await reader.wait_for(lambda: reader.received)
        reader.transport.close()
        await reader.wait_for(reader.is_lost)
        await writer.wait_for(writer.is_lost)
        assert writer.events == ["made", ("lost", None)]

    run(main)


def test_terminals() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))
        controller, terminal = pty.openpty()
        tty.setraw(terminal)
        reader = await read_end(file(controller))
        writer = await write_end(file(terminal, "wb"))
        writer.transport.write(b"x")
        await reader.wait_for(lambda: reader.received)
        writer.transport.close()
        await writer.wait_for(writer.is_lost)
        # The kernel calls the end of a terminal an error, but it is none.
        await reader.wait_for(reader.is_lost)
        assert reader.events[-1][1].errno == errno.EIO
        assert not reported

    run(main)


def test_regular_files_are_refused_and_left_open(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "file").write_bytes(b"x")
        with (tmp_path / "file").open("r+b") as regular:
            with pytest.raises(ValueError, match="Pipe transport is for pipes/sockets only"):
                await read_end(regular)
            with pytest.raises(ValueError, match="Pipe transport is only for pipes, sockets and"):
                await write_end(regular)
            assert regular.read() == b"x"
            assert os.get_blocking(regular.fileno())

    run(main)


def test_watching_a_descriptor_leaves_its_flags_alone() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading, writing = pipe()
        loop.add_reader(reading, print)
        loop.add_writer(writing, writing.close)
        await everything_was_looked_at()
        loop.remove_reader(reading)
        assert os.get_blocking(reading.fileno())
        assert writing.closed
        reading.close()

    run(main)


def test_standard_streams_of_a_program() -> None:
    program = """
import asyncio, sys, carboy

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    mixin = asyncio.streams.FlowControlMixin
    transport, protocol = await loop.connect_write_pipe(mixin, sys.stdout)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()

carboy.run(main())
"""

    lines = b"".join(b"line %d\n" % number for number in range(20_000))
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        input=lines,
        stdout=subprocess.PIPE,
        timeout=20,
        check=True,
    )
    assert result.stdout == lines.upper()
