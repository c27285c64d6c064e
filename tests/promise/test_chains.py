"""What handlers get and what becomes of what they return, in sync and in async code alike."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

import carboy
from carboy import Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Settle = "Callable[[Callable[[], Promise[Any]]], Any]"


def in_sync_code(make: Callable[[], Promise[Any]]) -> Any:
    return make().result(timeout=10)


def on_asyncio(make: Callable[[], Promise[Any]]) -> Any:
    async def main() -> Any:
        return await make()

    return asyncio.run(main())


def on_carboy(make: Callable[[], Promise[Any]]) -> Any:
    async def main() -> Any:
        return await make()

    return carboy.run(main())


@pytest.fixture(params=[in_sync_code, on_asyncio, on_carboy])
def value_of(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a function that waits for a promise, which it makes itself."""
    return request.param


async def doubled(value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


async def failed(error: BaseException) -> int:
    await asyncio.sleep(0)
    raise error


def raises(error: BaseException) -> Any:
    raise error


CASES: dict[str, tuple[Callable[[], Promise[Any]], Any]] = {
    "value": (lambda: Promise.resolve(1), 1),
    "coroutine": (lambda: Promise(doubled(2)), 4),
    "resolved with a coroutine": (lambda: Promise.resolve(doubled(2)), 4),
    "then": (lambda: Promise.resolve(1).then(lambda value: value + 1), 2),
    "then of a promise": (lambda: Promise.resolve(1).then(lambda v: Promise(doubled(v))), 2),
    "then of a coroutine function": (lambda: Promise.resolve(3).then(doubled), 6),
    "then without functions": (lambda: Promise.resolve(3).then(), 3),
    "then of two": (lambda: Promise.reject(ValueError()).then(None, type), ValueError),
    "and_then": (lambda: Promise.resolve(3).and_then(doubled), 6),
    "catch": (lambda: Promise(failed(ValueError())).catch(lambda error: type(error)), ValueError),
    "catch of a class": (lambda: Promise.reject(KeyError(1)).catch(LookupError, type), KeyError),
    "catch of classes": (
        lambda: Promise.reject(KeyError(1)).catch((ValueError, KeyError), type),
        KeyError,
    ),
    "catch of a value": (lambda: Promise.resolve(1).catch(type), 1),
    "catch of an error in a handler": (
        lambda: Promise.resolve(1).then(lambda _: raises(KeyError())).catch(KeyError, type),
        KeyError,
    ),
    "finally_": (lambda: Promise.resolve(1).finally_(lambda: 2), 1),
    "finally_ that waits": (lambda: Promise.resolve(1).finally_(lambda: doubled(2)), 1),
    "tap": (lambda: Promise.resolve(1).tap(lambda value: value + 1), 1),
    "tap that waits": (lambda: Promise.resolve(1).tap(doubled), 1),
    "or_else of a value": (lambda: Promise.resolve(1).or_else(2), 1),
    "or_else of an error": (lambda: Promise.reject(ValueError()).or_else(2), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_promise_has_the_value(case: str, value_of: Any) -> None:
    make, expected = CASES[case]
    assert value_of(make) == expected


FAILURES: dict[str, tuple[Callable[[], Promise[Any]], type[BaseException]]] = {
    "rejected": (lambda: Promise.reject(ValueError), ValueError),
    "coroutine": (lambda: Promise(failed(KeyError())), KeyError),
    "handler": (lambda: Promise.resolve(1).then(lambda _: raises(KeyError())), KeyError),
    "passed on": (lambda: Promise.reject(KeyError()).then(str).tap(print), KeyError),
    "not caught": (lambda: Promise.reject(KeyError()).catch(ValueError, print), KeyError),
    "finally_": (lambda: Promise.reject(KeyError()).finally_(lambda: 1), KeyError),
    "raised by finally_": (
        lambda: Promise.reject(KeyError()).finally_(lambda: raises(ValueError())),
        ValueError,
    ),
    "raised while finally_ waits": (
        lambda: Promise.resolve(1).finally_(lambda: failed(ValueError())),
        ValueError,
    ),
    "raised by tap": (lambda: Promise.resolve(1).tap(lambda _: raises(ValueError())), ValueError),
    "and_then without a promise": (lambda: Promise.resolve(1).and_then(str), TypeError),  # type: ignore[arg-type]
    "cancelled": (lambda: cancelled_promise().catch(print), asyncio.CancelledError),
}


def cancelled_promise() -> Promise[Any]:
    promise, _, _ = Promise.with_resolvers()
    promise.cancel()
    return promise


@pytest.mark.parametrize("case", FAILURES)
def test_a_promise_has_the_error(case: str, value_of: Any) -> None:
    make, expected = FAILURES[case]
    with pytest.raises(expected):
        value_of(make)


def test_a_promise_that_is_resolved_by_another_thread(value_of: Any) -> None:
    def make() -> Promise[Any]:
        promise, resolve, _ = Promise.with_resolvers()
        threading.Thread(target=resolve, args=(1,)).start()
        return promise.then(lambda value: value + 1)

    assert value_of(make) == 2


def test_handlers_of_a_promise_run_in_the_order_of_their_adding(value_of: Any) -> None:
    order: list[int] = []

    def make() -> Promise[Any]:
        promise, resolve, _ = Promise.with_resolvers()
        for number in range(5):
            promise.then(lambda _, number=number: order.append(number))
        resolve(None)
        return promise.then(lambda _: list(order))

    assert value_of(make) == [0, 1, 2, 3, 4]


def test_a_promise_is_settled_once() -> None:
    promise, resolve, reject = Promise.with_resolvers()
    resolve(1)
    resolve(2)
    reject(ValueError())
    assert promise.result() == 1


def test_a_chain_of_any_length() -> None:
    first, resolve, _ = Promise.with_resolvers()
    last = first
    for _ in range(50_000):
        last = last.then(lambda value: value + 1)
    resolve(0)
    assert last.result() == 50_000


@pytest.mark.parametrize("run", [asyncio.run, carboy.run])
def test_stop_iteration_is_no_value_of_an_await(run: Any) -> None:
    def first(items: list[int]) -> int:
        return next(item for item in items if item > 1)

    async def main() -> None:
        settled = Promise.resolve([1]).then(first)
        settled.peek()
        with pytest.raises(RuntimeError, match="failed with StopIteration") as caught:
            await settled
        assert isinstance(caught.value.__cause__, StopIteration)
        # Also if it was settled before, and through others.
        with pytest.raises(RuntimeError, match="failed with StopIteration"):
            await settled
        with pytest.raises(RuntimeError, match="failed with StopIteration"):
            await Promise.all(settled, settled)
        with pytest.raises(RuntimeError, match="failed with StopIteration"):
            await asyncio.gather(Promise.reject(StopIteration(5)))
        assert await settled.catch(StopIteration, lambda _: 0) == 0

    run(main())
