"""Whoever gets ``DeadlineExceeded`` or ``ClientDisconnected`` is told which promise was late."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

import carboy
from carboy import DeadlineExceeded, Promise, deadline

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT = 0.02


async def for_ever() -> None:
    await asyncio.Event().wait()


def line_of(function: Callable[..., Any], text: str) -> str:
    """Return a place as promises tell it: the line of a function with this text."""
    lines, first = inspect.getsourcelines(function)
    number = next(index for index, line in enumerate(lines) if text in line)
    return f"(no result of: made at {__file__}:{first + number} in {function.__qualname__})"


@pytest.fixture(params=[asyncio.run, carboy.run], ids=["asyncio", "carboy"])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def in_sync_code() -> str:
    with deadline(SHORT):
        late = Promise(for_ever())
    return late.catch(DeadlineExceeded, str).result(timeout=10)


def test_a_handler_in_sync_code_is_told() -> None:
    expected = f"the deadline of {SHORT} seconds has passed {line_of(in_sync_code, 'Promise(')}"
    assert in_sync_code() == expected


async def in_async_code() -> str:
    with deadline(SHORT):
        late = Promise(for_ever())
    return await late.catch(DeadlineExceeded, str)


def test_a_handler_in_async_code_is_told(run: Any) -> None:
    expected = f"the deadline of {SHORT} seconds has passed {line_of(in_async_code, 'Promise(')}"
    assert run(in_async_code()) == expected


async def by_await() -> str:
    with pytest.raises(DeadlineExceeded) as caught:
        async with deadline(SHORT):
            await Promise(for_ever())
    return str(caught.value)


def test_who_awaits_is_told(run: Any) -> None:
    assert run(by_await()).endswith(line_of(by_await, "Promise("))


def test_each_promise_is_told_of_itself() -> None:
    with deadline(SHORT):
        promises = [Promise(for_ever()), Promise(for_ever())]
        named = Promise(for_ever())
    errors = [str(promise.exception(timeout=10)) for promise in (*promises, named)]
    assert errors[0] == errors[1]
    assert errors[1] != errors[2]
    assert all("(no result of: made at" in error for error in errors)


def test_of_many_that_are_late_some_are_told(run: Any) -> None:
    async def main() -> str:
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(SHORT):
                await Promise.all([Promise(for_ever()) for _ in range(10)])
        return str(caught.value)

    message = run(main())
    assert 1 <= message.count("made at") <= 3


def test_without_a_promise_there_is_none_to_be_told(run: Any) -> None:
    async def main() -> str:
        with pytest.raises(DeadlineExceeded) as caught:
            async with deadline(SHORT):
                await for_ever()
        return str(caught.value)

    assert run(main()) == f"the deadline of {SHORT} seconds has passed"


def test_it_is_one_for_flask_all_the_same() -> None:
    from werkzeug.exceptions import GatewayTimeout

    with deadline(SHORT):
        late = Promise(for_ever())
    error = late.exception(timeout=10)
    assert isinstance(error, GatewayTimeout)
    assert error.code == 504
    assert repr(error).startswith("DeadlineExceeded('the deadline of")
