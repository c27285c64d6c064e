"""Signals, and exceptions that end a program: the loop lets them through and loses nothing."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import carboy


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_leaves_the_loop_and_loses_nothing(
    loop: carboy.EventLoop, kind: type[BaseException]
) -> None:
    order: list[str] = []

    def fail() -> None:
        raise kind

    loop.call_soon(order.append, "before")
    loop.call_soon(fail)
    loop.call_soon(order.append, "after")
    loop.call_later(0, order.append, "timer")
    with pytest.raises(kind):
        loop.run_forever()
    assert order == ["before"]
    assert not loop.is_running()

    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert order == ["before", "after", "timer"]


def test_another_base_exception_in_a_callback_does_not_stop_the_loop(
    loop: carboy.EventLoop,
) -> None:
    class OwnBase(BaseException):
        pass

    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    order: list[str] = []

    def fail() -> None:
        raise OwnBase

    loop.call_soon(fail)
    loop.call_soon(order.append, "after")
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert order == ["after"]
    assert isinstance(contexts[0]["exception"], OwnBase)


@contextlib.contextmanager
def run_script(source: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script, which is ended with the block, whatever became of it."""
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def assert_is_interrupted_while_busy(source: str) -> None:
    """Interrupt a script that has said it is busy: it says so too, and ends well."""
    with run_script(source) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)

    assert (out, err, process.returncode) == ("interrupted\n", "", 0)


PARKED = """
import asyncio, carboy
async def main():
    try:
        print("parked", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)
try:
    carboy.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_keyboard_interrupt_wakes_a_parked_loop() -> None:
    with run_script(PARKED) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "parked\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)

    assert (out, err, process.returncode) == ("cleaned up\ninterrupted\n", "", 0)


def test_keyboard_interrupt_reaches_a_busy_callback() -> None:
    source = """
import carboy
loop = carboy.new_event_loop()
def busy():
    print("busy", flush=True)
    while True: pass
loop.call_soon(busy)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", flush=True)
loop.close()
"""
    assert_is_interrupted_while_busy(source)


def test_signal_handlers_run_on_the_loop(loop: carboy.EventLoop) -> None:
    received: list[int] = []

    def receive(number: int) -> None:
        received.append(number)
        if len(received) == 2:
            loop.stop()

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, receive, number)
        loop.call_soon(os.kill, os.getpid(), number)
    loop.run_forever()

    assert sorted(received) == [signal.SIGUSR1, signal.SIGUSR2]
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert loop.remove_signal_handler(signal.SIGUSR2)
    assert not loop.remove_signal_handler(signal.SIGUSR1)


def test_an_interrupt_reaches_a_loop_that_runs_native_callbacks_only() -> None:
    """CPython runs signal handlers between bytecodes, and here there are none."""
    source = """
import functools, carboy
loop = carboy.new_event_loop()
again = functools.partial(int)
again.__setstate__((loop.call_soon, (again,), {}, {}))
loop.call_soon(functools.partial(print, "busy", flush=True))
loop.call_soon(again)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", flush=True)
loop.close()
"""
    assert_is_interrupted_while_busy(source)


INTERRUPTED_OFTEN = """
import asyncio, os, signal, sys, threading, carboy

interrupt = threading.Event()
def interrupt_when_told():
    while True:
        interrupt.wait()
        interrupt.clear()
        if done:
            return
        os.kill(os.getpid(), signal.SIGINT)

done = False
thread = threading.Thread(target=interrupt_when_told)
thread.start()
cleaned = 0

async def main(turns):
    global cleaned
    try:
        interrupt.set()
        # Meanwhile: parked, or busy, or between the two.
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.sleep(60)
    finally:
        cleaned += 1

interrupted = 0
for number in range(300):
    try:
        carboy.run(main(number % 7))
    except KeyboardInterrupt:
        interrupted += 1
done = True
interrupt.set()
thread.join()
print(interrupted, cleaned, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_each_interrupt_ends_its_program() -> None:
    with run_script(INTERRUPTED_OFTEN) as process:
        out, err = process.communicate(timeout=60)

    assert (out, err, process.returncode) == ("300 300 True\n", "", 0)


SIGNALLED_OFTEN = """
import asyncio, os, signal, socket, threading, carboy

received = []
errors = []

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    over = asyncio.Event()
    def receive():
        received.append(1)
    loop.add_signal_handler(signal.SIGTERM, receive)
    signal.signal(signal.SIGUSR1, lambda *_: received.append(2))
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    goes_on = threading.Event()

    def bombard():
        for number in range(1000):
            # Not faster than the loop goes on: what has no room in its pipe is warned of.
            goes_on.wait()
            goes_on.clear()
            os.kill(os.getpid(), (signal.SIGTERM, signal.SIGUSR1)[number % 2])
        loop.call_soon_threadsafe(over.set)

    thread = threading.Thread(target=bombard)
    thread.start()
    echoed = 0
    while not over.is_set():
        await loop.sock_sendall(near, b"x")
        assert await loop.sock_recv(far, 1) == b"x"
        goes_on.set()
        await asyncio.sleep(0.0001)
        echoed += 1
    thread.join()
    near.close()
    far.close()
    return echoed

echoed = carboy.run(main())
print("errors:", errors, "all kinds:", set(received) == {1, 2}, "echoed:", echoed > 0)
"""


def test_signals_during_system_calls_are_nobodys_error() -> None:
    """A system call that a signal breaks off is begun again (PEP 475)."""
    with run_script(SIGNALLED_OFTEN) as process:
        out, err = process.communicate(timeout=60)

    assert (out, err) == ("errors: [] all kinds: True echoed: True\n", "")


def test_sigterm_while_parked_is_a_signal_and_not_an_error() -> None:
    source = """
import asyncio, signal, carboy
async def main():
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    print("parked", flush=True)
    await over.wait()
    print("ends", flush=True)
carboy.run(main())
"""
    with run_script(source) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "parked\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)

    assert (out, err, process.returncode) == ("ends\n", "", 0)


def test_a_wakeup_descriptor_of_somebody_else_stays(loop: carboy.EventLoop) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    seen: list[int] = []

    def look() -> None:
        number = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(number)
        seen.append(number)
        loop.stop()

    loop.call_soon(look)
    loop.run_forever()
    assert seen == [writer]
    assert signal.set_wakeup_fd(previous) == writer
    os.close(reader)
    os.close(writer)
