"""Descriptors that are closed while the loop watches them, which is a mistake but happens."""

import asyncio
import socket
import threading
import weakref

import pytest

import carboy

#: Often enough that the loop is parked when an answer comes, in one round at least.
ROUNDS = 50


def echo(connection: socket.socket) -> None:
    while data := connection.recv(1):
        connection.sendall(data)


def test_a_descriptor_that_the_kernel_reports_for_ever_keeps_no_other_from_waking_the_loop() -> (
    None
):
    """The kernel goes on to report what is closed here while a copy of it lives."""
    stale, stale_peer = socket.socketpair()
    copy = stale.dup()
    near, far = socket.socketpair()
    thread = threading.Thread(target=echo, args=(far,), daemon=True)
    thread.start()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        reports: list[None] = []
        number = stale.fileno()
        loop.add_reader(number, reports.append, None)
        stale.close()
        loop.remove_reader(number)
        stale_peer.sendall(b"x")

        arrived = asyncio.Event()
        loop.add_reader(near, arrived.set)
        for _ in range(ROUNDS):
            near.sendall(b"x")
            await arrived.wait()
            near.recv(1)
            arrived.clear()
        loop.remove_reader(near)
        return len(reports)

    outcome: list[int] = []
    program = threading.Thread(target=lambda: outcome.append(carboy.run(main())), daemon=True)
    program.start()
    program.join(10)

    assert outcome == [0]
    for connection in (near, far, copy, stale_peer):
        connection.close()
    thread.join(5)


def test_a_closed_object_is_found_by_its_identity_and_its_callbacks_are_removed() -> None:
    """As asyncio's selector finds it: AnyIO's unix sockets are closed before the watch ends."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with far:
            loop.add_reader(near, print)
            loop.add_writer(near, print)
            near.close()
            assert loop.remove_reader(near)
            assert loop.remove_writer(near)
            for method in (loop.remove_reader, loop.remove_writer):
                with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
                    method(near)
            with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
                loop.add_reader(near, print)

    carboy.run(main())


def test_the_loop_lets_go_of_an_object_when_no_callback_of_it_is_left() -> None:
    class Watched:
        def __init__(self, number: int) -> None:
            self.number = number

        def fileno(self) -> int:
            return self.number

    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with near, far:
            watched = Watched(near.fileno())
            watcher = weakref.ref(watched)
            loop.add_reader(watched, print)
            loop.add_writer(watched, print)
            del watched
            assert loop.remove_reader(near)
            assert watcher() is not None
            assert loop.remove_writer(near)
            assert watcher() is None

    carboy.run(main())
