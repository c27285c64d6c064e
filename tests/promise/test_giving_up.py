"""Giving up: upwards by interest, and never without what ``finally_`` was given."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from promise.test_chains import in_sync_code, on_asyncio, on_carboy
from promise.test_combinators import never

import carboy
from carboy import Promise, deadline

if TYPE_CHECKING:
    from collections.abc import Callable

RUNNERS = {"asyncio": asyncio.run, "carboy": carboy.run}


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Any:
    return RUNNERS[request.param]


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_in_async_code_it_runs_in_its_turn(run: Any) -> None:
    async def main() -> None:
        ran: list[str] = []
        never().finally_(lambda: ran.append("finally")).cancel()
        assert ran == []
        await turns()
        assert ran == ["finally"]

    run(main())


def test_it_runs_from_the_source_outwards_as_nested_blocks_would() -> None:
    ran: list[str] = []
    inner = never().finally_(lambda: ran.append("inner"))
    outer = inner.then(str).finally_(lambda: ran.append("outer"))
    outer.then(print).cancel()
    assert ran == ["inner", "outer"]
    assert inner.cancelled()
    assert outer.cancelled()


def test_it_runs_although_the_source_goes_on_for_others() -> None:
    ran: list[str] = []
    source, resolve, _ = Promise.with_resolvers()
    other = source.then(lambda value: value)
    source.finally_(lambda: ran.append("finally")).cancel()
    assert ran == ["finally"]
    resolve(1)
    assert other.result() == 1
    assert ran == ["finally"]


@pytest.mark.parametrize("wait", [in_sync_code, on_asyncio, on_carboy])
def test_it_runs_once_whatever_comes_first(wait: Callable[..., Any]) -> None:
    ran: list[str] = []

    def make() -> Promise[Any]:
        settled = Promise.resolve(1).finally_(lambda: ran.append("finally"))
        return settled.finally_(settled.cancel).then(lambda value: (value, settled.cancel()))

    assert wait(make) == (1, False)
    assert ran == ["finally"]


def test_what_it_returns_is_awaited_and_not_cancelled_again(run: Any) -> None:
    async def main() -> list[str]:
        ended: list[str] = []
        may_end = asyncio.Event()

        async def clean_up() -> None:
            await may_end.wait()
            ended.append("cleaned up")

        promise = never().finally_(clean_up)
        promise.cancel()
        await turns()
        promise.cancel()
        may_end.set()
        await turns(10)
        return ended

    assert run(main()) == ["cleaned up"]


def test_what_it_raises_after_a_cancellation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("of the cleanup")

    with caplog.at_level(logging.ERROR, "carboy"):
        never().finally_(fail).cancel()
    assert "ValueError: of the cleanup" in caplog.text
    assert "finally_, made at" in caplog.text


def test_the_end_of_the_program_is_raised_by_cancel() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        never().finally_(interrupt).cancel()


def test_within_a_handler_it_waits_until_that_has_ended() -> None:
    order: list[str] = []

    def handler(_: object) -> None:
        never().finally_(lambda: order.append("finally")).cancel()
        order.append("handler")

    Promise.resolve().then(handler).then(lambda _: None).result()
    assert order == ["handler", "finally"]


def test_cancellation_passes_what_catches_exceptions() -> None:
    seen: list[object] = []
    source = never()
    last = source.catch(seen.append).or_else(1).settle(seen.append).then(None, seen.append)
    source.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        last.result()
    assert seen == []


def test_who_asks_for_it_catches_cancellation() -> None:
    source = never()
    caught = source.catch(asyncio.CancelledError, lambda error: str(error))
    source.cancel("enough")
    assert caught.result() == "enough"


def test_a_source_goes_on_as_long_as_one_is_interested(run: Any) -> None:
    async def main() -> list[bool]:
        source = never()
        consumers = [source.then(print), source.tap(print), source.timeout(60), source["a"]]
        task = asyncio.ensure_future(wait_for(source))
        await turns()
        seen = []
        for consumer in consumers:
            seen.append(source.cancelled())
            consumer.cancel()
        seen.append(source.cancelled())
        task.cancel()
        await asyncio.wait([task])
        return [*seen, source.cancelled()]

    async def wait_for(promise: Promise[Any]) -> Any:
        return await promise

    assert run(main()) == [False, False, False, False, False, True]


def test_a_result_that_is_not_waited_for_any_more_leaves_the_promise_alone() -> None:
    promise, resolve, _ = Promise.with_resolvers()
    with pytest.raises(TimeoutError):
        promise.result(timeout=0.001)
    assert not promise.done()
    resolve(1)
    assert promise.result() == 1


def test_a_shield_and_what_is_shielded_go_their_own_ways() -> None:
    source, resolve, _ = Promise.with_resolvers()
    shielded = source.shield()
    source.then(print).cancel()
    shielded.cancel()
    assert not source.done()
    resolve(1)
    assert source.result() == 1
    source = never()
    shielded = source.shield()
    source.cancel()
    with pytest.raises(asyncio.CancelledError):
        shielded.result()


def test_shielding_and_detaching_leave_no_memory_behind() -> None:
    class Value:
        pass

    references = []
    for _ in range(3):
        promise, resolve, reject = Promise.with_resolvers()
        promise.shield().detach("kept")
        value = Value()
        references.append(weakref.ref(value))
        resolve(value)
        del value, promise, resolve, reject
    # Sync code goes on before what is queued: the shields are told when it looks or waits.
    assert Promise.resolve().done()
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_a_wait_in_another_thread_is_woken() -> None:
    import threading

    promise = never()
    errors: list[BaseException | None] = []
    thread = threading.Thread(target=lambda: errors.append(promise.exception(timeout=10)))
    thread.start()
    promise.cancel()
    thread.join()
    assert [type(error) for error in errors] == [asyncio.CancelledError]


def test_a_cycle_of_a_promise_and_its_handler_is_collected() -> None:
    class Held:
        promise: Any = None

    def make() -> weakref.ref[Held]:
        held = Held()
        held.promise, _, _ = Promise.with_resolvers()
        held.promise.then(lambda _: held)
        return weakref.ref(held)

    reference = make()
    gc.collect()
    assert reference() is None


def result_at_once(source: Promise[Any]) -> None:
    with contextlib.suppress(TimeoutError):
        source.result(timeout=0)


GIVING_UP: dict[str, Callable[[Promise[Any]], object]] = {
    "then": lambda source: source.then(str).cancel(),
    "finally_": lambda source: source.finally_(lambda: None).cancel(),
    "shield": lambda source: source.shield().cancel(),
    "timeout": lambda source: source.timeout(0.001).cancel(),
    "all": lambda source: Promise.all(source, source).cancel(),
    "race": lambda source: Promise.race(source, Promise.resolve(1)).result(),
    "any": lambda source: Promise.any(Promise.resolve(1), source).result(),
    "result": lambda source: result_at_once(source),
    "deadline": lambda source: deadline(0)(result_at_once)(source),
}


def resident_bytes() -> int:
    with open("/proc/self/statm") as statistics:
        return int(statistics.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", GIVING_UP)
def test_those_who_give_a_pending_promise_up_leave_no_memory_behind(kind: str) -> None:
    source, resolve, _ = Promise.with_resolvers()
    source.detach("kept")
    give_up = GIVING_UP[kind]
    sizes = []
    for _ in range(6):
        for _ in range(8_000):
            give_up(source)
        sizes.append(resident_bytes())
    # What leaks, 150 bytes at least for each, does so in each round.
    grown = min(after - before for before, after in itertools.pairwise(sizes))
    assert grown < 600_000
    resolve(1)
    assert source.result() == 1


def test_tasks_that_give_a_pending_promise_up_leave_no_memory_behind(run: Any) -> None:
    async def main() -> int:
        source = never().detach("kept")

        async def wait() -> None:
            await source

        for _ in range(1_000):
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
            await turns(3)
        waits = [one for one in gc.get_objects() if type(one).__name__ == "PromiseAwaiter"]
        return len(waits)

    assert run(main()) < 100
