"""How ``loop.sock_recv`` and its kin wait for their sockets, and how such a wait ends."""

import asyncio
import gc
import os
import signal
import socket
import threading
import weakref

import pytest
from support.bounded_run import run
from support.loop_turns import everything_was_looked_at
from support.sockets import is_watched, listener, pair


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
