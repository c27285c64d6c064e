"""Middleware around Flask: the app is called by it, and async views still run on the loop."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask, Response, request
from support.live import Live
from support.raw_http import RawResponse
from support.waiting import eventually
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

LOOP_THREAD = "carboy-loop"


def make_app(name: str = "app") -> Flask:
    app = Flask(name)

    @app.get("/async/<path:rest>")
    @app.get("/async", defaults={"rest": ""})
    async def async_view(rest: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return facts(name)

    @app.get("/sync")
    def sync_view() -> dict[str, Any]:
        return facts(name)

    @app.get("/stream")
    async def stream() -> Any:
        async def parts():
            for number in range(3):
                await asyncio.sleep(0)
                yield f"{number} "

        return parts()

    return app


def facts(name: str) -> dict[str, Any]:
    return {
        "app": name,
        "thread": threading.current_thread().name,
        "url": request.url,
        "root": request.root_path,
        "remote": request.remote_addr,
        "middleware": request.environ.get("middleware"),
    }


def json_of(answer: RawResponse) -> dict[str, Any]:
    assert answer.status == 200, answer
    return flask.json.loads(answer.body)


class Marking:
    """Notes that it was here in the environ and in the headers."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ["middleware"] = environ.get("middleware", "") + "x"

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("X-Marked", "1")], exc_info)

        return self.application(environ, start)


@pytest.mark.parametrize("times", [1, 3])
def test_wsgi_app_may_be_replaced(times: int) -> None:
    app = make_app()
    for _ in range(times):
        app.wsgi_app = Marking(app.wsgi_app)  # type: ignore[method-assign]

    with Live(app) as live:
        for target in ("/async", "/sync"):
            answer = live.get(target)
            assert json_of(answer)["middleware"] == "x" * times
            assert answer.header_list("x-marked") == ["1"] * times
        assert json_of(live.get("/async"))["thread"] == LOOP_THREAD
        assert live.get("/stream").text == "0 1 2 "
        assert live.paths_taken() == {"method_replaced": 4}


def test_the_middleware_itself_may_be_the_target() -> None:
    with Live(Marking(make_app())) as live:
        answer = live.get("/async")
        assert json_of(answer)["thread"] == LOOP_THREAD
        assert answer.header("x-marked") == "1"
        assert live.get("/stream").text == "0 1 2 "
        assert live.paths_taken() == {"not_flask": 2}


def test_wsgi_app_that_is_replaced_while_serving() -> None:
    app = make_app()
    with Live(app) as live:
        assert json_of(live.get("/async"))["middleware"] is None
        app.wsgi_app = Marking(app.wsgi_app)  # type: ignore[method-assign]
        assert json_of(live.get("/async"))["middleware"] == "x"


def test_proxy_fix_changes_what_the_view_sees() -> None:
    app = make_app()
    app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
        app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_port=1, x_prefix=1
    )
    forwarded = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "example.com"),
        ("X-Forwarded-Port", "8443"),
        ("X-Forwarded-Prefix", "/prefix"),
    ]

    with Live(app) as live:
        for target in ("/async", "/sync"):
            seen = json_of(live.get(target, forwarded))
            assert seen["remote"] == "192.0.2.1"
            assert seen["url"] == f"https://example.com:8443/prefix{target}"
            assert seen["root"] == "/prefix"


def test_a_dispatcher_serves_several_apps() -> None:
    outer = make_app("outer")
    target = DispatcherMiddleware(
        outer.wsgi_app, {"/one": make_app("one"), "/two/deep": make_app("deep")}
    )

    with Live(target) as live:
        for prefix, name in (("", "outer"), ("/one", "one"), ("/two/deep", "deep")):
            for view in ("/async/x", "/sync"):
                seen = json_of(live.get(prefix + view))
                assert (seen["app"], seen["root"]) == (name, prefix)
                assert (seen["thread"] == LOOP_THREAD) is (view != "/sync")
            assert live.get(f"{prefix}/stream").text == "0 1 2 "
        assert live.get("/two/other").status == 404


def test_an_app_that_calls_another_within_a_request() -> None:
    inner = make_app("inner")
    app = make_app("outer")

    @app.get("/both")
    def both() -> Response:
        return Response.from_app(inner, {**request.environ, "PATH_INFO": "/async"})

    with Live(app) as live:
        seen = json_of(live.get("/both"))

    assert (seen["app"], seen["thread"]) == ("inner", LOOP_THREAD)


def test_middleware_that_calls_the_app_twice() -> None:
    app = make_app()

    def twice(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        def discard(status: str, headers: Any, exc_info: Any = None) -> Any:
            return lambda data: None

        first = app(dict(environ), discard)
        content = b"".join(first)
        first.close()
        assert b"outer" in content or b"app" in content
        return app(environ, start_response)

    with Live(twice) as live:
        for target in ("/async", "/sync"):
            assert json_of(live.get(target))["app"] == "app"


def test_middleware_that_answers_itself() -> None:
    app = make_app()

    def refuse(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"refused"]

    app.wsgi_app = refuse  # type: ignore[method-assign, assignment]
    with Live(app) as live:
        assert (live.get("/async").status, live.get("/async").text) == (403, "refused")


def test_middleware_that_calls_the_app_when_its_body_is_read() -> None:
    app = make_app()

    def lazy(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        body = app(environ, start_response)
        try:
            yield from body
        finally:
            body.close()

    with Live(lazy) as live:
        assert json_of(live.get("/async"))["thread"] == LOOP_THREAD
        assert live.get("/stream").text == "0 1 2 "


def test_middleware_that_changes_the_method_and_the_path() -> None:
    app = make_app()
    inner = app.wsgi_app

    def override(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ["REQUEST_METHOD"] = "GET"
        environ["PATH_INFO"] = "/async/rewritten"
        return inner(environ, start_response)

    app.wsgi_app = override  # type: ignore[method-assign]
    with Live(app) as live:
        answer = live.post("/elsewhere", b"body")

    assert json_of(answer)["url"].endswith("/async/rewritten")


def test_a_body_in_middleware_is_closed_when_the_client_goes() -> None:
    closed: list[str] = []
    app = Flask("app")

    @app.get("/")
    async def view() -> Any:
        async def endless():
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                closed.append(threading.current_thread().name)

        return endless()

    app.wsgi_app = Marking(app.wsgi_app)  # type: ignore[method-assign]
    with Live(app) as live:
        with live.connect() as connection:
            connection.begin("GET", "/")
            assert connection.read_chunk_after_head()
        eventually(lambda: closed == [LOOP_THREAD])


def test_a_class_that_flask_call_was_replaced_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Sentry does."""
    app = make_app()
    calls: list[str] = []
    original = Flask.__call__

    def traced(self: Flask, environ: dict[str, Any], start_response: Any) -> Any:
        calls.append(environ["PATH_INFO"])
        return original(self, environ, start_response)

    monkeypatch.setattr(Flask, "__call__", traced)
    with Live(app) as live:
        json_of(live.get("/async"))
        json_of(live.get("/sync"))

    assert calls == ["/async", "/sync"]
