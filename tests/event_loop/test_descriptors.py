"""Descriptors that programs bring along: watched, no longer watched, closed, and shared."""

import asyncio
import contextlib
import fcntl
import functools
import gc
import os
import socket
import time
from typing import Any, ClassVar

import pytest

import carboy


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_watching_a_descriptor_does_not_change_it(loop: carboy.EventLoop, kind: str) -> None:
    """A terminal is shared with other programs, which would not expect O_NONBLOCK."""
    if kind == "pipe":
        reader, writer = os.pipe()
    else:
        near, far = socket.socketpair()
        reader, writer = near.detach(), far.detach()
    before = [fcntl.fcntl(number, fcntl.F_GETFL) for number in (reader, writer)]
    assert not any(flags & os.O_NONBLOCK for flags in before)
    seen: list[list[int]] = []

    def look() -> None:
        seen.append([fcntl.fcntl(number, fcntl.F_GETFL) for number in (reader, writer)])
        loop.stop()

    loop.add_writer(writer, look)
    loop.add_reader(reader, look)
    loop.run_forever()
    loop.remove_writer(writer)
    loop.remove_reader(reader)
    seen.append([fcntl.fcntl(number, fcntl.F_GETFL) for number in (reader, writer)])

    assert all(flags == before for flags in seen)
    os.close(reader)
    os.close(writer)


def test_a_reader_that_was_removed_is_not_called_although_it_was_ready(
    loop: carboy.EventLoop,
) -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    called: list[int] = []

    def first_removes_all(number: int) -> None:
        called.append(number)
        for near, _ in pairs:
            loop.remove_reader(near)
            near.close()
        loop.call_later(0.01, loop.stop)

    for number, (near, far) in enumerate(pairs):
        loop.add_reader(near, first_removes_all, number)
        far.sendall(b"x")
    loop.run_forever()

    assert len(called) == 1
    for _, far in pairs:
        far.close()


def test_a_descriptor_that_is_closed_in_a_turn_in_which_it_is_ready_harms_nobody(
    loop: carboy.EventLoop,
) -> None:
    """Its number may belong to somebody else by the time its event comes up."""
    old, old_peer = socket.socketpair()
    trigger, trigger_peer = socket.socketpair()
    called: list[str] = []
    others: list[socket.socket] = []

    def replace() -> None:
        called.append("replaced")
        loop.remove_reader(trigger)
        number = old.fileno()
        loop.remove_reader(old)
        old.close()
        near, far = socket.socketpair()
        others.extend((near, far))
        assert number in (near.fileno(), far.fileno())
        reader = near if near.fileno() == number else far
        loop.add_reader(reader, called.append, "the new owner was called")
        loop.call_later(0.02, loop.stop)

    loop.add_reader(trigger, replace)
    loop.add_reader(old, called.append, "the old owner was called")
    # Both are ready in one turn.
    trigger_peer.sendall(b"x")
    old_peer.sendall(b"x")
    loop.run_forever()

    assert called[-1] == "replaced", "something was called after that"
    for connection in (old_peer, trigger, trigger_peer, *others):
        connection.close()


def test_a_copy_of_a_closed_descriptor_does_not_keep_the_loop_busy(
    loop: carboy.EventLoop,
) -> None:
    """The kernel goes on to report a descriptor of which somebody holds a copy."""
    near, far = socket.socketpair()
    copy = near.dup()
    far.sendall(b"never read")
    loop.add_reader(near, print)
    loop.remove_reader(near)
    near.close()
    # A loop that spins needs the whole time for itself.
    loop.call_later(0.3, loop.stop)
    before = time.thread_time()
    loop.run_forever()

    assert time.thread_time() - before < 0.1
    copy.close()
    far.close()


def descriptors() -> set[str]:
    # What a loop that is closed still has goes with the loop.
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


async def silent_server() -> asyncio.Server:
    return await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)


def test_connects_that_are_cancelled_close_their_own_descriptors_and_once() -> None:
    """A descriptor that is closed twice is somebody else's the second time."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        problems: list[str] = []
        loop.set_exception_handler(lambda _, context: problems.append(str(context)))
        server = await silent_server()
        address = server.sockets[0].getsockname()
        mine: list[int] = []
        for turns in range(60):
            coroutine: Any
            if turns % 3 == 0:
                coroutine = loop.create_connection(asyncio.Protocol, *address)
            elif turns % 3 == 1:
                coroutine = asyncio.open_connection(*address)
            else:
                raw = socket.socket()
                raw.setblocking(False)
                coroutine = loop.sock_connect(raw, address)
            task = asyncio.ensure_future(coroutine)
            for _ in range(turns // 3):
                await asyncio.sleep(0)
            task.cancel()
            # These take the numbers that were just given back.
            mine += [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, tuple):
                close = outcome[0].close if turns % 3 == 0 else outcome[1].close
                close()
            elif isinstance(outcome, BaseException) and not isinstance(
                outcome, asyncio.CancelledError
            ):
                problems.append(repr(outcome))
            if turns % 3 == 2:
                raw.close()
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        for number in mine:
            try:
                os.close(number)
            except OSError:
                problems.append(f"somebody closed descriptor {number}, which is not theirs")
        return problems

    before = descriptors()
    assert carboy.run(main()) == []
    assert descriptors() == before


def test_transports_may_be_closed_in_any_of_their_own_callbacks() -> None:
    """And in those of each other, while events of them are on their way."""

    class Closing(asyncio.Protocol):
        others: ClassVar[list[asyncio.Transport]] = []
        lost = 0

        def __init__(self, when: str, how: str) -> None:
            self.when, self.how = when, how

        def close_all(self, when: str) -> None:
            if when == self.when:
                for transport in [self.transport, *self.others]:
                    getattr(transport, self.how)()

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.others.append(transport)
            self.close_all("made")

        def data_received(self, data: bytes) -> None:
            self.close_all("data")

        def eof_received(self) -> None:
            self.close_all("end")

        def connection_lost(self, error: Exception | None) -> None:
            Closing.lost += 1
            self.close_all("lost")

    async def main() -> tuple[int, list[Any]]:
        loop = asyncio.get_running_loop()
        problems: list[Any] = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        made = 0
        for when in ("made", "data", "end", "lost"):
            for how in ("close", "abort"):
                Closing.others = []
                peers = []
                for _ in range(10):
                    near, far = socket.socketpair()
                    peers.append(far)
                    make = functools.partial(Closing, when, how)
                    await loop.create_connection(make, sock=near)
                    made += 1
                for far in peers:
                    # It may be closed by now.
                    with contextlib.suppress(OSError):
                        far.sendall(b"x")
                        far.shutdown(socket.SHUT_WR)
                while Closing.lost < made:
                    await asyncio.sleep(0)
                for far in peers:
                    far.close()
        Closing.others = []
        return made - Closing.lost, problems

    before = descriptors()
    assert carboy.run(main()) == (0, [])
    assert descriptors() == before
