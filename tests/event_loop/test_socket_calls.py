"""``loop.sock_recv`` and its kin: system calls at once, or when the socket is ready."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import ssl
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.loop_turns import everything_was_looked_at

import carboy


def run(main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    carboy.run(bounded(), debug=debug)


def pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


def listener(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, 0), family=family)
    sock.setblocking(False)
    return sock


def is_watched(sock: socket.socket) -> bool:
    """Look whether the loop would report the socket, in the kernel's own words."""
    for number in os.listdir("/proc/self/fd"):
        try:
            if "eventpoll" not in os.readlink(f"/proc/self/fd/{number}"):
                continue
            information = Path(f"/proc/self/fdinfo/{number}").read_text()
        except FileNotFoundError:
            continue
        for line in information.splitlines():
            if line.split()[:2] == ["tfd:", str(sock.fileno())]:
                return True
    return False


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


def test_cancelling_ends_the_watch_and_takes_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        task = asyncio.create_task(loop.sock_recv(near, 10))
        await everything_was_looked_at()
        assert is_watched(near)
        # What arrives in the turn of the cancellation is for the next call.
        far.send(b"kept")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_watched(near)
        assert await loop.sock_recv(near, 10) == b"kept"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(near, 10), 0.01)
        assert not is_watched(near)

        server = listener()
        for call in (loop.sock_accept(server), loop.sock_recvfrom(near, 1)):
            task = asyncio.create_task(call)
            await everything_was_looked_at()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        for sock in (near, far, server):
            assert not is_watched(sock)
            sock.close()

    run(main)


def test_a_cancelled_connection_attempt_closes_no_descriptor() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        # Nobody accepts here, so that attempts stay in progress once the queue is full.
        server = socket.create_server(("127.0.0.1", 0), backlog=0)
        waiting = []
        while True:
            client = socket.socket()
            client.setblocking(False)
            task = asyncio.create_task(loop.sock_connect(client, server.getsockname()))
            waiting.append(client)
            await asyncio.wait([task], timeout=0.2)
            if not task.done():
                break
        number = client.fileno()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert client.fileno() == number
        os.fstat(number)
        assert not is_watched(client)
        for sock in (*waiting, server):
            sock.close()

    run(main)


def test_the_later_of_two_calls_gets_what_comes() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        earlier = asyncio.create_task(loop.sock_recv(near, 10))
        await everything_was_looked_at()
        later = asyncio.create_task(loop.sock_recv(near, 10))
        await everything_was_looked_at()
        far.send(b"x")
        assert await later == b"x"
        assert not earlier.done()
        # The end of the earlier one leaves the watch of a third alone.
        third = asyncio.create_task(loop.sock_recv(near, 10))
        await everything_was_looked_at()
        earlier.cancel()
        await asyncio.wait([earlier])
        assert is_watched(near)
        far.send(b"y")
        assert await third == b"y"
        near.close()
        far.close()

    run(main)


def test_a_reader_replaces_a_call_and_a_call_replaces_a_reader() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        seen: list[str] = []
        task = asyncio.create_task(loop.sock_recv(near, 10))
        await everything_was_looked_at()
        loop.add_reader(near, lambda: seen.append("reader"))
        far.send(b"x")
        await everything_was_looked_at()
        assert seen
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert is_watched(near)
        seen.clear()
        near.recv(10)
        call = asyncio.create_task(loop.sock_recv(near, 10))
        await everything_was_looked_at()
        far.send(b"y")
        assert await call == b"y"
        assert not seen
        assert not loop.remove_reader(near)
        near.close()
        far.close()

    run(main)


def test_both_directions_at_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        receiving = asyncio.create_task(loop.sock_recv(near, 10))
        sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 1_000_000))
        await everything_was_looked_at()
        assert not sending.done()
        far.send(b"y")
        assert await receiving == b"y"
        assert not sending.done()
        assert is_watched(near)
        received = 0
        while received < 1_000_000:
            received += len(await loop.sock_recv(far, 1 << 20))
        await sending
        assert not is_watched(near)
        near.close()
        far.close()

    run(main)


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


def test_an_interrupted_wait_goes_on() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()
        seen: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
        try:
            task = asyncio.create_task(loop.sock_recv(near, 1))
            await everything_was_looked_at()
            main_thread = threading.main_thread().ident
            assert main_thread is not None

            def interrupt() -> None:
                signal.pthread_kill(main_thread, signal.SIGUSR1)

            for count in range(1, 6):
                await loop.run_in_executor(None, interrupt)
                while len(seen) < count:
                    await asyncio.sleep(0)
            assert not task.done()
            far.send(b"x")
            assert await task == b"x"
        finally:
            signal.signal(signal.SIGUSR1, before)
        near.close()
        far.close()

    run(main)


def test_nothing_is_left_of_calls() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = pair()

        class Data(bytearray):
            pass

        data = Data(b"x")
        reference = weakref.ref(data)
        await loop.sock_sendall(near, data)
        await loop.sock_recv_into(far, data)
        task = asyncio.create_task(loop.sock_recv_into(far, data))
        await everything_was_looked_at()
        task.cancel()
        await asyncio.wait([task])
        del task, data
        gc.collect()
        assert reference() is None

        before = len(os.listdir("/proc/self/fd"))
        server = listener()
        for _ in range(50):
            client = socket.socket()
            client.setblocking(False)
            await loop.sock_connect(client, server.getsockname())
            connection, _ = await loop.sock_accept(server)
            receiving = asyncio.create_task(loop.sock_recv(connection, 1))
            await everything_was_looked_at()
            await loop.sock_sendall(client, b"x")
            await receiving
            client.close()
            connection.close()
        server.close()
        assert len(os.listdir("/proc/self/fd")) == before
        assert len(asyncio.all_tasks()) == 1
        near.close()
        far.close()

    run(main)
