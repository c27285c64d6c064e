"""A `def` view without hooks: a worker calls it in contexts that are made natively."""

import contextvars
import threading
from typing import Any

import flask
import flask.ctx
import pytest
from flask import Flask, g, request
from flask.globals import request_ctx
from support.live import Live
from support.waiting import eventually

from carboy._carboy import RequestContextBase

pytestmark = pytest.mark.skipif(
    "_cv_request" not in vars(flask.globals),
    reason="Flask 3.2 has other contexts, whose own constructors are called",
)


def is_native() -> bool:
    context = request_ctx._get_current_object()  # type: ignore[attr-defined]
    assert isinstance(context, flask.ctx.RequestContext)
    return isinstance(context, RequestContextBase)


def test_contexts_are_native_until_something_else_is_on_the_way() -> None:
    app = Flask(__name__)
    app.secret_key = "not a secret"

    @app.get("/<int:number>")
    def view(number: int) -> list[Any]:
        return [is_native(), number, request.args["q"], request.view_args]

    @app.get("/add-hook")
    def add_hook() -> str:
        app.teardown_request_funcs[None] = [lambda error: None]
        return "added"

    with Live(app) as live:
        assert live.get("/7?q=x").body == b'[true,7,"x",{"number":7}]\n'
        # A session that may have to be refreshed is Flask's business from the start.
        cookie = [("Cookie", "session=x")]
        assert flask.json.loads(live.get("/7?q=x", cookie).body)[0] is False
        live.get("/add-hook")
        assert flask.json.loads(live.get("/7?q=x").body)[0] is False
        assert live.paths_taken() == {"sync_view": 3, "hook": 1}


def test_the_view_is_called_on_a_worker_in_an_empty_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    app = Flask(__name__)
    threads: list[str] = []

    @app.get("/")
    def view() -> str:
        threads.append(threading.current_thread().name)
        before = variable.get("unset")
        variable.set("set")
        g.seen = True
        return before

    with Live(app) as live:
        assert [live.get().text for _ in range(3)] == ["unset"] * 3

    assert all(name.startswith("carboy-worker-") for name in threads)


def test_a_thread_of_the_view_sees_the_request_after_the_response() -> None:
    app = Flask(__name__)
    answered = threading.Event()
    seen: list[Any] = []

    @app.get("/<name>")
    def view(name: str) -> str:
        @flask.copy_current_request_context
        def look_later() -> None:
            answered.wait(10)
            seen.append((request.path, request.args["q"], request.headers["X-Name"]))

        threading.Thread(target=look_later).start()
        return name

    with Live(app) as live:
        assert live.get("/x?q=1", [("X-Name", "y")]).text == "x"
        answered.set()
        eventually(lambda: seen == [("/x", "1", "y")])


def test_an_error_is_handled_on_the_same_thread() -> None:
    app = Flask(__name__)
    threads: list[int] = []

    @app.get("/")
    def view() -> str:
        threads.append(threading.get_ident())
        raise LookupError("view")

    @app.errorhandler(LookupError)
    def handler(error: LookupError) -> tuple[str, int]:
        threads.append(threading.get_ident())
        return f"handled {error} {is_native()}", 418

    with Live(app) as live:
        response = live.get()

    assert (response.status, response.text) == (418, "handled view True")
    assert len(set(threads)) == 1
