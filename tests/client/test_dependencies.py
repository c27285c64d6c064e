"""Calls whose arguments are promises: they begin when those are fulfilled."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, request
from support.live import Live
from support.pool import numbers

from carboy import Promise, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """Run a service that says what it was asked, and return its URL."""
    app = Flask(__name__)

    @app.route("/<path:_>", methods=["GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
    def answer(_: str) -> Any:
        return {
            "target": request.full_path.rstrip("?"),
            "token": request.headers.get("X-Token"),
            "cookie": request.headers.get("Cookie"),
            "type": request.headers.get("Content-Type"),
            "body": request.get_data(as_text=True),
        }

    with Live(app) as live:
        yield live.url


def later(value: Any) -> Promise[Any]:
    """Return the promise of a value that is not there yet."""

    async def give() -> Any:
        await asyncio.sleep(0)
        return value

    return Promise(give())


#: What is passed, and what the service sees.
ARGUMENTS: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, Any]]] = {
    "params": (lambda: {"params": later({"q": 1})}, {"target": "/a?q=1"}),
    "a param": (lambda: {"params": {"p": 0, "q": later(1)}}, {"target": "/a?p=0&q=1"}),
    "a param of pairs": (lambda: {"params": [("q", later(1)), ("q", 2)]}, {"target": "/a?q=1&q=2"}),
    "headers": (lambda: {"headers": later({"X-Token": "t"})}, {"token": "t"}),
    "a header": (lambda: {"headers": {"X-Token": later("t")}}, {"token": "t"}),
    "a cookie": (lambda: {"cookies": {"c": later("1")}}, {"cookie": "c=1"}),
    "content": (lambda: {"content": later(b"text")}, {"body": "text"}),
    "a form": (
        lambda: {"data": {"a": later("1"), "b": "2"}},
        {"body": "a=1&b=2", "type": "application/x-www-form-urlencoded"},
    ),
    "json": (lambda: {"json": later([1])}, {"body": "[1]", "type": "application/json"}),
    "deep in json": (
        lambda: {"json": {"a": [{"b": later(1)}], "c": (later(2),)}},
        {"body": '{"a":[{"b":1}],"c":[2]}'},
    ),
    "several": (
        lambda: {"params": {"q": later(1)}, "json": later({}), "headers": {"X-Token": "t"}},
        {"target": "/a?q=1", "body": "{}", "token": "t"},
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_argument(case: str, colour: str, upstream: str) -> None:
    make, expected = ARGUMENTS[case]
    app = Flask(__name__)

    if colour == "sync":

        @app.get("/")
        def view() -> Any:
            return http.post(f"{upstream}/a", **make()).result().json()

    else:

        @app.get("/")
        async def async_view() -> Any:
            return (await http.post(f"{upstream}/a", **make())).json()

    with Live(app) as live:
        seen = json.loads(live.get("/").body)
    assert seen == seen | expected


@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete"])
def test_a_url(method: str, upstream: str) -> None:
    with http.Session(base_url=upstream) as session:
        for call in (getattr(session, method), getattr(http, method)):
            response = call(later(f"{upstream}/{method}")).result()
            assert response.ok
            assert response.request.url == f"{upstream}/{method}"
            assert response.request.method == method.upper()
        assert session.get(later("/b")).result().json()["target"] == "/b"


def test_a_stream(upstream: str) -> None:
    with http.stream("GET", later(f"{upstream}/a")) as response:
        assert json.loads(b"".join(response.iter_bytes()))["target"] == "/a"
    assert response.request.place is not None
    assert response.request.place.startswith(__file__)


def test_hooks_are_called_once(upstream: str) -> None:
    asked: list[str] = []
    hooks: dict[str, Any] = {
        "request": [lambda request: asked.append(request.url)],
        "response": [lambda response: asked.append(response.json()["target"])],
    }
    with http.Session(base_url=upstream, hooks=hooks) as session:
        session.get("/a", params={"q": later(1)}).result()
    assert asked == [f"{upstream}/a?q=1", "/a?q=1"]


def test_a_call_whose_argument_fails_never_begins(upstream: str) -> None:
    with http.Session(base_url=upstream) as session:
        failed = session.get("/a", params={"q": Promise.reject(KeyError("user"))})
        with pytest.raises(KeyError, match="user"):
            failed.result(10)
        assert numbers(session) == (0, 0, 0)


def test_a_call_is_cancelled_with_its_arguments(upstream: str) -> None:
    source, _, _ = Promise.with_resolvers()
    call = http.get(f"{upstream}/a", params={"q": source})
    call.cancel()
    assert source.cancelled()


def test_what_holds_no_promise_is_passed_as_it_is(upstream: str) -> None:
    class Pairs(dict[str, Any]):
        """Has more than a dict shows."""

        def items(self) -> Any:
            return [("q", 1), ("q", 2)]

    response = http.post(f"{upstream}/a", params=Pairs(q=1), json=later([])).result()
    assert response.json()["target"] == "/a?q=1&q=2"


def test_it_is_in_the_timeline(upstream: str) -> None:
    app = Flask(__name__)
    app.debug = True

    @app.get("/")
    async def view() -> Any:
        a = http.get(f"{upstream}/a")
        b = http.get(f"{upstream}/b", params={"q": a.then(lambda response: response.status_code)})
        await b
        return [[call.url, [before.url for before in call.depends_on]] for call in http.timeline()]

    with Live(app) as live:
        first, second = f"{upstream}/a", f"{upstream}/b?q=200"
        assert json.loads(live.get("/").body) == [[first, []], [second, [first]]]
