"""What the transport of a connection calls its protocol for, and what it makes of errors."""

import asyncio
import contextvars
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.bounded_run import run
from support.connections import connect, read_exactly
from support.recording import StreamRecorder

import carboy


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.received = b""
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> Any:
        assert sizehint == -1
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += bytes(memoryview(self.buffer)[:nbytes])

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def test_a_buffered_protocol_is_read_into() -> None:
    async def main() -> None:
        for buffer in (bytearray(3), memoryview(bytearray(100))[5:20]):
            protocol = Buffered(buffer)
            _transport, far = await connect(protocol)
            far.send(b"0123456789")
            far.close()
            assert await protocol.lost is None
            assert protocol.received == b"0123456789"

    run(main)


@pytest.mark.parametrize(
    ("buffer", "expected"),
    [
        (b"read-only", TypeError),
        (bytearray(), RuntimeError),
        (memoryview(bytearray(9))[::2], BufferError),
        (5, TypeError),
    ],
)
def test_a_buffer_that_can_not_be_used_ends_the_connection(
    buffer: Any, expected: type[Exception]
) -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))
        protocol = Buffered(buffer)
        transport, far = await connect(protocol)
        far.send(b"data")
        assert type(await protocol.lost) is expected
        (details,) = reported
        assert details["transport"] is transport
        assert details["protocol"] is protocol
        far.close()

    run(main)


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_an_error_of_the_protocol_is_reported_and_ends_the_connection(method: str) -> None:
    class Failing(StreamRecorder):
        pass

    error = ValueError("a mistake")

    def fail(self: Any, *_: object) -> None:
        raise error

    setattr(Failing, method, fail)

    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))
        protocol = Failing()
        transport, far = await connect(protocol)
        far.send(b"data")
        far.shutdown(socket.SHUT_WR)
        await protocol.wait_for(protocol.is_lost)
        assert protocol.events[-1] == ("lost", error)
        (details,) = reported
        assert details["message"] == f"Fatal error: protocol.{method}() call failed."
        assert details["exception"] is error
        assert details["transport"] is transport
        far.close()

    run(main)


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_an_error_in_flow_control_is_reported_and_the_connection_goes_on(method: str) -> None:
    class Failing(StreamRecorder):
        pass

    def fail(self: StreamRecorder) -> None:
        self.note(method)
        raise ValueError("a mistake")

    setattr(Failing, method, fail)

    async def main() -> None:
        reported: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details["message"]))
        protocol = Failing()
        transport, far = await connect(protocol)
        transport.write(bytes(1_000_000))
        await read_exactly(far, 1_000_000)
        await protocol.wait_for(lambda: bool(reported))
        assert reported == [f"protocol.{method}() failed"]
        assert not transport.is_closing()
        transport.close()
        await protocol.wait_for(protocol.is_lost)
        far.close()

    run(main)


def test_what_ends_a_program_leaves_the_loop_from_a_protocol() -> None:
    class Interrupted(StreamRecorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise KeyboardInterrupt

    loop = carboy.new_event_loop()
    near, far = socket.socketpair()
    protocol: StreamRecorder = loop.run_until_complete(_made(Interrupted))
    transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
    far.send(b"data")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    # The loop and the connection can still be used.
    transport.close()
    loop.run_until_complete(protocol.wait_for(protocol.is_lost))
    loop.close()
    far.close()


async def _made(factory: Callable[[], Any]) -> Any:
    return factory()


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_methods_of_a_protocol_run_in_the_context_of_who_made_the_connection() -> None:
    class Observer(StreamRecorder):
        def note(self, event: Any) -> None:
            super().note((event, variable.get()))

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            variable.set("of data_received")

        def is_lost(self) -> bool:
            return any(event[0] == ("lost", None) for event in self.events)

    async def main() -> None:
        protocol = Observer()
        variable.set("at the making")
        transport, far = await connect(protocol)
        variable.set("later")
        for count in (1, 2):
            far.send(b"x")
            await protocol.wait_for(lambda count=count: len(protocol.received) == count)
        transport.pause_reading()
        transport.resume_reading()
        far.send(b"x")
        await protocol.wait_for(lambda: len(protocol.received) == 3)
        variable.set("at the end")
        transport.close()
        await protocol.wait_for(protocol.is_lost)
        assert protocol.events == [
            ("made", "at the making"),
            ("data", "at the making"),
            # One context for all reads, in which variables stay.
            ("data", "of data_received"),
            ("data", "later"),
            (("lost", None), "at the end"),
        ]
        assert variable.get() == "at the end"
        far.close()

    run(main)


def test_set_protocol_changes_who_is_told() -> None:
    async def main() -> None:
        first = StreamRecorder()
        transport, far = await connect(first)
        second = Buffered(bytearray(100))
        transport.set_protocol(second)
        far.send(b"data")
        far.close()
        assert await second.lost is None
        assert second.received == b"data"
        assert first.events == ["made"]

    run(main)
