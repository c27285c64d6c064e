"""Flask's own classes with methods that somebody has wrapped, as tracers do.

A wrapper looks like what it wraps: it has the name, the module and the attributes of it.
Each wrapper here is in place before the app is made, so that nothing has seen the original.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flask
import pytest
import werkzeug
import wrapt
from flask import Flask
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SecureCookieSessionInterface
from support.parity import Trace, compare
from werkzeug.routing import Map, MapAdapter

Wrap = Callable[[type, str, Callable[[str], None]], Any]


def with_functools(owner: type, name: str, note: Callable[[str], None]) -> Any:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        note(name)
        return original(*arguments, **keywords)

    return wrapper


def with_wrapt(owner: type, name: str, note: Callable[[str], None]) -> Any:
    def call(wrapped: Any, instance: Any, arguments: Any, keywords: Any) -> Any:
        note(name)
        return wrapped(*arguments, **keywords)

    return wrapt.FunctionWrapper(getattr(owner, name), call)


def with_functools_twice(owner: type, name: str, note: Callable[[str], None]) -> Any:
    """A wrapper within another: each layer has to be looked at."""
    inner = with_functools(owner, name, note)
    original = getattr(owner, name)
    inner.__code__ = inner.__code__.replace(co_filename=original.__code__.co_filename)

    @functools.wraps(inner)
    def outer(*arguments: Any, **keywords: Any) -> Any:
        return inner(*arguments, **keywords)

    return outer


WRAPS = [with_functools, with_wrapt, with_functools_twice]

#: Methods that a plain request passes, by the reason that the wrapped one is a worker's.
METHODS = [
    (Flask, "wsgi_app", "method_replaced"),
    (Flask, "full_dispatch_request", "method_replaced"),
    (Flask, "preprocess_request", "method_replaced"),
    (Flask, "dispatch_request", "method_replaced"),
    (Flask, "make_response", "method_replaced"),
    (Flask, "finalize_request", "method_replaced"),
    (Flask, "process_response", "method_replaced"),
    (Flask, "request_context", "method_replaced"),
    (Flask, "do_teardown_request", "method_replaced"),
    (werkzeug.Request, "__init__", "own_class"),
    (werkzeug.Request, "close", "own_class"),
    (werkzeug.Response, "__init__", "own_class"),
    (werkzeug.Response, "get_wsgi_headers", "own_class"),
    (DefaultJSONProvider, "dumps", "own_class"),
    (DefaultJSONProvider, "response", "own_class"),
    (flask.ctx.RequestContext, "__init__", "own_class"),
    (flask.ctx.RequestContext, "push", "own_class"),
    (flask.ctx.RequestContext, "match_request", "own_class"),
    (flask.ctx.RequestContext, "pop", "own_class"),
    (flask.ctx.AppContext, "__init__", "own_class"),
    (flask.ctx.AppContext, "push", "own_class"),
    (flask.ctx.AppContext, "pop", "own_class"),
    (SecureCookieSessionInterface, "open_session", "own_class"),
    (SecureCookieSessionInterface, "get_cookie_name", "own_class"),
    (Map, "bind_to_environ", "own_class"),
    (MapAdapter, "match", "own_class"),
]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize(
    ("owner", "name", "reason"), METHODS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_wrapped_method_is_called(
    owner: type, name: str, reason: str, wrap: Wrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[Trace] = []
    inherits = name not in vars(owner)
    original = getattr(owner, name)

    def note(event: str) -> None:
        # Once: carboy itself makes some of these objects when it first sees an app.
        if event not in current[0]:
            current[0](event)

    def build(trace: Trace) -> Flask:
        # A wrapper from the last build is taken off first.
        monkeypatch.undo()
        assert (name not in vars(owner)) is inherits
        assert getattr(owner, name) is original
        current[:] = [trace]
        monkeypatch.setattr(owner, name, wrap(owner, name, note))
        app = Flask(__name__)
        app.secret_key = "not a secret"

        @app.get("/")
        async def view() -> dict[str, str]:
            return {"served": "yes"}

        return app

    assert name in compare(build, "GET /", path=reason).trace


class HostCheckingRequest(flask.Request):
    trusted_hosts: ClassVar[list[str]] = ["elsewhere"]


class SingletonRequest(flask.Request):
    made = 0

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        cls.made += 1
        request = super().__new__(cls)
        request.number = cls.made
        return request


class WatchingRequest(flask.Request):
    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__.setdefault("watched", []).append(name)
        super().__setattr__(name, value)


class ClosingRequest(flask.Request):
    def close(self) -> None:
        self.environ["trace"]("closed")
        super().close()


class ForeignRequest(werkzeug.Request):
    """Has what Flask needs of a request, but is none of Flask's."""

    view_args: Any = None
    url_rule: Any = None
    routing_exception: Any = None
    blueprints: tuple[str, ...] = ()
    blueprint = None
    endpoint = "view"


OWN_REQUESTS = {
    "trusted hosts": HostCheckingRequest,
    "__new__": SingletonRequest,
    "__setattr__": WatchingRequest,
    "close": ClosingRequest,
    "another base": ForeignRequest,
}


@pytest.mark.parametrize("what", OWN_REQUESTS)
def test_a_request_class_that_does_more_than_flasks(what: str) -> None:
    def build(trace: Trace) -> Flask:
        class App(Flask):
            request_class = OWN_REQUESTS[what]  # type: ignore[assignment]

        SingletonRequest.made = 0
        app = App(__name__)

        @app.get("/")
        async def view() -> list[Any]:
            flask.request.environ["trace"] = trace
            return [
                getattr(flask.request, "number", None),
                getattr(flask.request, "watched", None),
                type(flask.request._get_current_object()).__name__,
            ]

        return app

    compare(build, "GET /", path="own_class")


def test_a_request_class_that_only_adds_something_stays_on_the_loop() -> None:
    class Request(flask.Request):
        @property
        def shouted_path(self) -> str:
            return self.path.upper()

    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.request_class = Request

        @app.get("/path")
        async def view() -> str:
            return flask.request.shouted_path  # type: ignore[attr-defined, no-any-return]

        return app

    assert compare(build, "GET /path", path="loop").text == "/PATH"
