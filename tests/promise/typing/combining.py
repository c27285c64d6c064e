"""What type checkers make of promises of several promises. Checked, not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

from carboy import Promise
from carboy.promise import Fulfilled, Rejected

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping


async def number() -> int:
    return 1


async def text(value: int = 0) -> str:
    return str(value)


def length(value: int) -> float:
    return value / 2


a: Promise[int] = Promise(number())
b: Promise[str] = Promise(text())
c: Promise[bytes] = Promise.resolve(b"")

assert_type(Promise.resolve(), Promise[None])
assert_type(Promise.resolve(1), Promise[int])
assert_type(Promise.resolve(a), Promise[int])
assert_type(Promise.resolve(text()), Promise[str])
promise, resolve, reject = Promise.with_resolvers()
assert_type(promise, Promise[Any])
assert_type(resolve(1), None)
assert_type(reject(ValueError()), None)
assert_type(reject(ValueError), None)

assert_type(Promise.all(a), Promise[tuple[int]])
assert_type(Promise.all(a, b), Promise[tuple[int, str]])
assert_type(Promise.all(a, text()), Promise[tuple[int, str]])
assert_type(Promise.all(a, b, c), Promise[tuple[int, str, bytes]])
assert_type(Promise.all(a, b, c, a), Promise[tuple[int, str, bytes, int]])
assert_type(Promise.all(a, b, c, a, b), Promise[tuple[int, str, bytes, int, str]])
assert_type(Promise.all(a, a, a, a, a, a), Promise[tuple[int, ...]])
assert_type(Promise.all(*[a, a]), Promise[tuple[int, ...]])
assert_type(Promise.all([a, a]), Promise[list[int]])
assert_type(Promise.all((a, b)), Promise[list[int | str]])
assert_type(Promise.all((a, text(), c)), Promise[list[int | str | bytes]])
assert_type(Promise.all((a, a, a, a)), Promise[list[int]])
assert_type(Promise.all({"a": a}), Promise[dict[str, int]])
assert_type(Promise.all(text(value) for value in range(3)), Promise[list[str]])


def of_mapping(promises: Mapping[str, Promise[int]]) -> Promise[dict[str, int]]:
    return Promise.all(promises)


def of_coroutines(coroutines: list[Coroutine[Any, Any, int]]) -> Promise[list[int]]:
    return Promise.all(coroutines)


assert_type(Promise.all_settled(a), Promise[tuple[Fulfilled[int] | Rejected]])
assert_type(
    Promise.all_settled(a, b), Promise[tuple[Fulfilled[int] | Rejected, Fulfilled[str] | Rejected]]
)
assert_type(
    Promise.all_settled(a, b, c),
    Promise[
        tuple[Fulfilled[int] | Rejected, Fulfilled[str] | Rejected, Fulfilled[bytes] | Rejected]
    ],
)
assert_type(Promise.all_settled(a, a, a, a), Promise[tuple[Fulfilled[int] | Rejected, ...]])
assert_type(Promise.all_settled([a]), Promise[list[Fulfilled[int] | Rejected]])
assert_type(Promise.all_settled({"a": a}), Promise[dict[str, Fulfilled[int] | Rejected]])

assert_type(Promise.any(a), Promise[int])
assert_type(Promise.any(a, a), Promise[int])
assert_type(Promise.any([a, a]), Promise[int])
assert_type(Promise.any({"a": a}), Promise[int])
assert_type(Promise.any(a, b), Promise[int | str])
assert_type(Promise.race(a), Promise[int])
assert_type(Promise.race(a, a), Promise[int])
assert_type(Promise.race([a, a]), Promise[int])
assert_type(Promise.race({"a": a}), Promise[int])
assert_type(Promise.race(a, b), Promise[int | str])


def add(first: int, second: str) -> float:
    return first + len(second)


async def later_add(first: int, second: str) -> complex:
    return first + len(second)


assert_type(Promise.join(a, b, add), Promise[float])
assert_type(Promise.join(a, b, later_add), Promise[complex])


def add_three(first: int, second: str, third: bytes) -> float:
    return first + len(second) + len(third)


assert_type(Promise.join(a, b, c, add_three), Promise[float])
assert_type(Promise.call(add, a, b), Promise[float])
assert_type(Promise.call(text, a), Promise[str])
assert_type(Promise.map([1, 2], length), Promise[list[float]])
assert_type(Promise.map([1, 2], text, concurrency=2), Promise[list[str]])
