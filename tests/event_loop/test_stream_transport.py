"""The transport of a connection: reading, writing, flow control."""

import asyncio
import socket

import pytest
from support.bounded_run import run
from support.connections import connect, read_exactly
from support.recording import StreamRecorder

import carboy


def test_a_transport_is_one_of_asyncios() -> None:
    async def main() -> None:
        protocol = StreamRecorder()
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
        accepted: list[StreamRecorder] = []

        def factory() -> StreamRecorder:
            accepted.append(StreamRecorder())
            return accepted[-1]

        for host in ("127.0.0.1", "::1"):
            server = await loop.create_server(factory, host, 0)
            address = server.sockets[0].getsockname()
            client = StreamRecorder()
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
        protocol = StreamRecorder()
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
        protocol = StreamRecorder()
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
        protocol = StreamRecorder()
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
            protocol = StreamRecorder()
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
        protocol = StreamRecorder()
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
        protocol = StreamRecorder()
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
        protocol = StreamRecorder()
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


def test_a_reset_by_the_peer_is_given_to_connection_lost_alone() -> None:
    async def main() -> None:
        reported: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))
        listener = socket.create_server(("127.0.0.1", 0))
        protocol = StreamRecorder()
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
        protocol = StreamRecorder()
        transport, far = await connect(protocol)
        transport.abort()
        for _ in range(7):
            transport.write(b"x")
        await protocol.wait_for(protocol.is_lost)
        far.close()

    run(main)
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert set(messages) == {"socket.send() raised exception."}


def test_a_transports_descriptor_is_its_own() -> None:
    async def main() -> None:
        protocol = StreamRecorder()
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
