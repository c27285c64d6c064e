"""Contexts that code of the application pushes itself, within a request and after it."""

import asyncio

import flask
import pytest
from flask import Flask, after_this_request, g, request
from support.live import Live
from support.parity import Trace, compare

COLOURS = ["async", "sync"]
PATHS = {"async": "loop", "sync": "sync_view"}


def add_view(app: Flask, colour: str, run: object) -> None:
    async def async_view() -> object:
        return run()  # type: ignore[operator]

    def sync_view() -> object:
        return run()  # type: ignore[operator]

    app.add_url_rule("/", "view", async_view if colour == "async" else sync_view)


@pytest.mark.parametrize("colour", COLOURS)
def test_an_app_context_within_a_request(colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        other = Flask("other")

        def run() -> str:
            g.name = "request"
            with app.app_context():
                trace("same app", "name" in g, flask.has_request_context())
            with other.app_context():
                trace("other app", "name" in g, flask.current_app.name)
                g.name = "other"
            trace("back", g.name, flask.current_app.name == app.name)
            return request.path

        add_view(app, colour, run)
        return app

    compare(build, "GET /", path=PATHS[colour])


@pytest.mark.parametrize("colour", COLOURS)
def test_a_request_context_within_a_request(colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        def run() -> str:
            g.name = "outer"
            with app.test_request_context("/inner?q=1"):
                trace("inner", request.path, request.args["q"], "name" in g)
            trace("outer", request.path, g.name)
            return request.path

        add_view(app, colour, run)
        return app

    compare(build, "GET /", path=PATHS[colour])


@pytest.mark.parametrize("colour", COLOURS)
def test_a_test_client_within_a_request(colour: str) -> None:
    """The client's own request is served in the sync way, also by carboy."""

    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        inner = Flask("inner")

        @inner.get("/<name>")
        def greet(name: str) -> str:
            return f"hello {name} {request.path}"

        def run() -> str:
            text = inner.test_client().get("/you").text
            return f"{text} {request.path} {flask.current_app.name == app.name}"

        add_view(app, colour, run)
        return app

    assert compare(build, "GET /", path=PATHS[colour]).text == "hello you /you / True"


@pytest.mark.parametrize("after_is_async", [False, True])
@pytest.mark.parametrize("colour", COLOURS)
def test_functions_for_after_this_request(colour: str, after_is_async: bool) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        def run() -> str:
            for number in (1, 2):

                def after(response: flask.Response, number: int = number) -> flask.Response:
                    trace("after", number, request.path)
                    response.headers.add("X-After", str(number))
                    return response

                async def after_later(
                    response: flask.Response, number: int = number
                ) -> flask.Response:
                    await asyncio.sleep(0)
                    return after(response, number)

                after_this_request(after_later if after_is_async else after)
            return "view"

        add_view(app, colour, run)
        return app

    outcome = compare(build, "GET /", path=PATHS[colour])

    assert outcome.header_list("x-after") == ["1", "2"]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_function_for_after_this_request_that_fails_runs_again_for_the_500(colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        def run() -> str:
            @after_this_request
            def fail(response: flask.Response) -> flask.Response:
                trace("after", response.status_code)
                raise ValueError("after")

            return "view"

        add_view(app, colour, run)
        return app

    outcome = compare(build, "GET /", path=PATHS[colour])

    assert outcome.trace == [("after", 200), ("after", 500)]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_context_that_the_view_leaves_pushed(colour: str) -> None:
    """A mistake, but one that must not reach the next request."""

    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        other = Flask("other")
        kept: list[object] = []

        def run() -> str:
            trace(flask.current_app.name == app.name, g.get("left", "nothing"))
            context = other.app_context()
            kept.append(context)
            context.push()
            g.left = "left"
            return "view"

        add_view(app, colour, run)
        return app

    trace = Trace()
    with Live(build(trace)) as live:
        for _ in range(3):
            assert live.get().status in (200, 500)

    assert trace == [(True, "nothing")] * 3
