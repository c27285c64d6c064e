"""Signals: handlers on the loop, who owns the wake-up descriptor, and interrupted waits."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import carboy


@pytest.fixture
def loop() -> Iterator[carboy.EventLoop]:
    loop = carboy.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(autouse=True)
def _signals_are_given_back() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    assert signal.set_wakeup_fd(-1) == -1, "a wake-up descriptor was left behind"


@contextlib.contextmanager
def wakeup_descriptor() -> Iterator[socket.socket]:
    """Set a wake-up descriptor of one's own, and give what is to be read of it."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    signal.set_wakeup_fd(far.fileno())
    try:
        yield near
    finally:
        signal.set_wakeup_fd(-1)
        near.close()
        far.close()


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def send_while_parked(number: int) -> threading.Thread:
    """Send a signal to the main thread when that is likely to wait for events."""

    def main() -> None:
        time.sleep(0.05)
        send(number)

    thread = threading.Thread(target=main)
    thread.start()
    return thread


def test_a_handler_is_called_with_its_arguments_and_again_and_again(
    loop: carboy.EventLoop,
) -> None:
    received: list[Any] = []

    def receive(*arguments: Any) -> None:
        received.append(arguments)
        if len(received) == 3:
            loop.stop()
        else:
            send(signal.SIGUSR1)

    loop.add_signal_handler(signal.SIGUSR1, receive, 1, "two")
    loop.call_soon(send, signal.SIGUSR1)
    loop.run_forever()
    assert received == [(1, "two")] * 3


def test_a_signal_ends_the_wait_of_a_parked_loop(loop: carboy.EventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    thread = send_while_parked(signal.SIGUSR1)
    loop.run_forever()
    thread.join()


def test_a_signal_to_another_thread_ends_the_wait_too(loop: carboy.EventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    thread = threading.Thread(
        target=lambda: (
            time.sleep(0.05),
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1),
        )
    )
    thread.start()
    loop.run_forever()
    thread.join()


def test_a_signal_between_two_runs_is_handled_by_the_next(loop: carboy.EventLoop) -> None:
    received: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, received.append, "x")
    send(signal.SIGUSR1)
    assert not received
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert received == ["x"]


def test_signals_of_a_plain_handler_arrive_at_once(loop: carboy.EventLoop) -> None:
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        received.append(number)
        loop.call_soon_threadsafe(loop.stop)

    signal.signal(signal.SIGUSR1, receive)
    thread = send_while_parked(signal.SIGUSR1)
    loop.run_forever()
    thread.join()
    assert received == [signal.SIGUSR1]


def test_a_later_handler_replaces_an_earlier_one(loop: carboy.EventLoop) -> None:
    received: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, received.append, "earlier")
    loop.add_signal_handler(signal.SIGUSR1, received.append, "later")
    loop.call_soon(send, signal.SIGUSR1)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert received == ["later"]


def test_removing_a_handler(loop: carboy.EventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert loop.remove_signal_handler(signal.SIGINT)
    assert not loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_closing_the_loop_gives_all_signals_back() -> None:
    loop = carboy.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_what_can_be_no_handler(loop: carboy.EventLoop) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)
    with pytest.raises(ValueError, match="invalid signal number 1000"):
        loop.add_signal_handler(1000, print)
    with pytest.raises(TypeError, match="sig must be an int"):
        loop.add_signal_handler("SIGINT", print)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)
    assert not loop.remove_signal_handler(signal.SIGKILL)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)


def test_handlers_are_for_the_main_thread_only() -> None:
    errors: list[str] = []

    def elsewhere() -> None:
        loop = carboy.new_event_loop()
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            errors.append(str(error))
        assert not loop.remove_signal_handler(signal.SIGUSR1)
        loop.close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert "main thread" in errors[0]


def test_what_a_handler_raises_goes_to_the_exception_handler(loop: carboy.EventLoop) -> None:
    reported: list[dict[str, Any]] = []

    def report(_: object, details: dict[str, Any]) -> None:
        reported.append(details)
        loop.stop()

    def fail() -> None:
        raise ZeroDivisionError

    loop.set_exception_handler(report)
    loop.add_signal_handler(signal.SIGUSR1, fail)
    loop.call_soon(send, signal.SIGUSR1)
    loop.run_forever()
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


def test_the_wakeup_descriptor_of_somebody_else_is_used_and_stays(
    loop: carboy.EventLoop,
) -> None:
    with wakeup_descriptor() as theirs:
        received: list[str] = []
        loop.add_signal_handler(signal.SIGUSR1, received.append, "x")
        loop.add_signal_handler(signal.SIGUSR2, loop.stop)
        loop.call_soon(send, signal.SIGUSR1)
        loop.call_soon(send, signal.SIGUSR2)
        loop.run_forever()
        assert received == ["x"]
        assert sorted(theirs.recv(100)) == sorted([signal.SIGUSR1, signal.SIGUSR2])
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.remove_signal_handler(signal.SIGUSR2)
        loop.close()
        number = signal.set_wakeup_fd(-1)
        assert number != -1
        signal.set_wakeup_fd(number)


def test_a_wakeup_descriptor_that_is_set_while_the_loop_runs_stays(
    loop: carboy.EventLoop,
) -> None:
    with contextlib.ExitStack() as stack:

        def set_theirs() -> None:
            theirs.append(stack.enter_context(wakeup_descriptor()))
            send(signal.SIGUSR1)

        theirs: list[socket.socket] = []
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        loop.call_soon(set_theirs)
        loop.run_forever()
        assert list(theirs[0].recv(100)) == [signal.SIGUSR1]
        number = signal.set_wakeup_fd(-1)
        assert number != -1
        signal.set_wakeup_fd(number)


def test_a_burst_of_signals_fills_no_buffer_for_ever(loop: carboy.EventLoop) -> None:
    count = 0

    def receive() -> None:
        nonlocal count
        count += 1
        if count == 2000:
            loop.stop()
        else:
            send(signal.SIGUSR1)
            send(signal.SIGUSR2)

    loop.add_signal_handler(signal.SIGUSR1, receive)
    loop.add_signal_handler(signal.SIGUSR2, lambda: None)
    loop.call_soon(send, signal.SIGUSR1)
    loop.run_forever()
    # The loop still wakes for the next one.
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    thread = send_while_parked(signal.SIGUSR1)
    loop.run_forever()
    thread.join()


def test_ctrl_c_ends_a_parked_loop() -> None:
    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    cancelled: list[bool] = []
    thread = send_while_parked(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        carboy.run(main())
    thread.join()
    assert cancelled == [True]


def test_interrupted_system_calls_are_nobodys_errors() -> None:
    received: list[int] = []

    async def main() -> None:
        reported: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reported.append(details))
        reader, writer = await asyncio.open_connection(sock=near)
        other_reader, other_writer = await asyncio.open_connection(sock=far)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            for _ in range(300):
                writer.write(b"x" * 100_000)
                other_writer.write(await other_reader.readexactly(100_000))
                await reader.readexactly(100_000)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for each in (writer, other_writer):
            each.close()
            await each.wait_closed()
        assert not reported

    near, far = socket.socketpair()
    before = signal.signal(signal.SIGALRM, lambda number, _: received.append(number))
    # Without this the kernel would make the interrupted calls again by itself.
    signal.siginterrupt(signal.SIGALRM, True)
    try:
        carboy.run(asyncio.wait_for(main(), 20))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert received
