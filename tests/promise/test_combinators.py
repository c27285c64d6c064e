"""Several promises as one, in sync and in async code alike."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from promise.test_chains import failed, in_sync_code, on_asyncio, on_carboy

from carboy import Promise
from carboy.promise import Fulfilled, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def later(value: Any, turns: int = 1) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


def never() -> Promise[Any]:
    return Promise.with_resolvers()[0]


ERROR = ValueError()

CASES: dict[str, tuple[Callable[[], Promise[Any]], Any]] = {
    "all of arguments": (lambda: Promise.all(Promise(later(1)), later(2)), (1, 2)),
    "all of a list": (lambda: Promise.all([Promise(later(1, 3)), Promise(later(2))]), [1, 2]),
    "all of a dict": (lambda: Promise.all({"a": later(1), "b": later(2)}), {"a": 1, "b": 2}),
    "all of a generator": (lambda: Promise.all(later(n) for n in range(3)), [0, 1, 2]),
    "all of one": (lambda: Promise.all(Promise.resolve(1)), (1,)),
    "all of values": (lambda: Promise.all(1, "two"), (1, "two")),
    "all of nothing": (lambda: Promise.all(), ()),
    "all of an empty list": (lambda: Promise.all([]), []),
    "all_settled": (
        lambda: Promise.all_settled(later(1), Promise.reject(ERROR)),
        (Fulfilled(1), Rejected(ERROR)),
    ),
    "all_settled of a dict": (
        lambda: Promise.all_settled({"a": Promise.reject(ERROR)}),
        {"a": Rejected(ERROR)},
    ),
    "any": (lambda: Promise.any(Promise.reject(ERROR), later(2, 3), never()), 2),
    "race": (lambda: Promise.race([never(), later(1)]), 1),
    "race of settled": (lambda: Promise.race(Promise.resolve(1), Promise.resolve(2)), 1),
    "map": (lambda: Promise.map(range(5), later), [0, 1, 2, 3, 4]),
    "map with a bound": (
        lambda: Promise.map(range(5), lambda n: later(n, 5 - n), concurrency=2),
        [0, 1, 2, 3, 4],
    ),
    "map of nothing": (lambda: Promise.map([], later, concurrency=2), []),
    "call": (lambda: Promise.call(max, 1, 2), 2),
    "call with promises": (
        lambda: Promise.call(dict, [("a", 1)], b=Promise(later(2)), c=3),
        {"a": 1, "b": 2, "c": 3},
    ),
    "call of a coroutine function": (lambda: Promise.call(later, Promise(later(2))), 2),
    "item": (lambda: Promise.resolve({"a": [1, 2]})["a"][1], 2),
    "timeout with a default": (lambda: never().timeout(0.001, None), None),
    "timeout in time": (lambda: Promise(later(1)).timeout(10), 1),
    "shield": (lambda: Promise(later(1)).shield(), 1),
}


@pytest.mark.parametrize("wait", [in_sync_code, on_asyncio, on_carboy])
@pytest.mark.parametrize("case", CASES)
def test_a_promise_has_the_value(case: str, wait: Any) -> None:
    make, expected = CASES[case]
    assert wait(make) == expected


FAILURES: dict[str, tuple[Callable[[], Promise[Any]], type[BaseException]]] = {
    "all": (lambda: Promise.all(never(), failed(KeyError())), KeyError),
    "any": (lambda: Promise.any(failed(KeyError()), failed(ValueError())), ExceptionGroup),
    "any of nothing": (lambda: Promise.any(), ValueError),
    "race": (lambda: Promise.race(never(), failed(KeyError())), KeyError),
    "map": (lambda: Promise.map([KeyError()], failed, concurrency=2), KeyError),
    "call": (lambda: Promise.call(int, "x"), ValueError),
    "call with a failure": (lambda: Promise.call(print, Promise.reject(KeyError())), KeyError),
    "timeout": (lambda: never().timeout(0.001), TimeoutError),
}


@pytest.mark.parametrize("wait", [in_sync_code, on_asyncio, on_carboy])
@pytest.mark.parametrize("case", FAILURES)
def test_a_promise_has_the_error(case: str, wait: Any) -> None:
    make, expected = FAILURES[case]
    with pytest.raises(expected):
        wait(make)


def test_map_waits_for_no_more_than_its_bound() -> None:
    running = most = 0

    async def work(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await later(None, 3)
        running -= 1

    Promise.map(range(20), work, concurrency=3).result()
    assert (running, most) == (0, 3)


@pytest.mark.parametrize(
    ("combine", "cancels"),
    [
        (lambda *promises: Promise.all(*promises, Promise.reject(ERROR)), True),
        (lambda *promises: Promise.any(*promises, Promise.resolve(1)), True),
        (lambda *promises: Promise.race(*promises, Promise.resolve(1)), True),
        (lambda *promises: Promise.all_settled(*promises, Promise.reject(ERROR)), False),
        (lambda promise: promise.timeout(0), True),
    ],
    ids=["all", "any", "race", "all_settled", "timeout"],
)
def test_what_nobody_waits_for_any_more_is_cancelled(combine: Any, cancels: bool) -> None:
    async def main() -> tuple[bool, bool]:
        loser = never()
        combined = combine(loser)
        await asyncio.sleep(0.01)
        seen = (combined.done(), loser.cancelled())
        combined.cancel()
        return seen

    assert asyncio.run(main()) == (cancels, cancels)


def test_a_source_with_other_consumers_is_not_cancelled() -> None:
    source = never()
    one, other = source.then(print), source.then(print)
    one.cancel()
    assert not source.cancelled()
    other.cancel()
    assert source.cancelled()


def test_a_shield_keeps_its_source() -> None:
    source = never()
    source.shield().cancel()
    assert not source.cancelled()


def test_cancelling_ends_the_task_that_works_for_the_promise() -> None:
    async def main() -> list[str]:
        ended: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("work")

        promise = Promise(work())
        last = promise.then(print)
        await asyncio.sleep(0)
        last.cancel()
        await asyncio.sleep(0.01)
        assert promise.cancelled()
        return ended

    assert asyncio.run(main()) == ["work"]


def test_cancelling_runs_what_finally_was_given() -> None:
    ran: list[str] = []
    never().finally_(lambda: ran.append("finally")).cancel()
    assert ran == ["finally"]


def test_cancelling_a_task_that_awaits_gives_up_its_interest_only() -> None:
    async def main() -> tuple[bool, bool]:
        promise = never()

        async def wait() -> None:
            await promise

        tasks = [asyncio.create_task(wait()) for _ in range(2)]
        await asyncio.sleep(0)
        states = []
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])
            states.append(promise.cancelled())
        return states[0], states[1]

    assert asyncio.run(main()) == (False, True)


@pytest.mark.parametrize("concurrency", [None, 2])
def test_items_that_end_with_an_error_end_what_was_begun_for_them(concurrency: int | None) -> None:
    begun: list[Promise[Any]] = []

    def begin(_: int) -> Promise[Any]:
        begun.append(never())
        return begun[-1]

    def items() -> Iterator[int]:
        yield 1
        raise ERROR

    assert Promise.map(items(), begin, concurrency=concurrency).exception() is ERROR
    assert [promise.cancelled() for promise in begun] == [True]
