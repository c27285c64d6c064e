"""Descriptors that are closed while the loop watches them, which is a mistake but happens."""

import asyncio
import socket
import threading

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
