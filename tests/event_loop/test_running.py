"""Running coroutines on carboy's loop: results, errors, cancellation, closing."""

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import carboy


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def loop() -> Iterator[carboy.EventLoop]:
    loop = carboy.new_event_loop()
    yield loop
    loop.close()


def test_run_returns_the_result_and_raises_the_error() -> None:
    async def main(error: Exception | None) -> str:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return "result"

    assert carboy.run(main(None)) == "result"
    with pytest.raises(ValueError, match="raised"):
        carboy.run(main(ValueError("raised")))


def test_run_uses_carboys_loop_and_asyncios_task() -> None:
    async def main() -> tuple[Any, Any, bool]:
        loop = asyncio.get_running_loop()
        return type(loop), type(asyncio.current_task()), loop.is_running()

    assert carboy.run(main()) == (carboy.EventLoop, asyncio.Task, True)


def test_a_runner_runs_several_coroutines_on_one_loop() -> None:
    seen: list[Any] = []

    async def main() -> None:
        seen.append(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=carboy.new_event_loop) as runner:
        runner.run(main())
        runner.run(main())

    assert seen[0] is seen[1]
    assert seen[0].is_closed()


def test_run_cancels_what_is_left_and_closes_async_generators() -> None:
    events: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")

    async def generator():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            events.append("closed")

    kept: list[Any] = []

    async def main() -> None:
        kept.append(asyncio.create_task(background()))
        kept.append(generator())
        await anext(kept[1])

    carboy.run(main())

    assert sorted(events) == ["cancelled", "closed"]


def test_run_refuses_what_asyncio_refuses() -> None:
    async def main() -> None:
        coroutine = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            carboy.run(coroutine)
        coroutine.close()

    carboy.run(main())
    with pytest.raises(ValueError, match="coroutine was expected"):
        carboy.run(1)  # type: ignore[arg-type]


def test_structured_concurrency() -> None:
    async def main() -> list[Any]:
        results: list[Any] = []
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.002 * n, n)) for n in (3, 1, 2)]
        results.append([task.result() for task in tasks])
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            results.append("timeout")
        results.append(await asyncio.to_thread(threading.current_thread) is not None)
        results.append(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)))
        task = asyncio.create_task(asyncio.sleep(10))
        task.cancel("why")
        try:
            await task
        except asyncio.CancelledError as error:
            results.append(error.args)
        return results

    assert carboy.run(main()) == [[3, 1, 2], "timeout", True, [1, 2], ("why",)]


def test_call_soon_is_first_in_first_out(loop: carboy.EventLoop) -> None:
    order: list[int] = []

    def more(number: int) -> None:
        order.append(number)
        if number < 3:
            loop.call_soon(order.append, number + 10)

    for number in range(5):
        loop.call_soon(more, number)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()

    assert order == [0, 1, 2, 3, 4, 10, 11, 12]


def test_callbacks_that_are_ready_at_a_stop_still_run_and_later_ones_wait(
    loop: carboy.EventLoop,
) -> None:
    order: list[str] = []
    loop.call_soon(lambda: (loop.stop(), loop.call_soon(order.append, "next run")))
    loop.call_soon(order.append, "same run")
    loop.run_forever()
    assert order == ["same run"]

    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["same run", "next run"]


def test_timers_fire_in_order_and_equal_ones_as_they_were_made(loop: carboy.EventLoop) -> None:
    order: list[int] = []
    at = loop.time() + 0.02
    for number in range(200):
        loop.call_at(at, order.append, number)
    loop.call_at(at - 0.01, order.append, -1)
    cancelled = [loop.call_at(at, order.append, 1000) for _ in range(200)]
    for handle in cancelled:
        handle.cancel()
    loop.call_at(at + 0.01, loop.stop)
    loop.run_forever()

    assert order == [-1, *range(200)]


@pytest.mark.parametrize("delay", [0, 0.0, -1, 0.03])
def test_a_timer_never_fires_early(loop: carboy.EventLoop, delay: float) -> None:
    fired: list[float] = []
    started = loop.time()
    handle = loop.call_later(delay, lambda: (fired.append(loop.time()), loop.stop()))
    assert handle.when() == pytest.approx(started + delay, abs=0.01)
    loop.run_forever()

    assert fired[0] >= started + delay


def test_the_clock_is_the_monotonic_one(loop: carboy.EventLoop) -> None:
    assert loop.time() == pytest.approx(time.monotonic(), abs=0.1)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_callbacks_run_in_the_very_context_that_was_given(loop: carboy.EventLoop) -> None:
    context = contextvars.Context()
    seen: list[str] = []

    def note() -> None:
        seen.append(variable.get())
        variable.set(f"{variable.get()}+")

    loop.call_soon(note, context=context)
    loop.call_soon(note, context=context)
    loop.call_later(0.001, note, context=context)
    loop.call_soon_threadsafe(note, context=context)
    variable.set("outside")
    loop.call_soon(note)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    variable.set("unset")

    assert seen == ["unset", "unset+", "unset++", "outside", "unset+++"]
    assert context[variable] == "unset++++"


def test_threads_wake_a_loop_that_is_parked(loop: carboy.EventLoop) -> None:
    count = 2000
    order: dict[int, list[int]] = {number: [] for number in range(4)}

    def send(thread: int) -> None:
        for number in range(count):
            loop.call_soon_threadsafe(order[thread].append, number)

    def send_all() -> None:
        threads = [threading.Thread(target=send, args=(n,)) for n in order]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        loop.call_soon_threadsafe(loop.stop)

    controller = threading.Thread(target=send_all)
    loop.call_later(0.01, controller.start)
    loop.run_forever()
    controller.join()

    assert all(received == list(range(count)) for received in order.values())


def test_the_gil_is_free_while_the_loop_is_parked(loop: carboy.EventLoop) -> None:
    counted = 0

    def count() -> None:
        nonlocal counted
        deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline:
            counted += 1
        loop.call_soon_threadsafe(loop.stop)

    threading.Thread(target=count).start()
    loop.run_forever()

    assert counted > 10_000


def test_an_error_in_a_callback_goes_to_the_exception_handler(loop: carboy.EventLoop) -> None:
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))

    def fail() -> None:
        raise ValueError("in the callback")

    handle = loop.call_soon(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert contexts[0]["handle"] is handle
    assert str(contexts[0]["exception"]) == "in the callback"
    assert "fail" in contexts[0]["message"]


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


def test_a_handle_may_be_cancelled(loop: carboy.EventLoop) -> None:
    called: list[str] = []
    soon = loop.call_soon(called.append, "soon")
    later = loop.call_later(0, called.append, "later")
    other = loop.call_soon(called.append, "other")
    soon.cancel()
    later.cancel()
    assert soon.cancelled()
    assert later.cancelled()
    assert not other.cancelled()
    assert "cancelled" in repr(soon)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()

    assert called == ["other"]


def test_a_closed_loop_refuses_work() -> None:
    loop = carboy.new_event_loop()
    loop.close()
    loop.close()

    assert loop.is_closed()
    for use in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.call_soon_threadsafe(print),
        loop.run_forever,
        lambda: loop.run_in_executor(None, print),
    ):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            use()
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_until_complete(coroutine)
    coroutine.close()


def test_a_running_loop_refuses_to_run_or_close(loop: carboy.EventLoop) -> None:
    errors: list[str] = []

    def misuse() -> None:
        for use in (loop.run_forever, loop.close):
            try:
                use()
            except RuntimeError as error:
                errors.append(str(error))
        loop.stop()

    loop.call_soon(misuse)
    loop.run_forever()

    assert len(errors) == 2
    assert all("running" in error for error in errors)


def test_a_loop_may_run_on_one_thread_and_then_on_another(loop: carboy.EventLoop) -> None:
    results: list[int] = [loop.run_until_complete(asyncio.sleep(0, 1))]
    thread = threading.Thread(
        target=lambda: results.append(loop.run_until_complete(asyncio.sleep(0, 2)))
    )
    thread.start()
    thread.join()
    results.append(loop.run_until_complete(asyncio.sleep(0, 3)))

    assert results == [1, 2, 3]


def test_debug_mode_finds_slow_callbacks_and_calls_from_other_threads(
    loop: carboy.EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    assert loop.get_debug()
    errors: list[str] = []

    def from_a_thread() -> None:
        try:
            loop.call_soon(print)
        except RuntimeError as error:
            errors.append(str(error))

    def slow() -> None:
        time.sleep(0.02)
        thread = threading.Thread(target=from_a_thread)
        thread.start()
        thread.join()

    loop.call_soon(slow)
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert any("took" in record.getMessage() for record in caplog.records)
    assert "Non-thread-safe" in errors[0]
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.call_soon(asyncio.sleep)


def test_a_loop_that_was_closed_is_freed_with_its_descriptors() -> None:
    carboy.run(asyncio.sleep(0))
    gc.collect()
    before = open_descriptors()
    loops = []
    for _ in range(20):
        loop = carboy.new_event_loop()
        loop.call_later(1000, print)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        loops.append(weakref.ref(loop))
    del loop
    gc.collect()

    assert open_descriptors() <= before
    assert [reference() for reference in loops] == [None] * 20


@pytest.mark.filterwarnings("ignore:unclosed event loop")
@pytest.mark.filterwarnings("ignore:unclosed <socket")
def test_a_loop_that_was_never_closed_is_freed_with_its_descriptors() -> None:
    gc.collect()
    before = open_descriptors()
    loop = carboy.new_event_loop()
    loop.call_soon(loop.stop)
    loop.call_later(1000, loop.stop)
    reference = weakref.ref(loop)
    del loop
    gc.collect()

    assert reference() is None
    assert open_descriptors() <= before


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
    with run_script(source) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)

    assert (out, err, process.returncode) == ("interrupted\n", "", 0)


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
