"""Handlers on threads that wait for each other: none waits for ever for a thread to run on."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import carboy
from carboy import Promise, thread_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

RUNNERS = {"asyncio": asyncio.run, "carboy": carboy.run}


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Any:
    return RUNNERS[request.param]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    yield
    for thread in threading.enumerate():
        if thread.name == "carboy-spare":
            thread.join(10)
            assert not thread.is_alive()


def on_thread(function: Callable[[Any], Any], value: Any = None) -> Promise[Any]:
    return Promise.resolve(value).then(function, on="thread")


def nested(depth: int) -> int:
    """Wait, on a thread, for what is done on another thread, and so on."""
    return 0 if depth == 0 else 1 + on_thread(nested, depth - 1).result(timeout=60)


def test_those_that_wait_for_one_another_may_be_more_than_the_threads(run: Any) -> None:
    assert on_thread(nested, 80).result(timeout=60) == 80

    async def main() -> int:
        return await on_thread(nested, 80)

    assert run(main()) == 80


def test_many_may_wait_for_many() -> None:
    def both(depth: int) -> int:
        if depth == 0:
            return 1
        halves = [on_thread(both, depth - 1), on_thread(both, depth - 1)]
        return sum(half.result(timeout=60) for half in halves)

    assert on_thread(both, 7).result(timeout=60) == 128


def test_what_is_waited_for_by_way_of_async_code_has_a_thread_too() -> None:
    def outer(_: None) -> int:
        async def between() -> int:
            return await on_thread(lambda _: 1)

        return Promise(between()).result(timeout=60) + 1

    promises = [on_thread(outer) for _ in range(40)]
    assert Promise.all(promises).result(timeout=60) == [2] * 40


def test_an_executor_of_one_thread_is_enough() -> None:
    inner_loop = carboy.new_event_loop()
    thread = threading.Thread(target=inner_loop.run_forever)
    thread.start()

    async def inner() -> int:
        return await on_thread(lambda _: 1)

    def outer(_: None) -> int:
        return asyncio.run_coroutine_threadsafe(inner(), inner_loop).result(60)

    async def many() -> list[int]:
        with ThreadPoolExecutor(1) as executor:
            inner_loop.set_default_executor(executor)
            return await Promise.all([on_thread(outer) for _ in range(3)])

    try:
        assert carboy.run(many()) == [1] * 3
    finally:
        inner_loop.call_soon_threadsafe(inner_loop.stop)
        thread.join(10)
        inner_loop.close()


def test_they_run_on_the_executor_as_long_as_one_of_them_works(run: Any) -> None:
    names: list[str] = []

    def note(_: object) -> None:
        names.append(threading.current_thread().name)

    async def main() -> None:
        with ThreadPoolExecutor(1, "the only one") as executor:
            asyncio.get_running_loop().set_default_executor(executor)
            await Promise.all([on_thread(note) for _ in range(20)])

    run(main())
    assert names == ["the only one_0"] * 20


def test_there_are_not_more_and_more_of_them(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(thread_handlers, "MOST_SPARE_THREADS", 2)

    async def main() -> list[int]:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        late, resolve, _ = Promise.with_resolvers()

        class Told(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                loop.call_soon_threadsafe(told.set)

        handler = Told(logging.WARNING)
        logging.getLogger("carboy").addHandler(handler)
        promises = [on_thread(lambda _: late.result(timeout=60)) for _ in range(60)]
        try:
            await asyncio.wait_for(told.wait(), 60)
            spare = [it for it in threading.enumerate() if it.name == "carboy-spare"]
            assert len(spare) == 2
        finally:
            logging.getLogger("carboy").removeHandler(handler)
            resolve(1)
        return await Promise.all(promises)

    assert run(main()) == [1] * 60
    assert "return promises from handlers instead of waiting" in caplog.text


def test_other_work_of_the_executor_may_wait_for_handlers_on_it() -> None:
    loop = carboy.new_event_loop()

    async def main() -> list[int]:
        with ThreadPoolExecutor(2) as executor:
            asyncio.get_running_loop().set_default_executor(executor)
            made = [on_thread(lambda _: 1), on_thread(lambda _: 2)]
            gate = threading.Barrier(2)

            def wait(promise: Promise[int]) -> int:
                gate.wait(60)
                return promise.result(timeout=60)

            # These come first: handlers begin in a turn of their own.
            return await asyncio.gather(*(asyncio.to_thread(wait, promise) for promise in made))

    try:
        assert loop.run_until_complete(main()) == [1, 2]
    finally:
        loop.close()


def test_what_ends_an_iteration_is_told_as_elsewhere() -> None:
    def stop(_: None) -> None:
        raise StopIteration(1)

    error = on_thread(stop).exception(timeout=10)
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


def test_a_handler_that_has_no_thread_yet_can_be_cancelled(run: Any) -> None:
    ran: list[int] = []

    async def main() -> None:
        begun, gate = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as executor:
            loop.set_default_executor(executor)

            def block(_: None) -> None:
                loop.call_soon_threadsafe(begun.set)
                gate.wait(60)

            blocked = on_thread(block)
            await begun.wait()
            queued = on_thread(ran.append)
            for _ in range(5):
                await asyncio.sleep(0)
            queued.cancel()
            # The task behind it is cancelled in a turn of its own.
            for _ in range(5):
                await asyncio.sleep(0)
            gate.set()
            await blocked

    run(main())
    assert ran == []


def test_what_an_executor_drops_is_cancelled(run: Any) -> None:
    async def main() -> None:
        begun, gate = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1)
        loop.set_default_executor(executor)

        def block(_: None) -> None:
            loop.call_soon_threadsafe(begun.set)
            gate.wait(60)

        blocked = on_thread(block)
        await begun.wait()
        dropped = on_thread(str)
        for _ in range(5):
            await asyncio.sleep(0)
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await dropped
        gate.set()
        await blocked
        with pytest.raises(RuntimeError, match="shutdown"):
            await on_thread(str)

    run(main())


def test_nothing_is_kept_of_a_loop_that_is_gone() -> None:
    async def main() -> None:
        await on_thread(str)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None
