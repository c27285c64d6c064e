"""What ``loop.sock_recv`` and its kin return, and what they refuse."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import Awaitable
from typing import Any

import pytest
from support.bounded_run import run
from support.loop_turns import everything_was_looked_at
from support.sockets import listener, pair

import carboy


class Socket(socket.socket):
    """A socket with methods of its own, which are to be called."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.calls: list[str] = []

    def recv(self, *arguments: Any) -> bytes:
        self.calls.append("recv")
        return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        self.calls.append("send")
        return super().send(*arguments)

    def connect(self, *arguments: Any) -> None:
        self.calls.append("connect")
        super().connect(*arguments)


def test_methods_that_a_class_of_sockets_overrides_are_called() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = listener()
        client = Socket()
        client.setblocking(False)
        await loop.sock_connect(client, server.getsockname())
        connection, _ = await loop.sock_accept(server)
        task = asyncio.create_task(loop.sock_recv(client, 10))
        await everything_was_looked_at()
        await loop.sock_sendall(connection, b"x")
        assert await task == b"x"
        sending = asyncio.create_task(loop.sock_sendall(client, b"y" * 5_000_000))
        received = 0
        while received < 5_000_000:
            received += len(await loop.sock_recv(connection, 1 << 20))
        await sending
        assert client.calls[:3] == ["connect", "recv", "recv"]
        assert client.calls.count("send") > 1
        for sock in (server, client, connection):
            sock.close()

    run(main)


def calls(loop: Any, sock: Any) -> list[Awaitable[Any]]:
    return [
        loop.sock_recv(sock, 1),
        loop.sock_recv_into(sock, bytearray(1)),
        loop.sock_recvfrom(sock, 1),
        loop.sock_recvfrom_into(sock, bytearray(1)),
        loop.sock_sendall(sock, b"x"),
        loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
        loop.sock_connect(sock, ("127.0.0.1", 9)),
        loop.sock_accept(sock),
    ]


def test_blocking_sockets_are_refused_in_debug_mode() -> None:
    async def main() -> None:
        with socket.socket() as sock:
            for call in calls(asyncio.get_running_loop(), sock):
                with pytest.raises(ValueError, match="the socket must be non-blocking"):
                    await call
            sock.settimeout(1)
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await asyncio.get_running_loop().sock_recv(sock, 1)

    run(main, debug=True)


def test_sockets_of_tls_are_refused() -> None:
    async def main() -> None:
        context = ssl.create_default_context()
        with context.wrap_socket(
            socket.socket(), do_handshake_on_connect=False, server_hostname="localhost"
        ) as sock:
            for call in calls(asyncio.get_running_loop(), sock):
                with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                    await call

    run(main)


def test_closed_sockets_fail() -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.close()
        for call in calls(asyncio.get_running_loop(), sock):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await call

    run(main)


def test_wrong_arguments_are_told_as_pythons_sockets_do() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        with pytest.raises(ValueError, match="negative buffersize"):
            await loop.sock_recv(near, -1)
        with pytest.raises(TypeError):
            await loop.sock_recv(near, "1")
        with pytest.raises(TypeError):
            await loop.sock_sendto(near, b"x", None)
        near.close()
        far.close()

    run(main)


def test_a_socket_of_a_transport_is_not_for_others() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(near, 1)
        transport.close()
        await everything_was_looked_at()
        far.close()

    run(main)


def test_calls_are_coroutines() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        call = loop.sock_recv(near, 1)
        assert asyncio.iscoroutine(call)
        assert (call.__name__, call.__qualname__) == ("sock_recv", "EventLoop.sock_recv")
        task = asyncio.create_task(call)
        assert "sock_recv" in repr(task)
        assert task.get_coro() is call
        await everything_was_looked_at()
        far.send(b"12345")
        assert await task == b"1"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await call
        assert await asyncio.gather(loop.sock_recv(near, 1), loop.sock_recv(near, 1)) == [
            b"2",
            b"3",
        ]
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(loop.sock_recv(near, 1))
        assert grouped.result() == b"4"
        outcome: list[bytes] = []

        def elsewhere() -> None:
            future = asyncio.run_coroutine_threadsafe(loop.sock_recv(near, 1), loop)
            outcome.append(future.result(10))

        await loop.run_in_executor(None, elsewhere)
        assert outcome == [b"5"]

        # Nothing is done before the first step, and nothing after the end.
        far.send(b"6")
        call = loop.sock_recv(near, 1)
        call.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            call.send(None)
        call = loop.sock_recv(near, 1)
        with pytest.raises(ZeroDivisionError):
            call.throw(ZeroDivisionError("thrown"))
        assert near.recv(10) == b"6"
        near.close()
        far.close()

    run(main)


def test_a_call_that_nobody_awaits_warns() -> None:
    async def main() -> None:
        with socket.socket() as sock:
            with pytest.warns(RuntimeWarning, match=r"'EventLoop.sock_recv' was never awaited"):
                asyncio.get_running_loop().sock_recv(sock, 1)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                asyncio.get_running_loop().sock_recv(sock, 1).close()

    run(main)


def test_run_until_complete_takes_a_call() -> None:
    loop = carboy.new_event_loop()
    near, far = pair()
    far.send(b"x")
    assert loop.run_until_complete(loop.sock_recv(near, 1)) == b"x"
    loop.close()
    near.close()
    far.close()
