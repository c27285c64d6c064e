"""The transport of a datagram socket: UDP and unix, connected and not."""

import asyncio
import contextvars
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from support.bounded_run import run
from support.datagrams import SENDS_EMPTY, Echo, Recorder, close, endpoint, native


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
