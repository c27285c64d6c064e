"""What is left when a loop ends: async generators, executors, and threads that still call.

What asyncio does is what is asserted, on CPython's own loop too.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest

import carboy


@pytest.fixture(params=[asyncio.new_event_loop, carboy.new_event_loop], ids=["asyncio", "carboy"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = request.param()
    yield loop
    loop.close()


async def generator(events: list[str]) -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        events.append("closed")


def test_an_async_generator_that_nobody_holds_is_closed_on_the_loop(
    loop: asyncio.AbstractEventLoop,
) -> None:
    events: list[str] = []

    async def main() -> None:
        async for _ in generator(events):
            break
        gc.collect()
        while not events:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert events == ["closed"]


def test_async_generators_that_are_not_finished_are_closed_at_the_shutdown(
    loop: asyncio.AbstractEventLoop,
) -> None:
    events: list[str] = []
    kept = [generator(events), generator(events)]

    async def main() -> None:
        for unfinished in kept:
            assert await anext(unfinished) == 1

    loop.run_until_complete(main())
    assert events == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert events == ["closed", "closed"]


def test_an_async_generator_that_can_not_be_closed_is_reported(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def failing() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("does not close")

    unfinished = failing()
    reported: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))

    async def main() -> None:
        await anext(unfinished)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert reported[0]["asyncgen"] is unfinished
    assert str(reported[0]["exception"]) == "does not close"
    assert "an error occurred during closing of asynchronous generator" in str(
        reported[0]["message"]
    )


def test_an_async_generator_that_begins_after_the_shutdown_is_warned_of(
    loop: asyncio.AbstractEventLoop,
) -> None:
    late = generator([])

    async def begin() -> None:
        await loop.shutdown_asyncgens()
        await anext(late)
        await late.aclose()  # type: ignore[attr-defined]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(begin())

    (warning,) = caught
    assert warning.category is ResourceWarning
    assert "was scheduled after loop.shutdown_asyncgens() call" in str(warning.message)


def test_the_hooks_of_async_generators_are_put_back(loop: asyncio.AbstractEventLoop) -> None:
    before = sys.get_asyncgen_hooks()

    async def main() -> object:
        return sys.get_asyncgen_hooks()

    assert loop.run_until_complete(main()) != before
    assert sys.get_asyncgen_hooks() == before


def test_the_default_executor_is_waited_for(loop: asyncio.AbstractEventLoop) -> None:
    may_end = threading.Event()
    ended: list[bool] = []

    def work() -> None:
        ended.append(may_end.wait(20))

    async def main() -> None:
        future = loop.run_in_executor(None, work)
        loop.call_soon(may_end.set)
        await loop.shutdown_default_executor()
        assert ended == [True]
        await future
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, work)

    loop.run_until_complete(main())


@pytest.mark.skipif(
    sys.version_info < (3, 12, 2),
    reason="shutdown_default_executor(timeout) is of CPython 3.12, and waits for ever in 3.12.1",
)
def test_the_default_executor_is_waited_for_no_longer_than_said(
    loop: asyncio.AbstractEventLoop,
) -> None:
    may_end = threading.Event()

    async def main() -> None:
        future = loop.run_in_executor(None, may_end.wait, 20)
        with pytest.warns(RuntimeWarning, match="The executor did not finishing joining"):
            await loop.shutdown_default_executor(timeout=0.05)
        may_end.set()
        await future

    loop.run_until_complete(main())


def test_calls_of_other_threads_at_the_end_of_a_loop_are_kept_or_refused(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """No call is lost without a word, and none comes up after the end."""
    accepted: list[int] = []
    refused: list[BaseException] = []
    called: list[int] = []
    begun = threading.Barrier(5)

    def call(thread: int) -> None:
        begun.wait(20)
        for number in range(100_000):
            try:
                loop.call_soon_threadsafe(called.append, number)
            except RuntimeError as error:
                refused.append(error)
                return
            accepted.append(number)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    loop.call_soon(begun.wait)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    at_the_end = len(called)
    for thread in threads:
        thread.join(20)

    assert len(called) == at_the_end
    assert {str(error) for error in refused} <= {"Event loop is closed"}
    assert len(accepted) >= len(called) > 0


def test_a_closed_loop_writes_to_nobodys_descriptor(loop: asyncio.AbstractEventLoop) -> None:
    """The descriptors of a loop get other owners once it is closed."""
    signal_handler = signal.getsignal(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, print)
    handle = loop.call_later(1000, print)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1
    pipes = [os.pipe() for _ in range(10)]
    for reader, _ in pipes:
        os.set_blocking(reader, False)

    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon_threadsafe(print)
    loop.stop()
    handle.cancel()
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal_handler

    for reader, writer in pipes:
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        os.close(reader)
        os.close(writer)
