"""A promise taken for its value is told at once, with both places."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import operator
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, render_template_string

import carboy
from carboy import Promise

if TYPE_CHECKING:
    from collections.abc import Callable

MISTAKES: dict[str, Callable[[Any], object]] = {
    "f-string": lambda promise: f"/users/{promise}",
    "f-string with a format": lambda promise: f"{promise:>10}",
    "format": "{}".format,
    "percent": lambda promise: "%s" % promise,  # noqa: UP031 - It is what is tested.
    "str": str,
    "join": lambda promise: ",".join([str(promise)]),
    "if": lambda promise: 1 if promise else 2,
    "not": operator.not_,
    "and": lambda promise: promise and 1,
    "len": len,
    "iteration": list,
    "for": lambda promise: [item for item in promise],  # noqa: C416 - It is what is tested.
    "unpacking": lambda promise: (lambda a, b: None)(*promise),
    "in": lambda promise: "a" in promise,
    "== text": lambda promise: promise == "admin",
    "== number": lambda promise: promise == 5,
    "!= list": lambda promise: promise != [1],
    "text ==": lambda promise: "admin" == promise,  # noqa: SIM300 - It is what is tested.
    "<": lambda promise: promise < 5,
    ">=": lambda promise: promise >= 5,
    "number <": lambda promise: 5 < promise,  # noqa: SIM300 - It is what is tested.
    "max": lambda promise: max(promise, 5),
    "+": lambda promise: promise + 1,
    "text +": lambda promise: "a" + promise,
    "*": lambda promise: 2 * promise,
    "sum": lambda promise: sum([promise]),
    "/": lambda promise: promise / 2,
    "-": lambda promise: 1 - promise,
}


@pytest.mark.parametrize("is_settled", [False, True], ids=["pending", "settled"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_both_places(mistake: str, is_settled: bool) -> None:
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    promise = Promise.resolve(1) if is_settled else Promise.with_resolvers()[0]
    with pytest.raises(TypeError, match="this is a promise, not its value") as caught:
        MISTAKES[mistake](promise)
    message = str(caught.value)
    assert "use 'await' in async code or .result() in sync code first" in message
    assert f"{__file__}:{line} in test_a_mistake_is_told_with_both_places" in message
    # The traceback ends at the mistake, not within carboy.
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert last.filename == __file__


def test_an_attribute_of_the_value_is_none_of_the_promise() -> None:
    promise = Promise.resolve("text")
    with pytest.raises(AttributeError, match=r"no attribute \"upper\": this is a promise"):
        promise.upper()  # type: ignore[attr-defined]
    assert not hasattr(promise, "upper")


def test_a_promise_is_equal_to_itself_and_a_key() -> None:
    one, other = Promise.resolve(1), Promise.resolve(1)
    assert one == one
    assert one != other
    assert one is not None
    assert one != None  # noqa: E711 - It is what is tested.
    assert one != object()
    assert {one: 1}[one] == 1
    assert other not in {one, None}
    assert [other, one].index(one) == 1


def test_json_and_pages_refuse_a_promise() -> None:
    app = Flask(__name__)
    promise = Promise.resolve(1)
    with pytest.raises(TypeError, match="Promise is not JSON serializable"):
        json.dumps({"a": promise})
    with app.app_context(), pytest.raises(TypeError, match="a part of a page or of JSON"):
        app.json.dumps({"a": promise})
    with app.app_context(), pytest.raises(TypeError, match="this is a promise"):
        render_template_string("{{ promise }}", promise=promise)


def test_a_promise_is_neither_copied_nor_pickled() -> None:
    promise = Promise.resolve(1)
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            make(promise)


def test_a_promise_can_be_looked_at() -> None:
    promise, resolve, _ = Promise.with_resolvers()
    assert repr(promise).startswith("<Promise pending, with_resolvers, made at ")
    resolve([1])
    assert repr(promise).startswith("<Promise value=[1], ")
    failed = Promise.reject(KeyError("a"))
    assert repr(failed).startswith("<Promise error=KeyError('a'), reject, made at ")
    failed.peek()
    assert len(repr(Promise.resolve("a" * 100_000))) < 500

    class Silent:
        def __repr__(self) -> str:
            raise ValueError("not now")

    assert repr(Promise.resolve(Silent())).startswith("<Promise value=<Silent instance at ")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Promise(1), "Promise() needs something to be awaited, not <class 'int'>"),
        (lambda: Promise.resolve().then(1), "then() needs a function, not <class 'int'>"),
        (lambda: Promise.resolve().catch(KeyError), "catch() needs a function after <class"),
        (lambda: Promise.resolve().catch("KeyError", print), "needs a class of exceptions"),
        (lambda: Promise.resolve().catch((KeyError, 1), print), "needs a class of exceptions"),
        (lambda: Promise.resolve().finally_(None), "finally_() needs a function"),
        (lambda: Promise.resolve().then(print, on="pool"), 'on="pool" is no place'),
        (lambda: Promise.reject("no"), "rejected with an exception, not with <class 'str'>"),
        (lambda: Promise.join(1, 2), "join() needs a function as its last argument"),
        (lambda: Promise.join(), "join() needs a function as its last argument"),
        (lambda: Promise.race(), "a race of nothing would never have a winner"),
        (lambda: Promise.resolve().timeout(-1), "-1 is not a time to wait"),
        (lambda: Promise.resolve().result(timeout=float("nan")), "NaN is not a time to wait"),
        (lambda: Promise.resolve().timeout(float("-inf")), "-inf is not a time to wait"),
        (lambda: Promise.map([1], print, concurrency=0), "concurrency=0 would never begin"),
        (lambda: Promise.map([1], print, concurrency=-1), "concurrency=-1 would never begin"),
        (lambda: Promise.map(1, print), "'int' object is not iterable"),
        (lambda: Promise.map(1, print, concurrency=1), "'int' object is not iterable"),
        (lambda: Promise.map(Promise.resolve(1), print), "this is a promise, not its value"),
    ],
)
def test_a_wrong_call_says_what_is_right(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        wrong()
    assert message in str(caught.value)


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 1e15])
def test_a_time_may_be_as_long_as_one_likes(seconds: float) -> None:
    async def main() -> int:
        return await Promise(asyncio.sleep(0.001, 1)).timeout(seconds)

    assert Promise(asyncio.sleep(0.001, 1)).result(timeout=seconds) == 1
    assert Promise(asyncio.sleep(0.001)).exception(timeout=seconds) is None
    assert asyncio.run(main()) == carboy.run(main()) == 1
