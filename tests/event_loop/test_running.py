"""Running coroutines and callbacks on carboy's loop: results, errors, order, closing."""

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest

import carboy


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


def test_timers_of_the_past_fire_at_once_in_the_order_of_their_times(
    loop: carboy.EventLoop,
) -> None:
    order: list[object] = []
    loop.call_later(-1, order.append, -1)
    loop.call_later(0, order.append, 0)
    loop.call_later(-3, order.append, -3)
    loop.call_later(-2, order.append, -2)
    # What is ready already comes before them.
    loop.call_soon(order.append, "soon")
    loop.call_soon(loop.stop)
    loop.call_at(float("-inf"), order.append, "before all time")
    loop.run_forever()

    assert order == ["soon", "before all time", -3, -2, -1, 0]


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
