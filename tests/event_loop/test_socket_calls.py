"""``loop.sock_recv`` and its kin: system calls at once, or when the socket is ready."""

import asyncio
import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from support.bounded_run import run
from support.loop_turns import everything_was_looked_at
from support.sockets import is_watched, listener, pair, udp


def test_receiving_at_once_and_later() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        far.send(b"at once")
        assert await loop.sock_recv(near, 100) == b"at once"
        task = asyncio.create_task(loop.sock_recv(near, 3))
        await everything_was_looked_at()
        assert not task.done()
        assert is_watched(near)
        far.send(b"later")
        assert await task == b"lat"
        assert not is_watched(near)
        assert await loop.sock_recv(near, 0) == b""
        assert await loop.sock_recv(near, 1 << 20) == b"er"
        task = asyncio.create_task(loop.sock_recv(near, 1 << 20))
        await everything_was_looked_at()
        far.send(b"x" * 100_000)
        assert await task == b"x" * 100_000
        far.close()
        assert await loop.sock_recv(near, 100) == b""
        near.close()

    run(main)


def test_receiving_into_a_buffer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        buffer = bytearray(5)
        far.send(b"at once")
        assert await loop.sock_recv_into(near, buffer) == 5
        assert buffer == b"at on"
        assert await loop.sock_recv_into(near, memoryview(buffer)[1:]) == 2
        assert buffer == b"ace o"[:1] + b"ce" + b"on"
        task = asyncio.create_task(loop.sock_recv_into(near, buffer))
        await everything_was_looked_at()
        far.send(b"later")
        assert await task == 5
        assert buffer == b"later"
        assert await loop.sock_recv_into(near, bytearray()) == 0
        with pytest.raises(TypeError, match="read-write"):
            await loop.sock_recv_into(near, b"constant")
        near.close()
        far.close()

    run(main)


def test_datagrams_with_their_senders() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = udp(), udp()
        here, there = near.getsockname(), far.getsockname()
        task = asyncio.create_task(loop.sock_recvfrom(near, 100))
        await everything_was_looked_at()
        assert await loop.sock_sendto(far, b"datagram", here) == 8
        assert await task == (b"datagram", there)
        assert await loop.sock_sendto(far, b"", here) == 0
        assert await loop.sock_recvfrom(near, 100) == (b"", there)
        assert await loop.sock_sendto(far, bytearray(b"by name"), ("localhost", here[1])) == 7
        assert await loop.sock_recvfrom(near, 2) == (b"by", there)

        buffer = bytearray(10)
        task = asyncio.create_task(loop.sock_recvfrom_into(near, buffer))
        await everything_was_looked_at()
        await loop.sock_sendto(far, b"0123456789abcdef", here)
        assert await task == (10, there)
        assert buffer == b"0123456789"
        await loop.sock_sendto(far, b"xyz", here)
        assert await loop.sock_recvfrom_into(near, buffer, 2) == (2, there)
        assert buffer == b"xy23456789"
        with pytest.raises(ValueError, match="nbytes is greater"):
            await loop.sock_recvfrom_into(near, buffer, 11)
        with pytest.raises(OSError, match=str(errno.EMSGSIZE)):
            await loop.sock_sendto(far, b"x" * 70_000, here)
        near.close()
        far.close()

    run(main)


def test_datagrams_of_unix_sockets(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        near.setblocking(False)
        near.bind(str(tmp_path / "near"))
        nameless = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        nameless.setblocking(False)
        assert await loop.sock_sendto(nameless, b"x", str(tmp_path / "near")) == 1
        assert await loop.sock_recvfrom(near, 10) == (b"x", None)
        with pytest.raises(FileNotFoundError):
            await loop.sock_sendto(nameless, b"x", str(tmp_path / "nowhere"))
        # The queue of the receiver is full: the sender waits for a place.
        nameless.connect(str(tmp_path / "near"))
        with contextlib.suppress(BlockingIOError):
            while True:
                nameless.send(b"x" * 1000)
        task = asyncio.create_task(loop.sock_sendto(nameless, b"last", str(tmp_path / "near")))
        await everything_was_looked_at()
        assert not task.done()
        count = 0
        while not task.done():
            await loop.sock_recv(near, 2000)
            count += 1
            await everything_was_looked_at()
        assert await task == 4
        while await loop.sock_recv(near, 2000) != b"last":
            pass
        for sock in (near, nameless):
            sock.close()

    run(main)


def test_sending_more_than_the_socket_takes_at_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        data = bytearray(os.urandom(3_000_000))
        task = asyncio.create_task(loop.sock_sendall(near, data))
        await everything_was_looked_at()
        assert not task.done()
        assert is_watched(near)
        # The data can't change its size while it is being sent.
        with pytest.raises(BufferError):
            data.append(0)
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(far, 1 << 20)
        assert received == data
        assert await task is None
        assert not is_watched(near)
        del task
        data.append(0)
        assert await loop.sock_sendall(near, b"") is None
        # The elements of the view have four bytes each.
        await loop.sock_sendall(near, memoryview(b"12345678").cast("I"))
        assert await loop.sock_recv(far, 100) == b"12345678"
        with pytest.raises(TypeError, match="bytes-like"):
            await loop.sock_sendall(near, "text")
        far.close()
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(near, b"x")
        near.close()

    run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connecting_and_accepting(host: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = listener(host)
        accepting = asyncio.create_task(loop.sock_accept(server))
        await everything_was_looked_at()
        assert is_watched(server)
        client = socket.socket(server.family, socket.SOCK_STREAM)
        client.setblocking(False)
        assert await loop.sock_connect(client, server.getsockname()) is None
        connection, address = await accepting
        assert type(connection) is socket.socket
        assert connection.gettimeout() == 0
        assert not connection.get_inheritable()
        assert (connection.family, connection.type) == (server.family, socket.SOCK_STREAM)
        assert address == client.getsockname()
        await loop.sock_sendall(client, b"x")
        assert await loop.sock_recv(connection, 1) == b"x"
        assert not is_watched(server)
        assert not is_watched(client)
        for sock in (server, client, connection):
            sock.close()

    run(main)


def test_connecting_by_a_hosts_name() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = listener()
        port = server.getsockname()[1]
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, ("localhost", port))
        assert client.getpeername() == ("127.0.0.1", port)
        client.close()
        client = socket.socket()
        client.setblocking(False)
        with pytest.raises(socket.gaierror):
            await loop.sock_connect(client, ("host.invalid", port))
        # The look-up ends with the call.
        started = asyncio.Event()

        async def resolve(*_: object, **__: object) -> Any:
            started.set()
            await asyncio.Event().wait()

        loop._ensure_resolved = resolve
        task = asyncio.create_task(loop.sock_connect(client, ("host.invalid", port)))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        client.close()
        server.close()

    run(main)


def test_a_refused_connection_says_whereto() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = listener()
        address = server.getsockname()
        server.close()
        client = socket.socket()
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('127.0.0.1', "):
            await loop.sock_connect(client, address)
        assert not is_watched(client)
        client.close()
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        with pytest.raises(FileNotFoundError):
            await loop.sock_connect(client, "/nowhere/at/all")
        client.close()

    run(main)


def test_accepting_unix_connections(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / "server"))
        server.listen()
        server.setblocking(False)
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        await loop.sock_connect(client, str(tmp_path / "server"))
        connection, address = await loop.sock_accept(server)
        assert address == ""
        for sock in (server, client, connection):
            sock.close()

    run(main)
