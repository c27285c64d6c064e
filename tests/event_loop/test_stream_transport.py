"""The transport of a connection: reading, writing, flow control."""

import asyncio
import contextvars
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import carboy


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


def run(main: Callable[[], Awaitable[Any]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    carboy.run(bounded())


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


def test_a_transport_is_one_of_asyncios() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, far = await connect(protocol)
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.transports._FlowControlMixin)
        assert not isinstance(transport, asyncio.DatagramTransport)
        assert type(transport) is carboy._carboy.StreamTransport
        assert transport.get_protocol() is protocol
        assert transport.can_write_eof()
        assert transport.get_extra_info("socket").family is socket.AF_UNIX
        assert transport.get_extra_info("socket") is transport.get_extra_info("socket")
        assert transport.get_extra_info("sockname") == ""
        assert transport.get_extra_info("nothing of this name", 5) == 5
        assert "read=polling write=<idle, bufsize=0>" in repr(transport)
        transport.close()
        await protocol.wait_for(protocol.is_lost)
        assert "closed" in repr(transport)
        assert transport.get_extra_info("socket").fileno() == -1
        far.close()

    run(main)


def test_addresses_are_those_of_the_socket() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted: list[Recorder] = []

        def factory() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        for host in ("127.0.0.1", "::1"):
            server = await loop.create_server(factory, host, 0)
            address = server.sockets[0].getsockname()
            client = Recorder()
            transport, _ = await loop.create_connection(lambda it=client: it, *address[:2])
            transport.write(b"x")
            await client.wait_for(lambda: bool(accepted))
            served = accepted.pop()
            await served.wait_for(lambda it=served: bool(it.received))
            assert transport.get_extra_info("peername") == address
            assert served.transport.get_extra_info("sockname") == address
            assert served.transport.get_extra_info("peername") == transport.get_extra_info(
                "sockname"
            )
            near = served.transport.get_extra_info("socket")
            assert near.getpeername() == transport.get_extra_info("sockname")
            assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.close()
            await served.wait_for(served.is_lost)
            assert served.transport.get_extra_info("sockname") == address
            server.close()
            await server.wait_closed()

    run(main)


def test_the_order_of_a_connections_events() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, far = await connect(protocol)
        # The waiter of create_connection comes after connection_made.
        assert protocol.events == ["made"]
        far.send(b"one")
        await protocol.wait_for(lambda: bytes(protocol.received) == b"one")
        far.close()
        await protocol.wait_for(protocol.is_lost)
        assert protocol.events == ["made", "data", "eof", ("lost", None)]
        assert transport.is_closing()
        assert transport.get_protocol() is None
        # Nothing that is done afterwards has an effect, or fails.
        transport.close()
        transport.abort()
        transport.pause_reading()
        transport.resume_reading()
        transport.write(b"into the void")
        assert protocol.events[-1] == ("lost", None)

    run(main)


def test_half_closed_in_either_direction() -> None:
    async def main() -> None:
        protocol = Recorder()
        protocol.keep_open = True
        transport, far = await connect(protocol)
        far.shutdown(socket.SHUT_WR)
        await protocol.wait_for(lambda: "eof" in protocol.events)
        transport.write(b"still here")
        assert await read_exactly(far, 10) == b"still here"
        assert not transport.is_closing()
        transport.write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match=r"Cannot call writelines\(\) after write_eof"):
            transport.writelines([b"x"])
        assert await asyncio.get_running_loop().sock_recv(far, 1) == b""
        transport.close()
        await protocol.wait_for(protocol.is_lost)
        far.close()

    run(main)


def test_flow_control() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, far = await connect(protocol)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\)"):
            transport.set_write_buffer_limits(high=1, low=2)
        data = bytes(range(256)) * 8192
        transport.write(data)
        left = transport.get_write_buffer_size()
        assert 1000 < left < len(data)
        assert protocol.events == ["made", "pause"]
        transport.write(b"end")
        assert transport.get_write_buffer_size() == left + 3
        assert protocol.events == ["made", "pause"]
        assert await read_exactly(far, len(data) + 3) == data + b"end"
        await protocol.wait_for(lambda: "resume" in protocol.events)
        assert protocol.events == ["made", "pause", "resume"]
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.wait_for(protocol.is_lost)
        far.close()

    run(main)


def test_close_writes_everything_and_abort_drops_it() -> None:
    async def main() -> None:
        data = bytes(1_000_000)
        for method in ("close", "abort", "write_eof"):
            protocol = Recorder()
            transport, far = await connect(protocol)
            transport.write(data)
            assert transport.get_write_buffer_size()
            getattr(transport, method)()
            if method == "abort":
                assert transport.get_write_buffer_size() == 0
                await protocol.wait_for(protocol.is_lost)
            else:
                assert await read_exactly(far, len(data)) == data
                assert await asyncio.get_running_loop().sock_recv(far, 1) == b""
                transport.close()
                await protocol.wait_for(protocol.is_lost)
            assert protocol.events[-1] == ("lost", None)
            far.close()

    run(main)


def test_what_is_written_later_follows_and_what_changes_later_is_not_seen() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, far = await connect(protocol)
        changing = bytearray(b"a" * 500_000)
        view = memoryview(bytes(range(100)))
        transport.write(changing)
        transport.write(view[10:20])
        transport.writelines([b"b" * 300_000, bytearray(b"c"), b"", view[:2]])
        assert transport.get_write_buffer_size() > 300_000
        changing[:] = b"x" * len(changing)
        expected = b"a" * 500_000 + bytes(range(10, 20)) + b"b" * 300_000 + b"c\0\1"
        assert await read_exactly(far, len(expected)) == expected
        transport.writelines(iter([b"d", memoryview(b"e")]))
        transport.write(b"")
        assert await read_exactly(far, 2) == b"de"
        for wrong in ("text", 5, None):
            with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
                transport.write(wrong)
        transport.abort()
        await protocol.wait_for(protocol.is_lost)
        far.close()

    run(main)


def test_pausing_and_resuming_reading() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, far = await connect(protocol)
        loop = asyncio.get_running_loop()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        far.send(b"held back")
        # A turn of the loop that sees another descriptor has looked at this one, too.
        one, other = socket.socketpair()
        one.setblocking(False)
        other.send(b"x")
        assert await loop.sock_recv(one, 1) == b"x"
        assert not protocol.received
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.wait_for(lambda: bytes(protocol.received) == b"held back")
        transport.close()
        assert not transport.is_reading()
        await protocol.wait_for(protocol.is_lost)
        for each in (far, one, other):
            each.close()

    run(main)


def test_reads_of_any_size_arrive_whole() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, far = await connect(protocol)
        loop = asyncio.get_running_loop()
        expected = b""
        for size in (1, 100, 16_384, 1, 70_000, 300_000, 2, 1_000_000, 5):
            data = bytes([size % 251]) * size
            expected += data
            await loop.sock_sendall(far, data)
        await protocol.wait_for(lambda: len(protocol.received) == len(expected))
        assert protocol.received == expected
        transport.close()
        await protocol.wait_for(protocol.is_lost)
        far.close()

    run(main)


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
    class Failing(Recorder):
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
    class Failing(Recorder):
        pass

    def fail(self: Recorder) -> None:
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
    class Interrupted(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise KeyboardInterrupt

    loop = carboy.new_event_loop()
    near, far = socket.socketpair()
    protocol: Recorder = loop.run_until_complete(_made(Interrupted))
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


def test_a_reset_by_the_peer_is_given_to_connection_lost_alone() -> None:
    async def main() -> None:
        reported: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))
        listener = socket.create_server(("127.0.0.1", 0))
        protocol = Recorder()
        connecting = loop.create_connection(lambda: protocol, *listener.getsockname())
        transport, _ = await connecting
        far, _ = listener.accept()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        await protocol.wait_for(protocol.is_lost)
        _, error = protocol.events[-1]
        assert type(error) is ConnectionResetError
        assert error.errno is not None
        assert not reported
        assert transport.is_closing()
        listener.close()

    run(main)


def test_writes_on_a_lost_connection_are_logged_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, far = await connect(protocol)
        transport.abort()
        for _ in range(7):
            transport.write(b"x")
        await protocol.wait_for(protocol.is_lost)
        far.close()

    run(main)
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert set(messages) == {"socket.send() raised exception."}


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_methods_of_a_protocol_run_in_the_context_of_who_made_the_connection() -> None:
    class Observer(Recorder):
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


def test_a_transports_descriptor_is_its_own() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, far = await connect(protocol)
        loop = asyncio.get_running_loop()
        number = transport.get_extra_info("socket").fileno()
        with pytest.raises(RuntimeError, match=f"{number} is used by transport <StreamTransport"):
            loop.add_reader(number, print)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.remove_writer(transport.get_extra_info("socket"))
        transport.close()
        await protocol.wait_for(protocol.is_lost)
        far.close()

    run(main)


def test_set_protocol_changes_who_is_told() -> None:
    async def main() -> None:
        first = Recorder()
        transport, far = await connect(first)
        second = Buffered(bytearray(100))
        transport.set_protocol(second)
        far.send(b"data")
        far.close()
        assert await second.lost is None
        assert second.received == b"data"
        assert first.events == ["made"]

    run(main)


def test_an_unclosed_transport_is_warned_about_and_closed() -> None:
    near, far = socket.socketpair()
    loop = carboy.new_event_loop()
    coroutine = loop.create_connection(asyncio.Protocol, sock=near)
    transport, protocol = loop.run_until_complete(coroutine)
    number = near.fileno()
    transport.pause_reading()
    del near, coroutine
    with pytest.warns(ResourceWarning, match=f"unclosed transport <StreamTransport fd={number}"):
        del transport, protocol
    assert far.recv(1) == b"", "it was not closed"
    far.close()
    loop.close()
