"""What code meets when its client goes: waits, handlers, hooks, tasks and threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import flask
from flask import Flask, Response, request
from support.calling_views import make_app
from support.live import Live
from support.upstream import Upstream
from support.waiting import TIMEOUT_SECONDS, eventually

from carboy import ClientDisconnected, Promise, http

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def test_a_wait_for_anything_that_is_promised_ends(upstream: Upstream) -> None:
    """Also for what no work of the request will settle."""
    app = Flask(__name__)
    begun = threading.Event()
    ended: list[Any] = []

    @app.get("/")
    def view() -> str:
        promise, _, _ = Promise.with_resolvers()
        begun.set()
        try:
            promise.result()
        except BaseException as error:
            ended.append(type(error))
            raise
        return ""

    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        assert begun.wait(TIMEOUT_SECONDS)
        client.close()
        eventually(lambda: ended == [ClientDisconnected], what="the view has ended")


def test_what_is_detached_goes_on(upstream: Upstream) -> None:
    app = Flask(__name__)
    kept: list[Promise[Any]] = []

    @app.get("/")
    def view() -> str:
        kept.append(http.post(f"{upstream.url}/audit").detach("the audit"))
        return http.get(f"{upstream.url}/slow").result().text

    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        calls = {call.target: call for call in (upstream.next_call(), upstream.next_call())}
        client.close()
        calls["/slow"].wait_closed()
        assert not calls["/audit"].closed.is_set()
        calls["/audit"].answer(b"written")
        eventually(kept[0].done, what="the audit is written")
        assert kept[0].result().text == "written"


def test_after_request_functions_and_signals_are_those_of_a_base_exception(
    upstream: Upstream,
) -> None:
    """As Flask has it for an exception that is no ``Exception``: only teardown runs."""
    app, _ = make_app(upstream, "sync")
    events: list[str] = []

    @app.before_request
    def before() -> None:
        events.append("before")

    @app.after_request
    def after(response: Response) -> Response:
        events.append("after")
        return response

    @app.errorhandler(Exception)
    def mend(error: Exception) -> str:
        events.append("mended")
        return "mended"

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        events.append(f"teardown {type(error).__name__} {request.path}")

    @app.teardown_appcontext
    def teardown_app(error: BaseException | None) -> None:
        events.append(f"teardown of the app's context {type(error).__name__}")

    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        upstream.next_call()
        client.close()
        eventually(lambda: len(events) == 3, what="the request is torn down")
    assert events == [
        "before",
        "teardown ClientDisconnected /",
        "teardown of the app's context ClientDisconnected",
    ]


def test_handlers_that_mend_errors_are_not_asked(upstream: Upstream) -> None:
    app = Flask(__name__)
    asked: list[str] = []
    ended: list[Any] = []

    @app.get("/")
    def view() -> Any:
        promise = http.get(upstream.url)
        mended = promise.catch(lambda error: asked.append("catch")).or_else("or_else")
        try:
            return mended.finally_(lambda: asked.append("finally")).result()
        except BaseException as error:
            ended.append(type(error))
            raise

    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        upstream.next_call()
        client.close()
        eventually(lambda: ended, what="the view has ended")
    assert ended == [ClientDisconnected]
    assert asked == ["finally"]


def test_a_task_group_of_calls_ends_as_one(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask(__name__)
    ended = threading.Event()

    @app.get("/")
    async def view() -> str:
        async def fetch(path: str) -> str:
            return (await http.get(upstream.url + path)).text

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(fetch(f"/{number}"))
        finally:
            ended.set()
        return ""

    with Live(app) as live, caplog.at_level(logging.INFO):
        client = live.connect()
        client.begin("GET", "/")
        calls = [upstream.next_call() for _ in range(3)]
        client.close()
        for call in calls:
            call.wait_closed()
        assert ended.wait(TIMEOUT_SECONDS)
    assert caplog.records == []


def test_code_in_other_threads_of_the_request_is_told_too(upstream: Upstream) -> None:
    app = Flask(__name__)
    ended: list[Any] = []

    @app.get("/")
    def view() -> str:
        @flask.copy_current_request_context
        def work() -> None:
            try:
                http.get(upstream.url).result()
            except BaseException as error:
                ended.append(type(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return ""

    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        call = upstream.next_call()
        client.close()
        call.wait_closed()
        eventually(lambda: ended == [ClientDisconnected], what="the thread has ended")


def test_views_of_an_app_within_a_middleware_are_given_up(upstream: Upstream) -> None:
    app, ended = make_app(upstream, "sync")

    class Wrapped:
        def __init__(self, stream: Any) -> None:
            self.read = stream.read

    def middleware(environ: Any, start_response: Callable[..., Any]) -> Any:
        environ["wsgi.input"] = Wrapped(environ["wsgi.input"])
        return app(environ, start_response)

    with Live(middleware) as live:
        client = live.connect()
        client.begin("GET", "/")
        call = upstream.next_call()
        client.close()
        call.wait_closed()
        eventually(lambda: ended == [ClientDisconnected, "view"], what="the view has ended")


def test_who_shares_a_promise_with_a_request_whose_client_goes_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared: list[Promise[Any]] = []
    waiting = threading.Semaphore(0)
    with Upstream() as upstream:
        app = Flask(__name__)

        @app.get("/")
        def view() -> Any:
            if not shared:
                shared.append(http.get(f"{upstream.url}/slow"))
            waiting.release()
            return shared[0].result().text

        with Live(app) as live, caplog.at_level(logging.ERROR, "carboy"):
            connection = live.connect()
            connection.begin("GET", "/")
            assert waiting.acquire(timeout=TIMEOUT_SECONDS)
            other = live.connect()
            other.begin("GET", "/")
            assert waiting.acquire(timeout=TIMEOUT_SECONDS)
            connection.close()
            # Its own client is there, and what it can't be given is an error.
            assert other.read_response().status == 500
            other.close()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["Exception while serving GET '/'"]
