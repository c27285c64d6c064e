"""Promises that would wait for each other for ever are rejected, and told where they were made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import carboy
from carboy import Promise

if TYPE_CHECKING:
    from collections.abc import Callable

EVER = "they would wait for each other for ever"


def in_sync_code(make: Callable[[], list[Promise[Any]]]) -> list[BaseException | None]:
    return [promise.exception(timeout=10) for promise in make()]


def on_loop(run: Callable[..., Any]) -> Callable[..., list[BaseException | None]]:
    def errors_of(make: Callable[[], list[Promise[Any]]]) -> list[BaseException | None]:
        async def error_of(promise: Promise[Any]) -> BaseException | None:
            try:
                await asyncio.wait_for(promise, 10)
            except TypeError as error:
                return error
            return None

        async def main() -> list[BaseException | None]:
            return [await error_of(promise) for promise in make()]

        errors: list[BaseException | None] = run(main())
        return errors

    return errors_of


@pytest.fixture(params=[in_sync_code, on_loop(asyncio.run), on_loop(carboy.run)])
def errors_of(request: pytest.FixtureRequest) -> Any:
    """Return a function that gives the errors of promises, which it makes itself."""
    return request.param


def each_other() -> list[Promise[Any]]:
    one, resolve_one, _ = Promise.with_resolvers()
    other, resolve_other, _ = Promise.with_resolvers()
    resolve_one(other)
    resolve_other(one)
    return [one, other]


def its_own_then() -> list[Promise[Any]]:
    promise, resolve, _ = Promise.with_resolvers()
    after = promise.then(str)
    resolve(after)
    return [promise, after]


def a_handler_that_returns_its_own() -> list[Promise[Any]]:
    made: list[Promise[Any]] = []
    made.append(Promise.resolve(1).then(lambda _: made[1]))
    made.append(made[0].then(str))
    return made


async def gives(what: list[Promise[Any]]) -> Promise[Any]:
    await asyncio.sleep(0)
    return what[1]


def a_coroutine_that_returns_its_own() -> list[Promise[Any]]:
    made: list[Promise[Any]] = []
    made.append(Promise.resolve(1).then(lambda _: gives(made)))
    made.append(made[0].then(str))
    return made


def a_combination(combine: Callable[[Promise[Any]], Promise[Any]]) -> Any:
    def make() -> list[Promise[Any]]:
        promise, resolve, _ = Promise.with_resolvers()
        combined = combine(promise)
        resolve(combined)
        return [promise, combined]

    return make


CYCLES: dict[str, Callable[[], list[Promise[Any]]]] = {
    "each other": each_other,
    "its own then": its_own_then,
    "a handler": a_handler_that_returns_its_own,
    "a coroutine": a_coroutine_that_returns_its_own,
    "all": a_combination(lambda promise: Promise.all({"a": promise.tap(str), "b": 1})),
    "race": a_combination(lambda promise: Promise.race(promise, Promise.with_resolvers()[0])),
    "shield": a_combination(lambda promise: promise.shield()),
    "timeout": a_combination(lambda promise: promise.timeout(60)),
    "finally_": a_combination(lambda promise: promise.finally_(list)),
    "item": a_combination(lambda promise: promise["key"]),
    "an argument": a_combination(lambda promise: Promise.call(str, promise)),
}


@pytest.mark.parametrize("name", CYCLES)
def test_those_that_wait_for_each_other_are_told(name: str, errors_of: Any) -> None:
    for error in errors_of(CYCLES[name]):
        assert isinstance(error, TypeError)
        assert EVER in str(error)


def test_both_places_are_named(errors_of: Any) -> None:
    _, error = errors_of(each_other)
    first = each_other.__code__.co_firstlineno
    assert f"(the promise: with_resolvers, made at {__file__}:{first + 2} in each_other;" in str(
        error
    )
    assert f"waits for it: with_resolvers, made at {__file__}:{first + 1} in each_other)" in str(
        error
    )


def test_a_cycle_may_be_long(errors_of: Any) -> None:
    def make() -> list[Promise[Any]]:
        promise, resolve, _ = Promise.with_resolvers()
        last = promise
        for _ in range(1_000):
            last = last.then(str)
        resolve(last)
        return [promise, last]

    for error in errors_of(make):
        assert EVER in str(error)


def test_what_waits_for_the_same_is_no_cycle() -> None:
    promise, resolve, _ = Promise.with_resolvers()
    source, resolve_source, _ = Promise.with_resolvers()
    after = promise.then(lambda value: value + 1)
    resolve(Promise.all(source, source.then(str)).then(lambda both: both[0]))
    resolve_source(1)
    assert after.result(timeout=10) == 2


def test_cancelling_a_shield_leaves_its_promise_alone() -> None:
    promise, resolve, _ = Promise.with_resolvers()
    shield = promise.shield()
    shield.cancel()
    assert not promise.cancelled()
    resolve(1)
    assert promise.result(timeout=10) == 1
