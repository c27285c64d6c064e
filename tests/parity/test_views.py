"""Kinds of views, and decorators around `async def` views."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from flask import Flask, current_app, g, make_response, request
from flask.views import MethodView, View
from support.parity import Trace, compare


def calls_first(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator whose last act is the call, in the way of Flask-Login."""

    @functools.wraps(view)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        g.user = request.headers.get("X-User", "nobody")
        return current_app.ensure_sync(view)(*arguments, **keywords)

    return wrapper


def uses_result(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that does something with the result, in the way of Flask-HTTPAuth."""

    @functools.wraps(view)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        try:
            response = make_response(current_app.ensure_sync(view)(*arguments, **keywords))
        finally:
            g.after = True
        response.headers["X-Wrapped"] = g.get("set_in_view", "not set")
        return response

    return wrapper


def build_with_views(trace: Trace) -> Flask:
    app = Flask(__name__)

    async def view(name: str = "none") -> str:
        await asyncio.sleep(0)
        g.set_in_view = "set"
        trace("view", name, g.get("user"))
        if name == "raise":
            raise ValueError("asked for")
        return name

    def add(rule: str, function: Callable[..., Any], **options: Any) -> None:
        app.add_url_rule(f"/{rule}/<name>", rule, function, **options)

    add("plain", view)
    add("tail", calls_first(view))
    add("nontail", uses_result(view))
    add("both", calls_first(uses_result(view)))
    add("twice", uses_result(calls_first(uses_result(view))))
    add("partial", functools.partial(view))

    class Bound:
        async def method(self, name: str) -> str:
            return f"bound {await view(name)}"

    add("bound", Bound().method)

    class Methods(MethodView):
        init_every_request = False
        decorators: ClassVar[list[Any]] = [calls_first]

        async def get(self, name: str) -> str:
            return await view(name)

        async def post(self, name: str) -> str:
            return f"posted {await view(name)}"

        def delete(self, name: str) -> str:
            return "deleted"

    add("methods", Methods.as_view("methods"))

    class Dispatch(View):
        methods: ClassVar[list[str]] = ["GET", "PUT"]

        def __init__(self, prefix: str) -> None:
            self.prefix = prefix

        async def dispatch_request(self, name: str) -> str:
            return f"{self.prefix} {await view(name)}"

    add("dispatch", Dispatch.as_view("dispatch", "prefix"))
    return app


WAYS = {
    "plain": "loop",
    "tail": "sync_view",
    "nontail": "sync_view",
    "both": "sync_view",
    "twice": "sync_view",
    "partial": "loop",
    "bound": "loop",
    "methods": "sync_view",
    "dispatch": "sync_view",
}


@pytest.mark.parametrize("name", ["value", "raise"])
@pytest.mark.parametrize("rule", WAYS)
def test_a_view_is_called_as_by_flask(rule: str, name: str) -> None:
    outcome = compare(
        build_with_views, f"GET /{rule}/{name}", headers=[("X-User", "me")], path=WAYS[rule]
    )

    assert ("view", name, "me" if rule in ("tail", "both", "methods", "twice") else None) in (
        outcome.trace
    )


@pytest.mark.parametrize("line", ["POST /methods/x", "DELETE /methods/x", "PUT /methods/x"])
def test_the_methods_of_a_class_based_view(line: str) -> None:
    compare(build_with_views, line, path=None)


def test_a_view_that_gets_wrong_arguments_is_a_server_error() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        @app.get("/<name>")
        async def view() -> str:
            return "never"

        return app

    assert compare(build, "GET /x", path="loop").status == 500


@pytest.mark.parametrize("colour", ["async", "sync"])
@pytest.mark.parametrize("form", ["json", "form", "multipart", "raw", "stream"])
def test_a_view_reads_the_body(form: str, colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        def read() -> dict[str, Any]:
            files = {name: file.read().decode() for name, file in request.files.items()}
            return {
                "json": request.get_json(silent=True),
                "form": request.form.to_dict(flat=False),
                "files": files,
                "data": "" if form == "stream" else request.get_data(as_text=True),
                "stream": request.stream.read().decode() if form == "stream" else "",
                "length": request.content_length,
                "type": request.content_type,
            }

        async def async_view() -> dict[str, Any]:
            return read()

        def sync_view() -> dict[str, Any]:
            return read()

        view = async_view if colour == "async" else sync_view
        app.add_url_rule("/", "view", view, methods=["POST"])
        return app

    bodies = {
        "json": ("application/json", b'{"a": [1, "\xc3\xa9"]}'),
        "form": ("application/x-www-form-urlencoded", b"a=1&a=2&b=%C3%A9"),
        "multipart": (
            "multipart/form-data; boundary=line",
            (
                b'--line\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
                b'--line\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\n'
                b"content\r\n--line--\r\n"
            ),
        ),
        "raw": ("application/octet-stream", b"\x00raw"),
        "stream": ("text/plain", b"streamed"),
    }
    kind, body = bodies[form]
    compare(
        build,
        "POST /",
        headers=[("Content-Type", kind)],
        body=body,
        path="loop" if colour == "async" else "sync_view",
    )


@pytest.mark.parametrize("colour", ["async", "sync"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"{}"),
        ("application/json", b"{broken"),
        ("application/json", b"\xff"),
        ("application/json", b"{}" * 600),
    ],
)
def test_bodies_that_a_view_refuses(kind: str, body: bytes, colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.config["MAX_CONTENT_LENGTH"] = 1000

        async def async_view() -> Any:
            return request.json

        def sync_view() -> Any:
            return request.json

        view = async_view if colour == "async" else sync_view
        app.add_url_rule("/", "view", view, methods=["POST"])
        return app

    outcome = compare(build, "POST /", headers=[("Content-Type", kind)], body=body, path=None)

    assert outcome.status in (400, 413, 415)


def test_a_generator_view_is_a_streamed_body() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        @app.get("/")
        def view():
            yield "one"
            yield "two"

        return app

    assert compare(build, "GET /", path="sync_view").text == "onetwo"
