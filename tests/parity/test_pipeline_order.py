"""The order in which a request passes hooks, signals, the view and teardowns."""

import asyncio

import flask
import pytest
from flask import Blueprint, Flask, after_this_request, g, request
from support.live import Live
from support.parity import Trace, compare


def record_everything(app: Flask | Blueprint, trace: Trace, name: str, *, is_async: bool) -> None:
    """Register two of each hook, all sync or all async."""
    registries = {
        "before": app.before_request,
        "after": app.after_request,
        "teardown": app.teardown_request,
    }
    if isinstance(app, Flask):
        registries["appcontext"] = app.teardown_appcontext

    def make(kind: str, number: int):
        def note(*arguments: object) -> object:
            shown = [None if a is None else type(a).__name__ for a in arguments]
            trace(f"{name} {kind} {number}", *shown)
            return arguments[0] if kind == "after" else None

        async def note_later(*arguments: object) -> object:
            await asyncio.sleep(0)
            return note(*arguments)

        return note_later if is_async else note

    for kind, register in registries.items():
        for number in (1, 2):
            register(make(kind, number))

    @app.url_value_preprocessor
    def preprocess(endpoint: str | None, values: dict[str, object] | None) -> None:
        trace(f"{name} preprocess", endpoint, dict(values) if values is not None else None)


def build_with_hooks(trace: Trace, *, is_async: bool) -> Flask:
    app = Flask(__name__)
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    inner = Blueprint("inner", __name__, url_prefix="/inner")
    for target, name in ((app, "app"), (outer, "outer"), (inner, "inner")):
        record_everything(target, trace, name, is_async=is_async)

    @inner.get("/async/<int:number>")
    async def async_view(number: int) -> str:
        trace("view", number, request.endpoint, request.blueprints)

        @after_this_request
        def afterwards(response: flask.Response) -> flask.Response:
            trace("after this request")
            return response

        await asyncio.sleep(0)
        return "async"

    @inner.get("/sync/<int:number>")
    def sync_view(number: int) -> str:
        trace("view", number)
        return "sync"

    @app.get("/fails")
    async def fails() -> str:
        raise ValueError("out of the view")

    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    return app


@pytest.mark.parametrize("is_async", [False, True], ids=["sync hooks", "async hooks"])
@pytest.mark.parametrize(
    ("line", "path", "status"),
    [
        ("GET /outer/inner/async/7", "hook", 200),
        ("GET /outer/inner/sync/7", "hook", 200),
        ("GET /fails", "hook", 500),
        ("GET /nowhere", "not_matched", 404),
        ("POST /outer/inner/sync/7", "not_matched", 405),
        ("OPTIONS /outer/inner/async/7", "special_rule", 200),
        ("HEAD /outer/inner/async/7", "hook", 200),
    ],
)
def test_hooks_run_in_flasks_order(line: str, path: str, status: int, is_async: bool) -> None:
    outcome = compare(lambda trace: build_with_hooks(trace, is_async=is_async), line, path=path)

    assert outcome.status == status
    assert outcome.trace[0][0].endswith("preprocess")
    assert outcome.trace[-1][0] == "app appcontext 1"


def test_blueprint_hooks_run_from_the_inner_to_the_outer_one_after_the_view() -> None:
    outcome = compare(
        lambda trace: build_with_hooks(trace, is_async=False),
        "GET /outer/inner/async/7",
        path="hook",
    )

    names = [event if isinstance(event, str) else event[0] for event in outcome.trace]
    after = [name for name in names if " after " in name or name == "after this request"]
    assert after == [
        "after this request",
        *[f"{place} after {number}" for place in ("inner", "outer", "app") for number in (2, 1)],
    ]


@pytest.mark.parametrize("view_is_async", [False, True])
def test_a_before_request_that_answers_keeps_the_view_from_running(view_is_async: bool) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        async def async_view() -> str:
            trace("view")
            return "view"

        def sync_view() -> str:
            trace("view")
            return "view"

        app.add_url_rule("/", "view", async_view if view_is_async else sync_view)

        @app.before_request
        async def first() -> tuple[str, int] | None:
            trace("first")
            return ("stopped", 418)

        @app.before_request
        def second() -> None:
            trace("second")

        @app.after_request
        def after(response: flask.Response) -> flask.Response:
            trace("after", response.status_code)
            return response

        return app

    outcome = compare(build, "GET /", path="hook")

    assert outcome.status == 418
    assert outcome.trace == ["first", ("after", 418)]


@pytest.mark.parametrize("stage", ["before", "after", "teardown", "appcontext"])
@pytest.mark.parametrize("view_is_async", [False, True])
def test_an_error_in_a_hook_is_handled_as_in_flask(stage: str, view_is_async: bool) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        async def async_view() -> str:
            trace("view")
            return "view"

        def sync_view() -> str:
            trace("view")
            return "view"

        app.add_url_rule("/", "view", async_view if view_is_async else sync_view)

        @app.before_request
        def before() -> None:
            if stage == "before":
                raise ValueError("before")

        @app.after_request
        async def after(response: flask.Response) -> flask.Response:
            trace("after", response.status_code)
            if stage == "after":
                raise ValueError("after")
            return response

        @app.teardown_request
        def second_teardown(error: BaseException | None) -> None:
            trace("second teardown", repr(error))

        @app.teardown_request
        async def first_teardown(error: BaseException | None) -> None:
            trace("first teardown", repr(error))
            if stage == "teardown":
                raise ValueError("teardown")

        @app.teardown_appcontext
        def appcontext(error: BaseException | None) -> None:
            trace("appcontext", repr(error))
            if stage == "appcontext":
                raise ValueError("appcontext")

        return app

    error = ValueError if stage in ("teardown", "appcontext") else None
    compare(build, "GET /", path="hook", error=error)


def test_g_is_shared_by_all_stages_of_a_request_and_by_no_other() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        @app.before_request
        def before() -> None:
            trace("fresh", "steps" not in g)
            g.steps = ["before"]

        @app.get("/")
        async def view() -> list[str]:
            g.steps.append("view")
            await asyncio.sleep(0)
            return g.steps

        @app.teardown_request
        async def teardown(error: BaseException | None) -> None:
            g.steps.append("teardown")

        @app.teardown_appcontext
        def appcontext(error: BaseException | None) -> None:
            trace(list(g.steps))

        return app

    outcome = compare(build, "GET /", "GET /", path="hook")

    assert outcome.trace == [("fresh", True), ["before", "view", "teardown"]] * 2


def test_an_app_context_that_was_pushed_at_import_is_not_inherited() -> None:
    app = Flask(__name__)
    app.app_context().push()
    g.count = 100

    @app.get("/async")
    async def async_view() -> str:
        g.count = g.get("count", 0) + 1
        return str(g.count)

    @app.get("/sync")
    def sync_view() -> str:
        g.count = g.get("count", 0) + 1
        return str(g.count)

    try:
        with Live(app) as live:
            answers = [live.get(target).text for target in ("/async", "/sync") * 2]
            assert live.paths_taken() == {"loop": 2, "sync_view": 2}
    finally:
        flask.globals.app_ctx._get_current_object().pop()  # type: ignore[attr-defined]

    assert answers == ["1"] * 4
