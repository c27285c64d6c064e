"""What changes the response of a plain value: settings, attributes of classes, sessions.

On the loop such a response may be made without a response object; each of these must be
seen all the same.
"""

import asyncio
import dataclasses
import datetime
import enum
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask, Response, session
from flask.json.provider import DefaultJSONProvider
from support.frozen_time import frozen_time
from support.parity import Trace, compare
from werkzeug.exceptions import HTTPException


def build_returning(
    make: Callable[[], Any], configure: Callable[[Flask], object] = lambda app: None
) -> Callable[[Trace], Flask]:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.secret_key = "not a secret"
        configure(app)

        @app.get("/")
        async def view() -> Any:
            await asyncio.sleep(0)
            return make()

        return app

    return build


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2


class Colour(enum.IntEnum):
    RED = 1


class Marked:
    def __html__(self) -> str:
        return "<b>marked</b>"


class OwnDict(dict[str, Any]):
    def items(self) -> Any:
        return [("own", 1)]


JSON_VALUES: dict[str, Callable[[], Any]] = {
    "nested": lambda: {"b": [1, {"d": None, "c": True}], "a": 1.5},
    "keys that are no str": lambda: {2: "int", 2.5: "float", True: "bool"},
    "keys that do not compare": lambda: {1: "int", "a": "str"},
    "keys that are not allowed": lambda: {(1, 2): "tuple"},
    "text": lambda: {"é": "日本 \u2028 </script> & ' \" \\ \x7f \x00"},
    "lone surrogate": lambda: {"a": "\ud800"},
    "large numbers": lambda: [2**70, 1e308, -0.0, 1e-7],
    "not finite": lambda: [float("nan"), float("inf")],
    "tuple": lambda: {"a": (1, 2)},
    "set": lambda: {"a": {1}},
    "dataclass": lambda: [Point(1)],
    "enum": lambda: [Colour.RED],
    "__html__": lambda: {"a": Marked()},
    "bytes": lambda: {"a": b"bytes"},
    "naive time": lambda: {"a": datetime.datetime(2024, 2, 29)},  # noqa: DTZ001
    "OrderedDict": lambda: OrderedDict([("b", 1), ("a", 2)]),
    "subclass of dict": lambda: OwnDict(a=1),
    "subclass of dict within": lambda: {"a": OwnDict(a=1)},
    "empty list": list,
    "circular": lambda: circular(),
    "deep": lambda: deep(500),
    "too deep": lambda: deep(100_000),
}


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("kind", JSON_VALUES)
def test_json_of(kind: str) -> None:
    compare(build_returning(JSON_VALUES[kind]), "GET /", path="loop")


JSON_SETTINGS: dict[str, Callable[[Flask], object]] = {
    "compact": lambda app: setattr(app.json, "compact", True),
    "not compact": lambda app: setattr(app.json, "compact", False),
    "not sorted": lambda app: setattr(app.json, "sort_keys", False),
    "not ASCII": lambda app: setattr(app.json, "ensure_ascii", False),
    "mimetype": lambda app: setattr(app.json, "mimetype", "application/x-json"),
    "default": lambda app: setattr(app.json, "default", lambda value: "default"),
    "dumps": lambda app: setattr(app.json, "dumps", lambda value, **_: "dumped"),
    "response": lambda app: setattr(app.json, "response", lambda value: Response("own")),
    "debug": lambda app: setattr(app, "debug", True),
}


@pytest.mark.parametrize("kind", ["nested", "text", "set"])
@pytest.mark.parametrize("setting", JSON_SETTINGS)
def test_a_setting_of_the_json_provider(setting: str, kind: str) -> None:
    def configure(app: Flask) -> None:
        JSON_SETTINGS[setting](app)
        app.config["PROPAGATE_EXCEPTIONS"] = False

    compare(build_returning(JSON_VALUES[kind], configure), "GET /", path=None)


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (Response, "default_mimetype", "text/plain"),
        (Response, "default_status", 201),
        (Response, "autocorrect_location_header", True),
        (Response, "implicit_sequence_conversion", False),
        (Response, "automatically_set_content_length", False),
        (flask.wrappers.ResponseBase, "default_status", 202),
        (DefaultJSONProvider, "mimetype", "application/x-json"),
        (DefaultJSONProvider, "sort_keys", False),
        (DefaultJSONProvider, "compact", False),
        (DefaultJSONProvider, "ensure_ascii", False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.parametrize("kind", ["text", "json"])
def test_an_attribute_of_a_class(
    cls: type, name: str, value: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cls, name, value)
    make = (lambda: "text é") if kind == "text" else JSON_VALUES["text"]

    compare(build_returning(make), "GET /", path=None)


@pytest.mark.parametrize("kind", ["text", "json", "bytes", "lone surrogate"])
@pytest.mark.parametrize("use", ["none", "read", "write", "permanent", "nonlocal"])
def test_a_session_that_the_view_touched(use: str, kind: str) -> None:
    values: dict[str, Any] = {
        "text": "text",
        "json": {"a": 1},
        "bytes": b"bytes",
        "lone surrogate": "\ud800",
    }

    def make() -> Any:
        if use == "read":
            session.get("nothing")
        elif use == "write":
            session["a"] = 1
        elif use == "permanent":
            session.permanent = True
        elif use == "nonlocal":
            "a" in session  # noqa: B015
        return values[kind]

    with frozen_time():
        outcome = compare(build_returning(make), "GET /", path="loop")

    touched = use != "none"
    if kind != "lone surrogate":
        assert (outcome.header_list("vary") == ["Cookie"]) is touched


CONFIG: dict[str, dict[str, Any]] = {
    "SESSION_COOKIE_NAME": {"SESSION_COOKIE_NAME": "other"},
    "SESSION_COOKIE_DOMAIN": {"SESSION_COOKIE_DOMAIN": "example.com"},
    "SESSION_COOKIE_PATH": {"SESSION_COOKIE_PATH": "/path"},
    "SESSION_COOKIE_SECURE": {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_HTTPONLY": False},
    "SESSION_COOKIE_SAMESITE": {"SESSION_COOKIE_SAMESITE": "Strict"},
    "SESSION_COOKIE_PARTITIONED": {
        "SESSION_COOKIE_PARTITIONED": True,
        "SESSION_COOKIE_SECURE": True,
    },
    "MAX_COOKIE_SIZE": {"MAX_COOKIE_SIZE": 10},
    "APPLICATION_ROOT": {"APPLICATION_ROOT": "/root"},
    "SECRET_KEY_FALLBACKS": {"SECRET_KEY_FALLBACKS": ["old"]},
}


@pytest.mark.filterwarnings("ignore:The 'session' cookie is too large")
@pytest.mark.parametrize("name", CONFIG)
def test_a_setting_of_the_session_cookie(name: str) -> None:
    def make() -> str:
        session["key"] = "value"
        return "text"

    build = build_returning(make, lambda app: app.config.update(CONFIG[name]))
    with frozen_time():
        assert compare(build, "GET /", path="loop").header_list("set-cookie")


class OwnHTTPException(HTTPException):
    code = 418
    description = "own"


@pytest.mark.parametrize("returned", [True, False])
def test_an_http_exception_of_the_apps_own(returned: bool) -> None:
    def make() -> Any:
        if returned:
            return OwnHTTPException()
        raise OwnHTTPException

    assert compare(build_returning(make), "GET /", path="loop").status == 418


def test_what_the_request_and_its_context_are() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        @app.get("/<name>")
        async def view(name: str) -> str:
            request = flask.request._get_current_object()  # type: ignore[attr-defined]
            context = flask.globals.app_ctx._get_current_object()  # type: ignore[attr-defined]
            trace("request", type(request) is app.request_class, request.blueprint)
            trace("environ", type(request.environ), request.environ["werkzeug.request"] is request)
            trace("app", flask.current_app._get_current_object() is app)  # type: ignore[attr-defined]
            trace("g", type(flask.g._get_current_object()) is app.app_ctx_globals_class)  # type: ignore[attr-defined]
            trace("context", type(context).__name__, context.app is app)
            trace("first", app._got_first_request)
            trace("rule", request.url_rule.rule, request.view_args, request.routing_exception)
            trace("session", type(flask.session._get_current_object()).__name__)  # type: ignore[attr-defined]
            trace("adapter", flask.url_for("view", name="other", _external=True))
            request.environ["own"] = "kept"
            await asyncio.sleep(0)
            trace("kept", flask.request.environ["own"])
            return name

        return app

    compare(build, "GET /name?q=1", path="loop")
