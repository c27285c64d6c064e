"""The transport of a datagram socket: UDP and unix, connected and not, and its flow control."""

import asyncio
import contextvars
import errno
import gc
import itertools
import logging
import os
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.loop_turns import everything_was_looked_at

import carboy

#: asyncio sends empty datagrams, and counts a header for each that waits, since this version.
SENDS_EMPTY = sys.version_info >= (3, 13)


class Recorder(asyncio.DatagramProtocol):
    """Notes what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
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

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.received.append((data, addr))
        self.note("datagram")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(("lost", exc))

    def is_lost(self) -> bool:
        return any(event[0] == "lost" for event in self.events if isinstance(event, tuple))


class Echo(Recorder):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


def run(main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    carboy.run(bounded(), debug=debug)


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


def test_a_transport_is_exactly_what_asyncios_is() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport = await endpoint(protocol, local_addr=("127.0.0.1", 0))
        assert native(transport)
        own = asyncio.selector_events._SelectorDatagramTransport
        for kind in (asyncio.DatagramTransport, asyncio.Transport, asyncio.BaseTransport):
            assert isinstance(transport, kind) == issubclass(own, kind)
        assert transport.get_protocol() is protocol
        assert transport.get_extra_info("socket").type is socket.SOCK_DGRAM
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("nothing of this name", 5) == 5
        assert "read=polling write=<idle, bufsize=0>" in repr(transport)
        await close(protocol)
        assert "closed" in repr(transport)
        assert transport.get_extra_info("socket").fileno() == -1
        assert transport.is_closing()
        assert transport.get_protocol() is None

    run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_go_back_and_forth(host: str) -> None:
    async def main() -> None:
        server, connected, free = Echo(), Recorder(), Recorder()
        transport = await endpoint(server, local_addr=(host, 0))
        address = transport.get_extra_info("sockname")
        one = await endpoint(connected, remote_addr=address[:2])
        other = await endpoint(free, local_addr=(host, 0))
        assert one.get_extra_info("peername") == address
        for message in (b"small", bytearray(b"x" * 9000), memoryview(b"view")):
            one.sendto(message)
            one.sendto(message, address)
            other.sendto(message, address)
        await connected.wait_for(lambda: len(connected.received) == 6)
        await free.wait_for(lambda: len(free.received) == 3)
        assert [data for data, _ in free.received] == [b"small", b"x" * 9000, b"view"]
        assert {sender for _, sender in connected.received + free.received} == {address}
        senders = {sender for _, sender in server.received}
        assert senders == {
            one.get_extra_info("sockname"),
            other.get_extra_info("sockname"),
        }
        await close(server, connected, free)

    run(main)


def test_unix_datagrams(tmp_path: Path) -> None:
    async def main() -> None:
        here, there = str(tmp_path / "here"), str(tmp_path / "there")
        server, client, nameless = Echo(), Recorder(), Recorder()
        await endpoint(server, family=socket.AF_UNIX, local_addr=here)
        transport = await endpoint(client, family=socket.AF_UNIX, local_addr=there)
        transport.sendto(b"to a path", here)
        transport.sendto(b"to bytes", os.fsencode(here))
        await client.wait_for(lambda: len(client.received) == 2)
        assert client.received == [(b"to a path", here), (b"to bytes", here)]

        one_way = await endpoint(nameless, family=socket.AF_UNIX, remote_addr=here)
        server.transport.set_protocol(recorder := Recorder())
        one_way.sendto(b"from nowhere")
        await recorder.wait_for(lambda: recorder.received)
        assert recorder.received == [(b"from nowhere", None)]
        recorder.transport = server.transport
        await close(recorder, client, nameless)

    run(main)


def test_abstract_unix_addresses() -> None:
    async def main() -> None:
        name = f"\0carboy-test-{os.getpid()}"
        server, client = Recorder(), Recorder()
        await endpoint(server, family=socket.AF_UNIX, local_addr=name)
        transport = await endpoint(client, family=socket.AF_UNIX, local_addr=name + "-client")
        transport.sendto(b"x", name)
        await server.wait_for(lambda: server.received)
        assert server.received == [(b"x", (name + "-client").encode())]
        await close(server, client)

    run(main)


def test_where_datagrams_may_go() -> None:
    async def main() -> None:
        server, client = Recorder(), Recorder()
        address = (await endpoint(server, local_addr=("127.0.0.1", 0))).get_extra_info("sockname")
        transport = await endpoint(client, remote_addr=address)
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            transport.sendto(b"x", ("127.0.0.1", 1))
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not 'str'"):
            transport.sendto("text")
        assert not client.errors
        await close(server, client)

    run(main)


def test_a_socket_without_a_peer_needs_an_address() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))
        protocol = Recorder()
        transport = await endpoint(protocol, local_addr=("127.0.0.1", 0))
        transport.sendto(b"where to?")
        await protocol.wait_for(protocol.is_lost)
        assert reported[0]["message"] == "Fatal write error on datagram transport"
        assert isinstance(reported[0]["exception"], TypeError)
        assert protocol.events == ["made", ("lost", reported[0]["exception"])]

    run(main)


def test_a_hosts_name_is_looked_up_as_pythons_socket_does() -> None:
    async def main() -> None:
        server, client = Recorder(), Recorder()
        transport = await endpoint(server, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        sender = await endpoint(client, local_addr=("127.0.0.1", 0))
        sender.sendto(b"by name", ("localhost", port))
        sender.sendto(b"no such port", ("127.0.0.1", 65536))
        await server.wait_for(lambda: server.received)
        assert server.received[0][0] == b"by name"
        await client.wait_for(client.is_lost)
        assert isinstance(client.events[-1][1], OverflowError)
        await close(server)

    def ignore(_: object, details: dict[str, Any]) -> None:
        assert isinstance(details["exception"], OverflowError)

    async def handled() -> None:
        asyncio.get_running_loop().set_exception_handler(ignore)
        await main()

    run(handled)


def test_broadcast_needs_permission() -> None:
    async def main() -> None:
        refused, allowed = Recorder(), Recorder()
        transport = await endpoint(refused, local_addr=("127.0.0.1", 0))
        transport.sendto(b"x", ("255.255.255.255", 9))
        await refused.wait_for(lambda: refused.errors)
        assert isinstance(refused.errors[0], PermissionError)
        transport = await endpoint(
            allowed, remote_addr=("255.255.255.255", 9), allow_broadcast=True
        )
        # Not connected: answers may come from anywhere.
        assert transport.get_extra_info("peername") is None
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        with pytest.raises(ValueError, match="Invalid address"):
            transport.sendto(b"x", ("127.0.0.1", 9))
        transport.sendto(b"x")
        assert not any(isinstance(error, PermissionError) for error in allowed.errors)
        await close(refused, allowed)

    run(main)


def test_several_sockets_can_have_one_port() -> None:
    async def main() -> None:
        first, second, alone = Recorder(), Recorder(), Recorder()
        transport = await endpoint(first, local_addr=("127.0.0.1", 0), reuse_port=True)
        address = transport.get_extra_info("sockname")
        await endpoint(second, local_addr=address, reuse_port=True)
        with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
            await endpoint(alone, local_addr=address)
        await close(first, second)

    run(main)


def test_a_refused_datagram_is_an_error_and_not_the_end() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            address = closed.getsockname()
        protocol = Recorder()
        transport = await endpoint(protocol, remote_addr=address)
        for count in (1, 2):
            transport.sendto(b"x")
            await protocol.wait_for(lambda count=count: len(protocol.errors) == count)
        assert all(isinstance(error, ConnectionRefusedError) for error in protocol.errors)
        assert not transport.is_closing()
        transport.sendto(b"x" * 70_000)
        assert protocol.errors[-1].errno in {errno.EMSGSIZE, errno.ECONNREFUSED}
        await close(protocol)

    run(main)


def test_a_datagram_that_is_too_long_is_an_error_and_not_the_end() -> None:
    async def main() -> None:
        server, client = Recorder(), Recorder()
        address = (await endpoint(server, local_addr=("127.0.0.1", 0))).get_extra_info("sockname")
        transport = await endpoint(client, remote_addr=address)
        transport.sendto(b"x" * 70_000)
        assert [error.errno for error in client.errors] == [errno.EMSGSIZE]
        transport.sendto(b"y")
        await server.wait_for(lambda: server.received)
        assert server.received[0][0] == b"y"
        await close(server, client)

    run(main)


def test_empty_datagrams() -> None:
    async def main() -> None:
        server, client = Recorder(), Recorder()
        address = (await endpoint(server, local_addr=("127.0.0.1", 0))).get_extra_info("sockname")
        transport = await endpoint(client, remote_addr=address)
        transport.sendto(b"")
        transport.sendto(b"next")
        await server.wait_for(lambda: any(data == b"next" for data, _ in server.received))
        received = [data for data, _ in server.received]
        assert received == ([b"", b"next"] if SENDS_EMPTY else [b"next"])
        # One that arrives is passed on by every version.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            sock.send(b"")
            await server.wait_for(lambda: (b"", sock.getsockname()) in server.received)
        await close(server, client)

    run(main)


async def connected_pair(protocol: Recorder, directory: Path) -> tuple[Any, socket.socket]:
    """Give a transport and the blocking peer that its datagrams wait for."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.bind(str(directory / "peer"))
    transport = await endpoint(protocol, family=socket.AF_UNIX, remote_addr=str(directory / "peer"))
    return transport, peer


def test_flow_control(tmp_path: Path) -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, peer = await connected_pair(protocol, tmp_path)
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=3000, low=1000)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        sent = fill(transport.get_extra_info("socket")._sock, 1000)
        header = 8 if SENDS_EMPTY else 0
        changing = bytearray(b"0" * 1000)
        for number in range(4):
            changing[:1] = b"%d" % number
            transport.sendto(changing)
            assert transport.get_write_buffer_size() == (number + 1) * (1000 + header)
        assert protocol.events == ["made", "pause"]
        assert "write=<polling" in repr(transport)
        for _ in range(sent):
            assert peer.recv(2000) == b"x" * 1000
        await protocol.wait_for(lambda: "resume" in protocol.events)
        assert protocol.events == ["made", "pause", "resume"]
        for number in range(4):
            data = await asyncio.get_running_loop().run_in_executor(None, peer.recv, 2000)
            assert data == b"%d" % number + b"0" * 999
        assert transport.get_write_buffer_size() == 0
        assert "write=<idle" in repr(transport)
        await close(protocol)
        peer.close()

    run(main)


def test_close_sends_what_waits_and_abort_drops_it(tmp_path: Path) -> None:
    async def main() -> None:
        for end in ("close", "abort"):
            directory = tmp_path / end
            directory.mkdir()
            protocol = Recorder()
            transport, peer = await connected_pair(protocol, directory)
            sent = fill(transport.get_extra_info("socket")._sock, 1000)
            transport.sendto(b"last")
            getattr(transport, end)()
            assert transport.is_closing()
            assert not transport.is_reading()
            transport.close()
            peer.settimeout(10)
            for _ in range(sent):
                assert peer.recv(2000) == b"x" * 1000
            await protocol.wait_for(protocol.is_lost)
            assert protocol.events == ["made", ("lost", None)]
            peer.setblocking(False)
            if end == "close":
                assert peer.recv(2000) == b"last"
            with pytest.raises(BlockingIOError):
                peer.recv(2000)
            peer.close()

    run(main)


def test_datagrams_after_the_end_are_logged_from_the_fifth_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with_peer, free = Recorder(), Recorder()
        server = Recorder()
        address = (await endpoint(server, local_addr=("127.0.0.1", 0))).get_extra_info("sockname")
        one = await endpoint(with_peer, remote_addr=address)
        other = await endpoint(free, local_addr=("127.0.0.1", 0))
        await close(with_peer, free, server)
        with caplog.at_level(logging.WARNING, logger="asyncio"):
            for transport in (one, other):
                caplog.clear()
                for _ in range(7):
                    transport.sendto(b"x", address)
                messages = [record.message for record in caplog.records]
                assert messages == ["socket.send() raised exception."] * 3

    run(main)


def test_pausing_and_resuming_what_is_received() -> None:
    async def main() -> None:
        server, client = Recorder(), Recorder()
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        transport = await endpoint(client, remote_addr=receiver.get_extra_info("sockname"))
        receiver.pause_reading()
        receiver.pause_reading()
        assert not receiver.is_reading()
        transport.sendto(b"x")
        await everything_was_looked_at()
        assert not server.received
        receiver.resume_reading()
        assert receiver.is_reading()
        await server.wait_for(lambda: server.received)
        await close(server, client)

    run(main)


def test_a_protocol_that_pauses_gets_no_more_datagrams_of_the_same_turn() -> None:
    async def main() -> None:
        class OneAtATime(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                self.transport.pause_reading()

        server, client = OneAtATime(), Recorder()
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        transport = await endpoint(client, remote_addr=receiver.get_extra_info("sockname"))
        receiver.pause_reading()
        for number in range(5):
            transport.sendto(b"%d" % number)
        for count in range(1, 6):
            receiver.resume_reading()
            await server.wait_for(lambda count=count: len(server.received) == count)
            assert not receiver.is_reading()
        assert [data for data, _ in server.received] == [b"0", b"1", b"2", b"3", b"4"]
        await close(server, client)

    run(main)


def test_a_flood_of_datagrams_does_not_starve_other_callbacks() -> None:
    async def main() -> None:
        server = Recorder()
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        address = receiver.get_extra_info("sockname")
        receiver.pause_reading()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(100):
                sock.sendto(b"x", address)
        receiver.resume_reading()
        seen = []
        while len(server.received) < 100:
            seen.append(len(server.received))
            await asyncio.sleep(0)
        steps = [after - before for before, after in itertools.pairwise(seen)]
        assert max(steps) <= 16
        await close(server)

    run(main)


def test_what_a_protocol_raises_goes_to_the_exception_handler() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, details: reported.append(details)
        )

        class Failing(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                raise ZeroDivisionError(data)

        server, client = Failing(), Recorder()
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        transport = await endpoint(client, remote_addr=receiver.get_extra_info("sockname"))
        transport.sendto(b"1")
        transport.sendto(b"2")
        await server.wait_for(lambda: len(server.received) == 2)
        await asyncio.sleep(0)
        assert [str(details["exception"]) for details in reported] == ["b'1'", "b'2'"]
        assert not receiver.is_closing()
        await close(server, client)

    run(main)


def test_methods_of_a_protocol_run_in_the_context_of_who_made_the_endpoint() -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    async def main() -> None:
        class Curious(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, variable.get())

        server, client = Curious(), Recorder()
        variable.set("inside")
        receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
        variable.set("later")
        transport = await endpoint(client, remote_addr=receiver.get_extra_info("sockname"))
        transport.sendto(b"x")
        await server.wait_for(lambda: server.received)
        assert server.received == [(b"x", "inside")]
        await close(server, client)

    run(main)


def test_sockets_of_ones_own_and_of_families_that_only_python_knows() -> None:
    async def main() -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        protocol = Recorder()
        transport = await endpoint(protocol, sock=near)
        assert native(transport)
        far.send(b"x")
        await protocol.wait_for(lambda: protocol.received)
        # asyncio's own loop can't answer: it knows a peer only by its name.
        transport.sendto(b"answer")
        assert far.recv(100) == b"answer"
        await close(protocol)
        far.close()
        assert near.fileno() == -1

        lonely = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        protocol = Recorder()
        transport = await endpoint(protocol, sock=lonely)
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: reported.append(told))
        transport.sendto(b"x")
        await protocol.wait_for(protocol.is_lost)
        (details,) = reported
        assert "not 'NoneType'" in str(details["exception"])

        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)
        protocol = Recorder()
        transport = await endpoint(protocol, sock=netlink)
        assert not native(transport)
        assert isinstance(transport, asyncio.BaseTransport)
        await close(protocol)

    run(main)


def test_a_descriptor_of_a_transport_is_not_for_others() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport = await endpoint(protocol, local_addr=("127.0.0.1", 0))
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(transport.get_extra_info("socket").fileno(), print)
        await close(protocol)

    run(main)


def test_debug_mode_writes_down_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        protocol = Recorder()
        transport = await endpoint(protocol, local_addr=("127.0.0.1", 0))
        transport.pause_reading()
        transport.resume_reading()
        await close(protocol)

    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        run(main, debug=True)
    assert "pauses reading" in caplog.text
    assert "resumes reading" in caplog.text


def test_an_unclosed_transport_warns_and_closes_its_socket() -> None:
    numbers: list[int] = []

    async def main() -> None:
        protocol = Recorder()
        transport = await endpoint(protocol, local_addr=("127.0.0.1", 0))
        numbers.append(transport.get_extra_info("socket").fileno())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main)
        gc.collect()
    assert any("unclosed transport <DatagramTransport" in str(each.message) for each in caught)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(numbers[0])


def test_nothing_is_left_of_many_endpoints() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def once() -> None:
            server, client = Echo(), Recorder()
            receiver = await endpoint(server, local_addr=("127.0.0.1", 0))
            address = receiver.get_extra_info("sockname")
            transport = await endpoint(client, remote_addr=address)
            transport.sendto(b"x")
            await client.wait_for(lambda: client.received)
            await close(server, client)

        await once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            await once()
        assert len(os.listdir("/proc/self/fd")) == before
        assert len(asyncio.all_tasks(loop)) == 1

    run(main)
