"""Handles: their arguments, their memory, and what may happen while they are dropped."""

import asyncio
import contextvars
import gc
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

import carboy


@pytest.fixture
def loop() -> Iterator[carboy.EventLoop]:
    loop = carboy.new_event_loop()
    yield loop
    loop.close()


def run_ready(loop: carboy.EventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_arguments_are_passed_by_position_and_by_name(loop: carboy.EventLoop, method: str) -> None:
    call: Callable[..., asyncio.Handle] = getattr(loop, method)
    seen: list[Any] = []
    context = contextvars.copy_context()
    call(lambda *arguments: seen.append(arguments))
    call(lambda *arguments: seen.append(arguments), 1)
    call(lambda *arguments: seen.append(arguments), 1, "2", None, context=context)
    call(callback=lambda *arguments: seen.append(arguments))
    call(context=None, callback=lambda *arguments: seen.append(arguments))
    run_ready(loop)

    assert seen == [(), (1,), (1, "2", None), (), ()]


def test_timers_take_their_time_by_name(loop: carboy.EventLoop) -> None:
    seen: list[Any] = []
    loop.call_later(delay=0, callback=lambda: seen.append("later"))  # type: ignore[call-arg]
    loop.call_at(loop.time(), seen.append, "at")
    loop.call_at(when=loop.time(), callback=loop.stop)  # type: ignore[call-arg]
    loop.run_forever()

    assert seen == ["later", "at"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda loop: loop.call_soon(), "missing 1 required positional argument: 'callback'"),
        (lambda loop: loop.call_later(1), "missing 1 required positional argument: 'callback'"),
        (lambda loop: loop.call_at(), "missing 1 required positional argument: 'when'"),
        (lambda loop: loop.call_soon(print, end=""), "unexpected keyword argument 'end'"),
        (lambda loop: loop.call_soon(print, context=None, end=""), "argument 'end'"),
        (lambda loop: loop.call_soon(print, callback=print), "multiple values"),
        (lambda loop: loop.call_soon(print, context=1), "Context"),
        (lambda loop: loop.call_later(None, print), "delay must not be None"),
        (lambda loop: loop.call_at(None, print), "when cannot be None"),
        (lambda loop: loop.call_later("1", print), "str"),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    loop: carboy.EventLoop, call: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        call(loop)
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_signatures_are_those_of_asyncio() -> None:
    for name in ("call_soon", "call_soon_threadsafe", "call_later", "call_at"):
        ours = inspect.signature(getattr(carboy.EventLoop, name))
        theirs = inspect.signature(getattr(asyncio.BaseEventLoop, name))
        assert list(ours.parameters) == list(theirs.parameters)
        assert getattr(carboy.EventLoop, name).__doc__


def test_a_handle_knows_its_callback_until_it_is_cancelled(loop: carboy.EventLoop) -> None:
    context = contextvars.copy_context()
    handle: Any = loop.call_soon(print, 1, 2, context=context)
    one: Any = loop.call_later(1, print, 1)
    none: Any = loop.call_soon(print)
    assert (handle._callback, handle._args) == (print, (1, 2))
    assert one._args == (1,)
    assert none._args == ()
    assert handle.get_context() is context
    handle.cancel()
    handle.cancel()
    assert (handle._callback, handle._args) == (None, None)
    assert handle.get_context() is context
    none.cancel()
    one.cancel()


def test_a_callback_may_cancel_its_own_handle(loop: carboy.EventLoop) -> None:
    seen: list[Any] = []
    handles: list[asyncio.Handle] = []

    def cancel(argument: object) -> None:
        handles[0].cancel()
        seen.append(argument)

    handles.append(loop.call_soon(cancel, object()))
    run_ready(loop)

    assert len(seen) == 1
    assert handles[0].cancelled()


def test_memory_that_is_used_again_keeps_nothing_of_the_last_handle(
    loop: carboy.EventLoop,
) -> None:
    order: list[int] = []
    context = contextvars.copy_context()
    for turn in range(3):
        handles = [loop.call_soon(order.append, number, context=context) for number in range(3000)]
        handles[0].cancel()
        references = [weakref.ref(handle) for handle in handles]
        run_ready(loop)
        assert order == list(range(1, 3000))
        assert not handles[1].cancelled()
        del handles
        assert [reference() for reference in references] == [None] * 3000, turn
        order.clear()


def test_a_weak_reference_is_told_of_the_end_of_each_handle(loop: carboy.EventLoop) -> None:
    ended: list[object] = []
    for _ in range(3):
        handle = loop.call_soon(int)
        reference = weakref.ref(handle, ended.append)
        del handle
        run_ready(loop)
        assert ended == [reference]
        ended.clear()


class Node:
    """Refers to itself by way of a handle."""

    handle: asyncio.Handle

    def method(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("is_run", [False, True])
def test_circles_through_handles_are_collected(loop: carboy.EventLoop, is_run: bool) -> None:
    # The second round takes its handles from memory that was freed.
    for _ in range(2):
        references = []
        for number in range(100):
            node = Node()
            if number % 2:
                node.handle = loop.call_soon(node.method)
            else:
                node.handle = loop.call_later(0, node.method)
            if not is_run:
                node.handle.cancel()
            references.append(weakref.ref(node))
        del node
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        gc.collect()
        assert [reference() for reference in references] == [None] * 100


@pytest.mark.filterwarnings("ignore:unclosed event loop")
@pytest.mark.filterwarnings("ignore:unclosed <socket")
def test_circles_through_handles_that_a_run_has_left_are_collected() -> None:
    def run() -> list[weakref.ref[Any]]:
        loop = carboy.new_event_loop()
        node = Node()

        def leave() -> None:
            node.handle = loop.call_soon(node.method)
            loop.stop()

        loop.call_soon(leave)
        loop.run_forever()
        return [weakref.ref(loop), weakref.ref(node), weakref.ref(node.handle)]

    references = run()
    gc.collect()

    assert [reference() for reference in references] == [None] * 3


class SchedulesWhenFreed:
    def __init__(self, loop: carboy.EventLoop, seen: list[str]) -> None:
        self.loop, self.seen = loop, seen

    def __del__(self) -> None:
        self.loop.call_soon(self.seen.append, "freed")

    def method(self) -> None:
        """Do nothing."""


def test_what_is_freed_with_a_handle_may_schedule(loop: carboy.EventLoop) -> None:
    seen: list[str] = []
    # By a callback that was run, by a cancelled one, and by a heap that sheds cancelled timers.
    loop.call_soon(SchedulesWhenFreed(loop, seen).method)
    loop.call_soon(SchedulesWhenFreed(loop, seen).method).cancel()
    for _ in range(300):
        loop.call_later(1000, SchedulesWhenFreed(loop, seen).method).cancel()
    run_ready(loop)
    run_ready(loop)

    assert seen == ["freed"] * 302


def test_handles_are_made_and_freed_by_many_threads(loop: carboy.EventLoop) -> None:
    counted = [0] * 4

    def count(thread: int) -> None:
        counted[thread] += 1

    def work(thread: int) -> None:
        for number in range(2000):
            handle = loop.call_soon_threadsafe(count, thread)
            if number % 4 == 0:
                # It may run before it is cancelled, so it does not count.
                loop.call_soon_threadsafe(int).cancel()
            del handle

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]

    def join() -> None:
        for thread in threads:
            thread.join()
        loop.call_soon_threadsafe(loop.stop)

    controller = threading.Thread(target=join)
    loop.call_soon(lambda: [thread.start() for thread in (*threads, controller)])
    loop.run_forever()
    controller.join()

    assert counted == [2000] * 4


def test_a_timer_has_what_others_read_of_asyncios_own() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        fired = asyncio.Event()
        timer: Any = loop.call_later(0.001, fired.set)
        assert timer._when == timer.when()
        assert timer._scheduled
        await fired.wait()
        assert not timer._scheduled

    carboy.run(main())


@pytest.mark.parametrize("when", [7, Fraction(15, 2), True])
def test_a_timer_keeps_the_time_that_it_was_given(loop: carboy.EventLoop, when: Any) -> None:
    timer = loop.call_at(when, print)
    own: Any = timer
    assert timer.when() is when
    assert own._when is when
    assert f"when={when!r} " in repr(timer)
    timer.cancel()
    later = loop.call_later(1, print)
    assert type(later.when()) is float
    later.cancel()
