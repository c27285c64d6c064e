"""How transports of pipes end, and what is told of errors."""

import asyncio
import gc
import logging
import os
import socket
import warnings
from typing import Any, BinaryIO

import pytest
from support.bounded_run import run
from support.loop_turns import everything_was_looked_at
from support.pipes import Recorder, pipe, read_end, write_end


def test_close_writes_what_waits_and_abort_drops_it() -> None:
    async def main() -> None:
        for end, arrives in (("close", True), ("abort", False)):
            reading, writing = pipe()
            writer = await write_end(writing)
            writer.transport.write(b"x" * 1_000_000)
            left = writer.transport.get_write_buffer_size()
            getattr(writer.transport, end)()
            assert writer.transport.is_closing()
            writer.transport.close()
            reader = await read_end(reading)
            await reader.wait_for(reader.is_lost)
            await writer.wait_for(writer.is_lost)
            assert len(reader.received) == (1_000_000 if arrives else 1_000_000 - left)
            assert writer.events[-1] == ("lost", None)

    run(main)


def test_abort_after_close_ends_it_once() -> None:
    async def main() -> None:
        reading, writing = pipe()
        writer = await write_end(writing)
        writer.transport.write(b"x" * 1_000_000)
        writer.transport.close()
        writer.transport.abort()
        writer.transport.abort()
        await writer.wait_for(writer.is_lost)
        await everything_was_looked_at()
        assert writer.events == ["made", "pause", ("lost", None)]
        reading.close()

    run(main)


def test_the_writer_notices_that_the_reader_has_gone() -> None:
    async def main() -> None:
        reading, writing = pipe()
        writer = await write_end(writing)
        reading.close()
        await writer.wait_for(writer.is_lost)
        assert writer.events == ["made", ("lost", None)]

        reading, writing = pipe()
        writer = await write_end(writing)
        writer.transport.write(b"x" * 1_000_000)
        reading.close()
        await writer.wait_for(writer.is_lost)
        assert isinstance(writer.events[-1][1], BrokenPipeError)

        # Before the loop has had time to notice.
        reading, writing = pipe()
        writer = await write_end(writing)
        reading.close()
        writer.transport.write(b"x")
        await writer.wait_for(writer.is_lost)
        assert isinstance(writer.events[-1][1], BrokenPipeError)
        assert len([event for event in writer.events if event[0] == "lost"]) == 1

    run(main)


def test_writes_after_the_end_are_logged_from_the_fifth_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        reading, writing = pipe()
        writer = await write_end(writing)
        writer.transport.close()
        with caplog.at_level(logging.WARNING, logger="asyncio"):
            for _ in range(7):
                writer.transport.write(b"x")
        messages = [record.message for record in caplog.records]
        assert messages == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2
        await writer.wait_for(writer.is_lost)
        reading.close()

    run(main)


def test_a_failing_read_is_reported_and_ends_the_transport() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))
        server = socket.socket()
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = socket.create_connection(server.getsockname())
        near, _ = server.accept()
        reader = await read_end(near)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await reader.wait_for(reader.is_lost)
        assert isinstance(reader.events[-1][1], ConnectionResetError)
        assert [details["message"] for details in reported] == [
            "Fatal read error on pipe transport"
        ]
        server.close()

    run(main)


def test_what_a_protocol_raises_goes_to_the_exception_handler() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))

        class Failing(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                raise ZeroDivisionError

        reading, writing = pipe()
        protocol = Failing()
        await loop.connect_read_pipe(lambda: protocol, reading)
        os.write(writing.fileno(), b"x")
        await protocol.wait_for(lambda: protocol.received)
        await everything_was_looked_at()
        assert isinstance(reported[0]["exception"], ZeroDivisionError)
        assert not protocol.transport.is_closing()
        writing.close()
        await protocol.wait_for(protocol.is_lost)

    run(main)


def test_debug_mode_writes_down_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        reading, writing = pipe()
        reader, writer = await read_end(reading), await write_end(writing)
        reader.transport.pause_reading()
        reader.transport.resume_reading()
        writer.transport.close()
        await reader.wait_for(reader.is_lost)
        await writer.wait_for(writer.is_lost)

    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        run(main, debug=True)
    for what in ("pauses reading", "resumes reading", "was closed by peer"):
        assert what in caplog.text


def test_unclosed_transports_warn_and_close_their_files() -> None:
    files: list[BinaryIO] = []

    async def main() -> None:
        reading, writing = pipe()
        files.extend((reading, writing))
        await read_end(reading)
        await write_end(writing)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main)
        gc.collect()
    messages = [str(each.message) for each in caught]
    assert any("unclosed transport <ReadPipeTransport" in message for message in messages)
    assert any("unclosed transport <WritePipeTransport" in message for message in messages)
    assert all(each.closed for each in files)


def test_transports_can_be_closed_after_their_loop() -> None:
    transports: list[Any] = []

    async def main() -> None:
        reading, writing = pipe()
        transports.extend(
            ((await read_end(reading)).transport, (await write_end(writing)).transport)
        )

    run(main)
    for transport in transports:
        assert "open" in repr(transport)
        transport.close()
        assert transport.get_extra_info("pipe").closed


def test_nothing_is_left_of_many_pipes() -> None:
    async def main() -> None:
        async def once() -> None:
            reading, writing = pipe()
            reader, writer = await read_end(reading), await write_end(writing)
            writer.transport.write(b"x")
            writer.transport.close()
            await reader.wait_for(reader.is_lost)
            await writer.wait_for(writer.is_lost)

        await once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            await once()
        assert len(os.listdir("/proc/self/fd")) == before

    run(main)
