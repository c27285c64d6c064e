"""Every kind of value that a view may return, from `async def` and from `def` views."""

import datetime
import decimal
import io
import uuid
from collections.abc import Callable
from typing import Any

import flask
import pytest
import werkzeug
from flask import Flask, Response, jsonify, make_response, redirect, request, send_file
from flask.typing import ResponseReturnValue
from support.parity import Trace, compare
from werkzeug.datastructures import Headers
from werkzeug.exceptions import Conflict


class OwnResponse(Response):
    default_mimetype = "text/x-own"


class Rendered(str):
    """What template engines return: a str of a class of its own."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def wsgi_callable(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("202 Accepted", [("X-From", "callable"), ("Content-Type", "text/x")])
    return [environ["PATH_INFO"].encode()]


def with_cookies() -> Response:
    response = make_response("cookies")
    response.set_cookie("first", "1", httponly=True)
    response.set_cookie("second", "zwei", path="/sub", samesite="Lax")
    response.delete_cookie("third")
    response.vary.add("Accept")
    return response


# The values whose response is made without any code but Flask's and Werkzeug's.
PLAIN_VALUES: dict[str, Callable[[], Any]] = {
    "str": lambda: "text é",
    "empty str": lambda: "",
    "bytes": lambda: b"bytes \x00\xff",
    "bytearray": lambda: bytearray(b"array"),
    "subclass of str": lambda: Rendered("<b>"),
    "dict": lambda: {"b": 1, "a": [1.5, None, True, "é"]},
    "list": lambda: [{"n": 1}, 2],
    "empty dict": dict,
    "dict of rich values": lambda: {
        "date": datetime.date(2024, 2, 29),
        "time": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        "decimal": decimal.Decimal("1.10"),
        "uuid": uuid.UUID(int=5),
    },
    "not serializable": lambda: {"object": object()},
    "body and status": lambda: ("created", 201),
    "body and status line": lambda: ("teapot", "418 Short And Stout"),
    "body and unknown status": lambda: ("strange", 799),
    "body and headers": lambda: ("x", {"X-One": "1", "Content-Type": "text/x-two"}),
    "body and pairs": lambda: ("x", [("X-Many", "1"), ("X-Many", "2")]),
    "body and Headers": lambda: ("x", Headers([("X-Many", "1"), ("X-Many", "2")])),
    "body, status and headers": lambda: ({"a": 1}, 203, {"X-One": "1"}),
    "header with a list": lambda: ("x", {"X-Many": ["1", "2"]}),
    "no content": lambda: ("", 204),
    "no content with a body": lambda: ("ignored", 204),
    "not modified": lambda: ("ignored", 304, {"ETag": '"tag"', "Content-Type": "text/x"}),
    "Response": lambda: Response("response", 202, mimetype="text/x"),
    "Response in a tuple": lambda: (Response("x", 202), 203, {"X-One": "1"}),
    "Response of Werkzeug": lambda: werkzeug.Response(["a", "b"], 202),
    "own class of response": lambda: OwnResponse("own"),
    "Response of parts": lambda: Response(["one", b"two", "three"]),
    "direct passthrough": lambda: Response([b"raw"], direct_passthrough=True),
    "jsonify": lambda: jsonify(a=1, b=[2]),
    "redirect": lambda: redirect("/é?q=1", 303),
    "redirect elsewhere": lambda: redirect("https://example.com/"),
    "cookies": with_cookies,
    "header outside of ASCII": lambda: ("x", {"X-Name": "caf\xe9"}),
    "stated length": lambda: ("12345", {"Content-Length": "5"}),
    "wrong tuple": lambda: ("x", 200, {}, "fourth"),
    "empty tuple": tuple,
    "None": lambda: None,
    "None in a tuple": lambda: (None, 200),
    "int": lambda: 42,
    "header with a line break": lambda: ("x", {"X-Bad": "a\r\nSet-Cookie: b=c"}),
}

OTHER_VALUES: dict[str, Callable[[], Any]] = {
    "iterator": lambda: iter(["one", "two"]),
    "generator": lambda: (str(number) for number in range(3)),
    "generator in a tuple": lambda: ((str(number) for number in range(3)), 201, {"X-One": "1"}),
    "empty generator": lambda: (str(number) for number in range(0)),
    "streamed Response": lambda: Response((b"%d" % number for number in range(3)), 202),
    "WSGI callable": lambda: wsgi_callable,
    "HTTPException": lambda: Conflict("returned, not raised"),
    "HTTPException of a response": lambda: Conflict(response=Response("own", 409)),
    "send_file": lambda: send_file(io.BytesIO(b"content" * 100), "text/x", download_name="f.x"),
    "Response with on_close": lambda: closing_response(),
}


def closing_response() -> Response:
    response = Response("closing")
    trace = flask.current_app.config["TRACE"]
    response.call_on_close(lambda: trace("closed", flask.has_request_context()))
    return response


def build_returning(make: Callable[[], Any], *, is_async: bool) -> Callable[[Trace], Flask]:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.config["TRACE"] = trace

        async def async_view() -> ResponseReturnValue:
            trace("view")
            return make()

        def sync_view() -> ResponseReturnValue:
            trace("view")
            return make()

        view = async_view if is_async else sync_view
        app.add_url_rule("/", "view", view, methods=["GET", "POST"])
        return app

    return build


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("kind", PLAIN_VALUES)
def test_a_plain_value_becomes_flasks_response(kind: str, is_async: bool, method: str) -> None:
    build = build_returning(PLAIN_VALUES[kind], is_async=is_async)

    compare(build, f"{method} /", path="loop" if is_async else "sync_view")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("kind", OTHER_VALUES)
def test_another_value_becomes_flasks_response(kind: str, is_async: bool, method: str) -> None:
    build = build_returning(OTHER_VALUES[kind], is_async=is_async)

    compare(build, f"{method} /", path="loop" if is_async else "sync_view")


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_file_answers_conditional_and_range_requests(is_async: bool) -> None:
    content = bytes(range(256)) * 8

    def make() -> Response:
        return send_file(
            io.BytesIO(content),
            "application/x-bytes",
            conditional=True,
            etag="tag",
            last_modified=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        )

    build = build_returning(make, is_async=is_async)
    path = "loop" if is_async else "sync_view"

    part = compare(build, "GET /", headers=[("Range", "bytes=10-19")], path=path)
    assert (part.status, part.body) == (206, content[10:20])

    beyond = compare(build, "GET /", headers=[("Range", "bytes=99999-")], path=path)
    assert beyond.status == 416

    same = compare(build, "GET /", headers=[("If-None-Match", '"tag"')], path=path)
    assert same.status == 304


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_the_apps_own_response_and_json_classes_are_used(is_async: bool) -> None:
    class OwnProvider(flask.json.provider.DefaultJSONProvider):
        def dumps(self, obj: Any, **options: Any) -> str:
            return f"own {super().dumps(obj, **options)}"

    def build(trace: Trace) -> Flask:
        class App(Flask):
            response_class = OwnResponse
            json_provider_class = OwnProvider

        app = App(__name__)

        async def async_view() -> dict[str, int] | str:
            return {"a": 1} if "json" in request.args else "text"

        def sync_view() -> dict[str, int] | str:
            return {"a": 1} if "json" in request.args else "text"

        app.add_url_rule("/", "view", async_view if is_async else sync_view)
        return app

    text = compare(build, "GET /", path=None)
    assert text.header_list("content-type") == ["text/x-own; charset=utf-8"]
    assert compare(build, "GET /?json", path=None).body == b'own {"a":1}\n'


def test_the_kinds_of_value_are_told_apart() -> None:
    """Guards the test itself: a kind that always failed would compare equal, too."""
    failing = {
        kind
        for kind, make in {**PLAIN_VALUES, **OTHER_VALUES}.items()
        if compare(build_returning(make, is_async=False), "GET /", path="sync_view").status == 500
    }

    assert failing == {
        "not serializable",
        "wrong tuple",
        "empty tuple",
        "None",
        "None in a tuple",
        "int",
        "header with a line break",
    }
