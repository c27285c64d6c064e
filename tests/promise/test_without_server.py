"""Promises in views that Flask itself serves: its test client, another server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, g, got_request_exception, request
from support.live import Live
from support.raw_upstream import RawUpstream, ok

from carboy import Promise, http
from carboy.flask import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def as_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Give Flask's own method, as in a process where nobody has made a promise yet."""
    own = patch.replaced("make_response")
    monkeypatch.setattr(Flask, "make_response", own)
    yield own
    monkeypatch.undo()


async def later(value: Any) -> Any:
    await asyncio.sleep(0.001)
    return value


def make_app(make: Callable[[], Any]) -> Flask:
    app = Flask(__name__)

    @app.get("/")
    def view() -> Any:
        return make()

    @app.errorhandler(LookupError)
    def not_found(error: LookupError) -> Any:
        return {"error": str(error)}, 418

    return app


VALUES: dict[str, tuple[Callable[[], Any], int, Any]] = {
    "promise": (lambda: Promise(later({"a": 1})), 200, {"a": 1}),
    "handler": (lambda: Promise(later(1)).then(lambda a: {"a": request.path}), 200, {"a": "/"}),
    "dict": (lambda: {"a": [Promise(later(1))], "b": 2}, 200, {"a": [1], "b": 2}),
    "tuple": (lambda: (Promise(later({"a": 1})), 202), 202, {"a": 1}),
    "promise of a tuple": (lambda: Promise.resolve(({"a": 1}, 203)), 203, {"a": 1}),
    "failed": (lambda: Promise.reject(LookupError("x")), 418, {"error": "x"}),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.usefixtures("as_installed")
def test_a_view_returns_promises(name: str) -> None:
    make, status, value = VALUES[name]
    client = make_app(make).test_client()
    for _ in range(2):
        response = client.get("/")
        assert (response.status_code, response.get_json()) == (status, value)


@pytest.mark.usefixtures("as_installed")
def test_handlers_run_in_the_context_of_the_view() -> None:
    app = Flask(__name__)

    @app.get("/<name>")
    def view(name: str) -> Any:
        g.name = name
        return Promise(later(1)).then(lambda _: {"name": g.name})

    assert app.test_client().get("/ada").get_json() == {"name": "ada"}


@pytest.mark.usefixtures("as_installed")
def test_an_async_view_whose_loop_has_ended_is_told() -> None:
    app = Flask(__name__)
    app.testing = True

    @app.get("/")
    async def view() -> Any:
        return {"a": Promise(later(1))}

    with pytest.raises(RuntimeError, match="each async view has an event loop of its own"):
        app.test_client().get("/")


def test_a_server_of_carboys_is_not_slowed_down(as_installed: Callable[..., Any]) -> None:
    app = make_app(lambda: Promise(later({"a": 1})))
    app.test_client().get("/")
    assert Flask.make_response is not as_installed
    with Live(app) as live:
        assert Flask.make_response is patch.make_response
        assert patch.replaced("make_response") is as_installed
        assert json.loads(live.get("/").body) == {"a": 1}
    assert app.test_client().get("/").get_json() == {"a": 1}


@pytest.mark.usefixtures("as_installed")
def test_an_app_of_a_class_of_its_own() -> None:
    class App(Flask):
        def make_response(self, rv: Any) -> Any:
            response = super().make_response(rv)
            response.headers["X-Made"] = "here"
            return response

    app = App(__name__)
    app.add_url_rule("/", view_func=lambda: {"a": Promise(later(1))})
    response = app.test_client().get("/")
    assert (response.get_json(), response.headers["X-Made"]) == ({"a": 1}, "here")


@pytest.mark.parametrize("serve", ["carboy", "Flask"])
@pytest.mark.usefixtures("as_installed")
def test_a_view_that_returns_the_response_of_a_call_is_told_what_to_return(serve: str) -> None:
    with RawUpstream.answering(ok()) as upstream:
        app = make_app(lambda: http.get(upstream.url))
        errors: list[str] = []

        def note(_: Flask, exception: BaseException) -> None:
            errors.append(str(exception))

        got_request_exception.connect(note, app)
        if serve == "carboy":
            with Live(app) as live:
                live.get("/")
        else:
            app.test_client().get("/")
    [message] = errors
    assert f"GET {upstream.url}" in message
    assert "response.json()" in message


def test_what_replaces_the_method_later_is_called_too(
    as_installed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(lambda: Promise(later({"a": 1})))
    client = app.test_client()
    client.get("/")
    before = Flask.make_response
    assert before is not as_installed
    seen: list[str] = []

    def traced(self: Flask, rv: Any) -> Any:
        seen.append(type(rv).__name__)
        return before(self, rv)

    monkeypatch.setattr(Flask, "make_response", traced)
    for _ in range(2):
        assert client.get("/").get_json() == {"a": 1}
    assert seen == ["dict", "dict"]
