"""Promises in Flask's views: returned, owned by the request, and in its context."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from flask import Flask, g, request
from support.live import Live
from support.waiting import eventually

from carboy import Promise

if TYPE_CHECKING:
    from collections.abc import Callable


async def later(value: Any) -> Any:
    await asyncio.sleep(0.001)
    return value


async def failed(error: BaseException) -> Any:
    await asyncio.sleep(0.001)
    raise error


class Point(NamedTuple):
    x: Any
    y: Any


VALUES: dict[str, tuple[Callable[[], Any], int, Any]] = {
    "promise": (lambda: Promise(later({"a": 1})), 200, {"a": 1}),
    "chain": (lambda: Promise(later(1)).then(lambda value: {"a": value}), 200, {"a": 1}),
    "dict": (lambda: {"a": Promise(later(1)), "b": 2}, 200, {"a": 1, "b": 2}),
    "list": (lambda: [1, Promise(later(2)).then(later)], 200, [1, 2]),
    "nested": (lambda: {"a": {"b": [Promise(later(1))]}}, 200, {"a": {"b": [1]}}),
    "of derived classes": (
        lambda: OrderedDict(
            z=Promise(later(1)),
            a=defaultdict(list, b=Promise(later(2))),
            m=Point(Promise(later(3)), 4),
        ),
        200,
        {"z": 1, "a": {"b": 2}, "m": [3, 4]},
    ),
    "promise of a dict with promises": (
        lambda: Promise(later(0)).then(lambda _: {"a": Promise(later(1))}),
        200,
        {"a": 1},
    ),
    "tuple": (lambda: (Promise(later({"a": 1})), 202), 202, {"a": 1}),
    "promise of a tuple": (lambda: Promise(later(({"a": 1}, 203))), 203, {"a": 1}),
    "combined": (
        lambda: Promise.all({"a": later(1), "b": later(2)}),
        200,
        {"a": 1, "b": 2},
    ),
    "failed": (lambda: {"a": Promise(failed(LookupError("x")))}, 418, {"error": "x"}),
}


def make_app(make: Callable[[], Any], colour: str) -> Flask:
    app = Flask(__name__)

    if colour.startswith("async"):

        async def view() -> Any:
            return make()

    else:

        def view() -> Any:
            return make()

    app.add_url_rule("/", view_func=view)

    @app.errorhandler(LookupError)
    def mend(error: LookupError) -> Any:
        return {"error": error.args[0]}, 418

    if colour.endswith("hook"):
        app.before_request(lambda: None)
    return app


@pytest.mark.parametrize("colour", ["sync", "async", "async behind a hook"])
@pytest.mark.parametrize("kind", VALUES)
def test_a_view_may_return_promises(kind: str, colour: str) -> None:
    make, status, value = VALUES[kind]
    with Live(make_app(make, colour)) as live:
        response = live.get("/")
        assert (response.status, json.loads(response.body)) == (status, value)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_handlers_run_in_the_context_and_on_the_thread_of_the_view(colour: str) -> None:
    app = Flask(__name__)

    def chain() -> Promise[Any]:
        thread = threading.get_ident()
        g.name = "of the request"

        def handler(value: int) -> list[Any]:
            return [value, g.name, request.args["q"], threading.get_ident() == thread]

        return Promise(later(1)).then(handler)

    if colour == "sync":

        @app.get("/")
        def view() -> Any:
            return chain()

    else:

        @app.get("/")
        async def async_view() -> Any:
            return await chain()

    with Live(app) as live:
        answers = [json.loads(live.get("/?q=1").body) for _ in range(3)]
    assert answers == [[1, "of the request", "1", True]] * 3


@pytest.mark.parametrize("threads", [1, 8])
def test_a_sync_view_waits_for_its_promises_and_may_share_its_thread(threads: int) -> None:
    app = Flask(__name__)
    arrived = threading.Semaphore(0)
    gates: list[Any] = []

    @app.get("/")
    def view() -> Any:
        promise, resolve, _ = Promise.with_resolvers()
        gates.append(resolve)
        arrived.release()
        return {"a": promise.then(lambda value: value + 1).result()}

    answers: list[Any] = []
    with Live(app, threads=threads) as live:
        clients = [
            threading.Thread(target=lambda: answers.append(json.loads(live.get("/").body)))
            for _ in range(8)
        ]
        for client in clients:
            client.start()
        for _ in clients:
            assert arrived.acquire(timeout=10)
        for number, resolve in enumerate(gates):
            resolve(number)
        for client in clients:
            client.join(10)
    assert sorted(answer["a"] for answer in answers) == list(range(1, 9))


@pytest.mark.parametrize("colour", ["sync", "async", "async behind a hook"])
def test_what_is_unfinished_at_the_end_of_a_request_is_cancelled(colour: str) -> None:
    begun: list[str] = []
    ended: list[str] = []
    kept: list[Promise[Any]] = []

    async def work() -> None:
        begun.append("work")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("work")

    def make() -> str:
        kept.append(Promise(work()))
        kept.append(kept[0].then(print))
        return "done"

    with Live(make_app(make, colour)) as live:
        assert live.get("/").body == b"done"
        eventually(kept[0].cancelled, what="the promise is cancelled")
        eventually(lambda: begun == ended, what="the work is ended, if it was begun")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_detached_promise_outlives_its_request(
    colour: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[Any] = []

    def make() -> str:
        promise, _, reject = Promise.with_resolvers()
        kept.extend([Promise(wait(promise)).detach("the audit"), reject])
        return "done"

    async def wait(promise: Promise[Any]) -> Any:
        return await promise.shield()

    with Live(make_app(make, colour)) as live, caplog.at_level(logging.ERROR, "carboy"):
        assert live.get("/").body == b"done"
        promise, reject = kept
        assert not promise.done()
        reject(ValueError("lost"))
        eventually(promise.done, what="the promise is settled")
        eventually(lambda: "the audit failed" in caplog.text, what="the failure is logged")
