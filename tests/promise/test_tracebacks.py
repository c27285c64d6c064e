"""What an error tells of its way: where it was raised, who has it, where its promise was made."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from promise.test_chains import in_sync_code, on_asyncio, on_carboy

import carboy
from carboy import Promise

if TYPE_CHECKING:
    from collections.abc import Callable


async def fails(value: object = None) -> Any:
    await asyncio.sleep(0)
    raise ValueError(value)


def fails_at_once(value: object = None) -> Any:
    raise ValueError(value)


def functions_of(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize("wait", [in_sync_code, on_asyncio, on_carboy])
@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: Promise(fails()), "fails"),
        (lambda: Promise.resolve().then(fails), "fails"),
        (lambda: Promise.resolve().then(fails_at_once), "fails_at_once"),
        (lambda: Promise.call(fails_at_once), "fails_at_once"),
        (lambda: Promise.all(fails(), asyncio.sleep(0)), "fails"),
        (lambda: Promise(fails()).then(str).tap(str).finally_(lambda: None), "fails"),
    ],
)
def test_the_traceback_leads_from_who_waits_to_who_raised(
    wait: Callable[..., Any], make: Callable[[], Promise[Any]], place: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - Its place is what matters.
        wait(make)
    names = functions_of(caught.value)
    assert names[0] == "test_the_traceback_leads_from_who_waits_to_who_raised"
    assert names[-1] == place
    assert names.count(place) == 1
    # Nothing of carboy's own stands between them.
    files = {frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)}
    assert not [file for file in files if "carboy/promise.py" in file] or place == "fails_at_once"


def test_consumers_of_one_failure_have_a_traceback_each() -> None:
    promise = Promise(fails())
    seen = []

    def one() -> None:
        promise.result()

    def another() -> None:
        one()

    for consumer in (another, one, another):
        try:
            consumer()
        except ValueError as error:
            seen.append(functions_of(error)[1:])
    assert seen == [["another", "one", "fails"], ["one", "fails"], ["another", "one", "fails"]]
    handled: list[list[str]] = []
    promise.catch(lambda error: handled.append(functions_of(error))).result()
    assert handled == [["fails"]]


def test_tasks_that_await_one_failure_have_a_traceback_each() -> None:
    async def main() -> list[list[str]]:
        promise = Promise(fails())
        seen = []

        async def one() -> None:
            try:
                await promise
            except ValueError as error:
                seen.append(functions_of(error))

        await asyncio.gather(*(one() for _ in range(3)))
        return seen

    assert asyncio.run(main()) == [["one", "fails"]] * 3


def test_the_error_is_the_one_that_was_raised() -> None:
    error = ValueError("it")
    promise = Promise.all(Promise.reject(error))
    assert promise.exception() is error
    with pytest.raises(ValueError, match="it") as caught:
        promise.result()
    assert caught.value is error
    assert not hasattr(error, "__notes__")


def test_any_has_all_errors_in_the_order_of_the_promises() -> None:
    late, _, reject = Promise.with_resolvers()
    promise = Promise.any(late, Promise.reject(KeyError("b")), fails("c"))
    reject(LookupError("a"))
    with pytest.raises(ExceptionGroup, match="none of the promises was fulfilled") as caught:
        promise.result()
    assert [str(error) for error in caught.value.exceptions] == ["a", "'b'", "c"]


def debug_app() -> Flask:
    app = Flask(__name__)
    app.debug = True
    return app


def test_in_debug_mode_a_note_tells_the_chain_and_its_place_once() -> None:
    with debug_app().test_request_context():
        promise = Promise.call(int, "1").then(fails_at_once)
        line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
        promise = promise.tap(str).then(str)
        for _ in range(2):
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - Its notes are what matters.
                promise.result()
    place = f"{__file__}:{line} in {inspect.currentframe().f_code.co_name}"  # type: ignore[union-attr]
    expected = f"The promise that failed: promise → then(fails_at_once), made at {place}"
    assert caught.value.__notes__ == [expected]


def test_a_long_chain_is_told_by_its_end() -> None:
    with debug_app().test_request_context():
        promise = Promise.resolve(1)
        for _ in range(1000):
            promise = promise.then(abs)
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - Its notes are what matters.
            promise.then(fails_at_once).result()
    (note,) = caught.value.__notes__
    assert "then(abs) → then(fails_at_once), made at " in note
    assert len(note) < 500


def test_a_request_in_production_adds_no_note() -> None:
    with Flask(__name__).test_request_context(), pytest.raises(ValueError) as caught:  # noqa: PT011
        Promise.resolve(1).then(fails_at_once).result()
    assert not hasattr(caught.value, "__notes__")


def test_development_mode_of_python_is_debug_mode_without_an_app() -> None:
    code = "import carboy; carboy.Promise.resolve(1).then(lambda value: 1 / 0).result()"
    command = [sys.executable, "-X", "dev", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "ZeroDivisionError" in done.stderr
    assert "The promise that failed: promise → then(<lambda>), made at <string>:1" in done.stderr


@pytest.mark.parametrize("run", [asyncio.run, carboy.run], ids=["asyncio", "carboy"])
def test_result_on_the_thread_of_a_loop_is_told(run: Any) -> None:
    async def main() -> None:
        promise = Promise.with_resolvers()[0]
        with pytest.raises(RuntimeError, match="use 'await' instead") as caught:
            promise.result()
        assert f"with_resolvers, made at {__file__}:" in str(caught.value)
        # What is there already needs no waiting.
        assert Promise.resolve(1).result() == 1

    run(main())


@pytest.mark.parametrize("run", [asyncio.run, carboy.run], ids=["asyncio", "carboy"])
def test_a_handler_on_a_loop_can_not_take_a_result_either(run: Any) -> None:
    async def main() -> None:
        promise = Promise.with_resolvers()[0]
        with pytest.raises(RuntimeError, match="use 'await' instead"):
            await Promise.resolve().then(lambda _: promise.result())

    run(main())


def test_a_handler_that_waits_for_itself_is_told() -> None:
    kept: list[Promise[Any]] = []
    kept.append(Promise.resolve(1).then(lambda _: kept[0].result()))
    with pytest.raises(RuntimeError, match="result\\(\\) would wait for itself"):
        kept[0].result(timeout=10)


def test_a_handler_that_waits_for_what_depends_on_it_is_told() -> None:
    kept: list[Promise[Any]] = []
    first = Promise.resolve(1).then(lambda _: kept[0].result())
    kept.append(Promise.all(first, Promise.resolve(2)).then(str))
    with pytest.raises(RuntimeError, match="return the promise from the handler instead"):
        kept[0].result(timeout=10)


def test_a_handler_may_wait_for_another_promise() -> None:
    inner = Promise.resolve(1).then(lambda value: value + 1)
    outer = Promise.resolve(1).then(lambda value: value + inner.result())
    assert outer.result(timeout=10) == 3


def test_a_promise_that_is_awaited_without_a_loop_is_told() -> None:
    with pytest.raises(RuntimeError, match="use result\\(\\) in sync code"):
        Promise.with_resolvers()[0].__await__().__next__()


def test_a_promise_resolved_with_itself_is_told() -> None:
    promise, resolve, _ = Promise.with_resolvers()
    resolve(promise)
    with pytest.raises(TypeError, match="a promise can't be resolved with itself"):
        promise.result()


def test_timeouts_say_how_long_and_of_what() -> None:
    promise = Promise.with_resolvers()[0]
    with pytest.raises(TimeoutError, match=r"no result after 0.001 seconds .with_resolvers, made"):
        promise.result(timeout=0.001)
    with pytest.raises(TimeoutError, match=r"no result after 0.001 seconds .with_resolvers, made"):
        promise.timeout(0.001).result()
