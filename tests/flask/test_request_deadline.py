"""Requests that take too long: their promises end, and 504 is answered."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from support.live import Live
from support.waiting import TIMEOUT_SECONDS, eventually
from werkzeug.exceptions import GatewayTimeout

from carboy import DeadlineExceeded, deadline, http, remaining_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.raw_http import RawResponse
    from support.upstream import Upstream

ANSWER_OF_SERVER = b"504 Gateway Timeout: the time for this request is up\n"
COLOURS = ["sync", "sync returned", "async", "async returned", "async behind a hook"]


def make_app(upstream: Upstream, colour: str, decorate: Any = None) -> Flask:
    """An app with one view that makes one call."""
    app = Flask(__name__)

    def call() -> Any:
        return http.get(f"{upstream.url}/slow").then(lambda response: response.text)

    if colour == "sync":

        def view() -> Any:
            return {"a": call().result()}

    elif colour == "sync returned":

        def view() -> Any:
            return {"a": call()}

    elif colour == "async returned":

        async def view() -> Any:
            return {"a": call()}

    else:

        async def view() -> Any:
            return {"a": await call()}

    app.add_url_rule("/", view_func=decorate(view) if decorate else view)
    if colour.endswith("hook"):
        app.before_request(lambda: None)
    return app


def is_of_app(response: RawResponse) -> bool:
    return response.body != ANSWER_OF_SERVER


def ask(live: Live, is_enough: Callable[[RawResponse], bool] = is_of_app) -> RawResponse:
    """Ask until an answer is enough: until the app itself answers, if not told otherwise.

    A tenth of a second after the deadline the server answers instead. On a busy machine no code of
    the app may have run by then, and its call may not have gone out before.
    """
    for _ in range(20):
        begun = time.perf_counter()
        response = live.get("/")
        assert time.perf_counter() - begun < 5
        if is_enough(response):
            return response
    raise AssertionError("no answer was enough")


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("where", ["config", "environment", "view"])
def test_a_request_that_takes_too_long_is_answered_with_504(
    where: str,
    colour: str,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(upstream, colour, deadline(0.1) if where == "view" else None)
    if where == "config":
        app.config["CARBOY_REQUEST_DEADLINE"] = 0.1
    elif where == "environment":
        monkeypatch.setenv("CARBOY_REQUEST_DEADLINE", "0.1")
    with Live(app) as live, caplog.at_level(logging.WARNING):
        begun = time.perf_counter()
        if where == "view" and colour.endswith("returned"):
            response = ask(live, lambda _: upstream.has_call())
        else:
            # The app's own answer, by Flask's error handling.
            response = ask(live, lambda answer: upstream.has_call() and is_of_app(answer))
            assert GatewayTimeout.description.encode() in response.body
        assert time.perf_counter() - begun > 0.09
        assert response.status == 504
        upstream.next_call().wait_closed()
    assert caplog.records == []


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("handled", [DeadlineExceeded, TimeoutError, 504])
def test_the_app_may_answer_in_its_own_way(handled: Any, colour: str, upstream: Upstream) -> None:
    app = make_app(upstream, colour)
    app.config["CARBOY_REQUEST_DEADLINE"] = 0.05

    @app.errorhandler(handled)
    def mend(error: Exception) -> Any:
        return {"error": type(error).__name__}, 503

    with Live(app) as live:
        response = ask(live)
    assert (response.status, json.loads(response.body)) == (503, {"error": "DeadlineExceeded"})


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_view_may_answer_without_what_is_late(colour: str, upstream: Upstream) -> None:
    app = Flask(__name__)
    app.config["CARBOY_REQUEST_DEADLINE"] = 0.05
    if colour == "sync":

        @app.get("/")
        def view() -> str:
            try:
                return http.get(upstream.url).result().text
            except DeadlineExceeded:
                return "from yesterday"

    else:

        @app.get("/")
        async def async_view() -> str:
            try:
                return (await http.get(upstream.url)).text
            except DeadlineExceeded:
                return "from yesterday"

    with Live(app) as live:
        response = ask(live)
    assert (response.status, response.body) == (200, b"from yesterday")


@pytest.mark.parametrize("where", ["config", "view"])
def test_the_server_answers_for_a_view_that_does_not(where: str) -> None:
    app = Flask(__name__)
    may_end = threading.Event()
    ended: list[str] = []

    def view() -> str:
        may_end.wait(TIMEOUT_SECONDS)
        ended.append("view")
        return "too late"

    if where == "config":
        app.config["CARBOY_REQUEST_DEADLINE"] = 0.05
    app.add_url_rule("/", view_func=deadline(0.05)(view) if where == "view" else view)
    torn_down: list[Any] = []
    app.teardown_request(torn_down.append)
    with Live(app) as live:
        assert live.get("/").status == 504
        assert not ended
        may_end.set()
        eventually(lambda: torn_down, what="the request is torn down")
    assert ended == ["view"]


@pytest.mark.parametrize("colour", ["async", "async behind a hook"])
def test_what_a_late_view_waits_for_otherwise_is_cancelled_after_the_grace_period(
    colour: str,
) -> None:
    app = Flask(__name__)
    ended: list[Any] = []

    @app.get("/")
    async def view() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return ""

    app.config.update(CARBOY_REQUEST_DEADLINE=0.02, CARBOY_CANCEL_GRACE=0.02)
    if colour.endswith("hook"):
        app.before_request(lambda: None)
    with Live(app) as live:
        assert live.get("/").status == 504
        eventually(lambda: ended == ["cancelled"], what="the view was cancelled")


def test_the_nearest_deadline_counts(upstream: Upstream) -> None:
    app = Flask(__name__)
    app.config["CARBOY_REQUEST_DEADLINE"] = 50

    @app.get("/")
    def view() -> Any:
        whole = remaining_seconds()
        with deadline(20):
            inner = remaining_seconds()
            with deadline(40):
                innermost = remaining_seconds()
        return {"whole": whole, "inner": inner, "innermost": innermost}

    @app.get("/late")
    def late() -> Any:
        with deadline(0.05):
            return http.get(upstream.url, timeout=30).result().text

    with Live(app) as live:
        left = json.loads(live.get("/").body)
        assert 45 < left["whole"] <= 50
        assert 15 < left["inner"] <= 20
        assert 15 < left["innermost"] <= 20
        assert live.get("/late").status == 504


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_request_without_a_deadline_has_none(colour: str) -> None:
    app = Flask(__name__)
    if colour == "sync":
        app.add_url_rule("/", view_func=lambda: {"left": remaining_seconds()})
    else:

        @app.get("/")
        async def view() -> Any:
            return {"left": remaining_seconds()}

    headers = [("X-Request-Timeout-Ms", "5")]
    with Live(app) as live:
        assert json.loads(live.get("/", headers).body) == {"left": None}


@pytest.mark.parametrize("colour", ["sync", "async", "async behind a hook"])
def test_a_header_carries_the_deadline_from_client_to_service(
    colour: str, upstream: Upstream
) -> None:
    app = make_app(upstream, colour)
    app.config.update(CARBOY_DEADLINE_HEADER="X-Request-Timeout-Ms", CARBOY_REQUEST_DEADLINE=30)
    with Live(app) as live:
        for value, least, most in [
            ("20000", 10_000, 20_000),
            ("99000", 20_000, 30_000),
            ("soon", 20_000, 30_000),
        ]:
            with live.connect() as client:
                head = f"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: {value}\r\n\r\n"
                client.send(head.encode())
                call = upstream.next_call()
                assert least < int(call.headers["x-request-timeout-ms"]) <= most
                call.answer()
                assert client.read_response().status == 200
        assert live.get("/", [("X-Request-Timeout-Ms", "50")]).status == 504


def test_without_the_setting_no_header_is_sent(upstream: Upstream) -> None:
    app = make_app(upstream, "sync")
    app.config["CARBOY_REQUEST_DEADLINE"] = 30
    with Live(app) as live, live.connect() as client:
        client.begin("GET", "/")
        call = upstream.next_call()
        assert "x-request-timeout-ms" not in call.headers
        call.answer()
        assert client.read_response().status == 200
