"""A client that goes takes its request's calls with it, down to the socket."""

from __future__ import annotations

import asyncio
import logging
import socket
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import flask
import pytest
from flask import Flask
from support.calling_views import COLOURS, has_teardown, served
from support.live import Live
from support.waiting import TIMEOUT_SECONDS, eventually

from carboy import ClientDisconnected, http

if TYPE_CHECKING:
    from support.upstream import Upstream


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_get_is_given_up_down_to_the_socket(
    colour: str, how: str, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    with served(upstream, colour) as (live, ended, torn_down), caplog.at_level(logging.INFO):
        client = live.connect()
        client.begin("GET", "/")
        call = upstream.next_call()
        client.close() if how == "closes" else client.reset()
        call.wait_closed()
        if not colour.endswith("returned"):
            eventually(lambda: ended == [ClientDisconnected, "view"], what="the view has ended")
        if has_teardown(colour):
            eventually(lambda: torn_down, what="the request is torn down")
    if has_teardown(colour):
        assert [type(error) for error in torn_down] == [ClientDisconnected]
    assert caplog.records == [], "a client that goes is nothing to report"


@pytest.mark.parametrize("colour", ["sync", "async", "async behind a hook"])
def test_the_connection_to_the_service_is_closed_soon(colour: str, upstream: Upstream) -> None:
    times = []
    with served(upstream, colour) as (live, _, _):
        for _ in range(20):
            client = live.connect()
            client.begin("GET", "/")
            call = upstream.next_call()
            gone_at = time.perf_counter()
            client.close()
            times.append(call.wait_closed() - gone_at)
    # Ten milliseconds on a machine that does nothing else; see benchmarks/cancellation.
    assert statistics.median(times) < 0.1, times


@pytest.mark.parametrize("colour", COLOURS)
def test_a_post_goes_on(colour: str, upstream: Upstream) -> None:
    with served(upstream, colour) as (live, ended, torn_down):
        client = live.connect()
        client.begin("POST", "/")
        call = upstream.next_call()
        client.close()
        assert not call.closed.wait(0.05)
        call.answer()
        eventually(lambda: ended == ["view"], what="the view has ended")
        if has_teardown(colour):
            eventually(lambda: torn_down == [None], what="the request is torn down")
    assert not upstream._calls.qsize()


def test_of_a_post_what_is_cancellable_stops(upstream: Upstream) -> None:
    app = Flask(__name__)
    outcome: list[Any] = []

    @app.post("/")
    def view() -> str:
        kept = http.get(f"{upstream.url}/kept")
        marked = http.get(f"{upstream.url}/marked").cancellable()
        outcome.append(type(marked.exception()))
        outcome.append(kept.result().text)
        late = http.get(f"{upstream.url}/late").cancellable()
        outcome.append(type(late.exception()))
        return "done"

    with Live(app) as live:
        client = live.connect()
        client.begin("POST", "/")
        calls = {call.target: call for call in (upstream.next_call(), upstream.next_call())}
        client.close()
        calls["/marked"].wait_closed()
        assert not calls["/kept"].closed.is_set()
        calls["/kept"].answer(b"kept")
        eventually(lambda: len(outcome) == 3, what="the view has ended")
    assert outcome == [ClientDisconnected, "kept", ClientDisconnected]


@pytest.mark.parametrize("colour", ["sync", "async", "async behind a hook"])
def test_a_view_that_knows_nothing_of_carboy_runs_to_its_end(colour: str) -> None:
    app = Flask(__name__)
    begun, may_end = threading.Event(), threading.Event()
    ended: list[str] = []

    if colour == "sync":

        def view() -> str:
            begun.set()
            may_end.wait(TIMEOUT_SECONDS)
            ended.append(flask.request.method)
            return "done"

    else:

        async def view() -> str:
            begun.set()
            while not may_end.is_set():
                await asyncio.sleep(0.001)
            ended.append(flask.request.method)
            return "done"

    app.add_url_rule("/", view_func=view)
    app.config["CARBOY_CANCEL_GRACE"] = 0
    if colour.endswith("hook"):
        app.before_request(lambda: None)
    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        assert begun.wait(TIMEOUT_SECONDS)
        client.reset()
        # Long enough for a watch to notice, if there were one.
        time.sleep(0.05)
        assert not ended
        may_end.set()
        eventually(lambda: ended == ["GET"], what="the view has ended")


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_closes_its_sending_side_only_gets_its_answer(
    version: str, colour: str, upstream: Upstream
) -> None:
    with served(upstream, colour) as (live, _, _), live.connect() as client:
        client.send(f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
        client.socket.shutdown(socket.SHUT_WR)
        call = upstream.next_call()
        assert not call.closed.wait(0.1)
        call.answer(b"in time")
        assert client.read_response().body == b'{"a":"in time"}\n'


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_is_answered_has_no_client_that_goes(colour: str, upstream: Upstream) -> None:
    """Kept and pipelined connections: each request has its own watch."""
    with served(upstream, colour) as (live, ended, _):
        client = live.connect()
        for _ in range(3):
            client.begin("GET", "/")
            upstream.next_call().answer()
            assert client.read_response().body == b'{"a":"done"}\n'
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        upstream.next_call().answer()
        assert client.read_response().body == b'{"a":"done"}\n'
        call = upstream.next_call()
        client.close()
        call.wait_closed()
        eventually(lambda: len(ended) == 6, what="the views have ended")
    assert ended == ["view"] * 4 + [ClientDisconnected, "view"]
