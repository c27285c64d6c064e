"""What a view on the loop never looks at is made late, and is then what it always was.

Each test asks that its requests were served on the loop: only there anything is made late.
"""

import asyncio
import gc
import weakref
from typing import Any

import flask
import flask.ctx
import pytest
from flask import Flask, g, request
from flask.globals import app_ctx, request_ctx
from support.live import Live
from support.waiting import eventually
from werkzeug.wrappers import Response

pytestmark = pytest.mark.skipif(
    "_cv_request" not in vars(flask.globals),
    reason="Flask 3.2 has other contexts, whose own constructors are called",
)


def test_the_request_is_the_same_object_at_each_look() -> None:
    app = Flask(__name__)

    @app.get("/")
    async def view() -> list[Any]:
        first = request._get_current_object()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        return [
            request._get_current_object() is first,  # type: ignore[attr-defined]
            request_ctx.request is first,
            request.environ["werkzeug.request"] is first,
            request.environ is first.environ,
            g._get_current_object() is app_ctx.g,  # type: ignore[attr-defined]
        ]

    with Live(app) as live:
        assert live.get().body == b"[true,true,true,true,true]\n"
        assert live.paths_taken() == {"loop": 1}


def test_the_contexts_have_the_types_names_and_attributes_of_flasks_own() -> None:
    app = Flask(__name__)

    @app.get("/")
    async def view() -> list[Any]:
        context = request_ctx._get_current_object()  # type: ignore[attr-defined]
        application_context = app_ctx._get_current_object()  # type: ignore[attr-defined]
        own = flask.ctx.RequestContext
        return [
            isinstance(context, own),
            isinstance(application_context, flask.ctx.AppContext),
            repr(context),
            type(context).__name__,
            type(application_context).__module__,
            context.flashes,
            context._after_request_functions,
            [type(token).__name__ for token, _ in context._cv_tokens],
            context._cv_tokens[0][1] is application_context,
            len(application_context._cv_tokens),
            context.url_adapter.build("view"),
            application_context.url_adapter,
        ]

    with Live(app) as live:
        found = flask.json.loads(live.get().body)
        assert live.paths_taken() == {"loop": 1}

    assert found == [
        True,
        True,
        f"<RequestContext 'http://localhost/' [GET] of {app.name}>",
        "RequestContext",
        "flask.ctx",
        None,
        [],
        ["Token"],
        True,
        1,
        "/",
        None,
    ]


def test_a_background_task_looks_at_the_request_first_after_the_response() -> None:
    app = Flask(__name__)
    answered = asyncio.Event()
    seen: list[Any] = []
    tasks: set[asyncio.Task[None]] = set()

    async def look_later() -> None:
        await answered.wait()
        seen.append((request.path, request.args["q"], request.headers["X-Name"], request.method))
        seen.append(request.environ["werkzeug.request"])

    @app.get("/<name>")
    async def view(name: str) -> str:
        tasks.add(asyncio.create_task(look_later()))
        return name

    @app.get("/go-on")
    async def go_on() -> str:
        answered.set()
        await asyncio.wait(tasks)
        return "done"

    with Live(app) as live:
        assert live.get("/x?q=1", [("X-Name", "y")]).text == "x"
        assert live.get("/go-on").text == "done"
        assert live.paths_taken() == {"loop": 2}

    # Flask, too, takes the request out of the environ when the context is popped.
    assert seen == [("/x", "1", "y", "GET"), None]


def test_functions_that_a_view_adds_are_called() -> None:
    app = Flask(__name__)

    @app.get("/")
    async def view() -> str:
        @flask.after_this_request
        def mark(response: Response) -> Response:
            response.headers["X-After"] = "1"
            return response

        return "marked"

    with Live(app) as live:
        assert live.get().header("x-after") == "1"
        assert live.paths_taken() == {"loop": 1}


def test_a_context_can_be_pushed_again_and_copied() -> None:
    app = Flask(__name__)
    app.secret_key = "not a secret"

    @app.get("/")
    async def view() -> list[Any]:
        context = request_ctx._get_current_object()  # type: ignore[attr-defined]
        with context:
            inner = [request.path, len(context._cv_tokens)]
        copy = context.copy()
        with copy:
            inner += [request_ctx._get_current_object() is copy, request.path]  # type: ignore[attr-defined]
        return [*inner, len(context._cv_tokens), request_ctx._get_current_object() is context]  # type: ignore[attr-defined]

    with Live(app) as live:
        assert flask.json.loads(live.get().body) == ["/", 2, True, "/", 1, True]
        assert live.paths_taken() == {"loop": 1}


class Kept:
    """Something whose end can be seen."""


@pytest.mark.parametrize("looks_at_request", [False, True])
def test_contexts_that_keep_themselves_are_collected(looks_at_request: bool) -> None:
    app = Flask(__name__)
    kept: list[weakref.ref[Kept]] = []

    @app.get("/")
    async def view() -> str:
        thing = g.thing = Kept()
        kept.append(weakref.ref(thing))
        g.contexts = (
            request_ctx._get_current_object(),  # type: ignore[attr-defined]
            app_ctx._get_current_object(),  # type: ignore[attr-defined]
        )
        if looks_at_request:
            g.request = request._get_current_object()  # type: ignore[attr-defined]
            request.environ["g"] = g._get_current_object()  # type: ignore[attr-defined]
        return "kept"

    def is_collected() -> bool:
        gc.collect()
        return kept[0]() is None

    with Live(app) as live:
        assert live.get().text == "kept"
        assert live.paths_taken() == {"loop": 1}
        eventually(is_collected, what="the collector has found the cycle")
