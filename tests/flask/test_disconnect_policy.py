"""What is given up when a client goes is the application's choice, and how soon."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from support.calling_views import served
from support.live import Live
from support.waiting import TIMEOUT_SECONDS, eventually

from carboy import ClientDisconnected, cancel_on_disconnect, http

if TYPE_CHECKING:
    from support.upstream import Upstream


POLICIES: list[tuple[str, dict[str, Any], str, bool]] = [
    ("always, config", {"CARBOY_CANCEL_ON_DISCONNECT": "always"}, "POST", True),
    ("never, config", {"CARBOY_CANCEL_ON_DISCONNECT": "never"}, "GET", False),
    ("always, view", {"decorate": cancel_on_disconnect("always")}, "POST", True),
    ("never, view", {"decorate": cancel_on_disconnect("never")}, "GET", False),
    (
        "the view's own is the nearest",
        {"CARBOY_CANCEL_ON_DISCONNECT": "never", "decorate": cancel_on_disconnect("safe")},
        "GET",
        True,
    ),
    (
        "safe is for safe methods",
        {"CARBOY_CANCEL_ON_DISCONNECT": "always", "decorate": cancel_on_disconnect("safe")},
        "POST",
        False,
    ),
]


@pytest.mark.parametrize("colour", ["sync", "async", "async behind a hook"])
@pytest.mark.parametrize(
    ("options", "method", "ends"), [case[1:] for case in POLICIES], ids=[it[0] for it in POLICIES]
)
def test_the_policy_is_the_applications(
    options: dict[str, Any], method: str, ends: bool, colour: str, upstream: Upstream
) -> None:
    with served(upstream, colour, **options) as (live, ended, _):
        client = live.connect()
        client.send(f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
        call = upstream.next_call()
        client.close()
        if ends:
            call.wait_closed()
            eventually(lambda: ended == [ClientDisconnected, "view"], what="the view has ended")
        else:
            assert not call.closed.wait(0.05)
            call.answer()
            eventually(lambda: ended == ["view"], what="the view has ended")


def test_the_policy_may_be_in_the_environment(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBOY_CANCEL_ON_DISCONNECT", "always")
    with served(upstream, "sync") as (live, ended, _):
        client = live.connect()
        client.begin("POST", "/")
        call = upstream.next_call()
        client.close()
        call.wait_closed()
        eventually(lambda: ended == [ClientDisconnected, "view"], what="the view has ended")


@pytest.mark.parametrize(
    "settings",
    [
        {"CARBOY_CANCEL_ON_DISCONNECT": "sometimes"},
        {"CARBOY_CANCEL_GRACE": "-1"},
        {"CARBOY_REQUEST_DEADLINE": "soon"},
        {"CARBOY_HALF_CLOSED_CLIENTS": "x"},
    ],
)
def test_a_setting_that_is_none_is_refused_at_the_start(settings: dict[str, Any]) -> None:
    app = Flask(__name__)
    app.config.update(settings)
    with pytest.raises(ValueError, match=next(iter(settings))):
        Live(app)
    with pytest.raises(ValueError, match="sometimes"):
        cancel_on_disconnect("sometimes")  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", ["async", "async behind a hook"])
@pytest.mark.parametrize("policy", ["safe", "always"])
def test_where_a_policy_was_chosen_other_awaits_are_cancelled_too(policy: str, colour: str) -> None:
    app = Flask(__name__)
    begun = threading.Event()
    ended: list[Any] = []

    @app.get("/")
    async def view() -> str:
        begun.set()
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            ended.append(type(error))
            raise
        return "never"

    app.config.update(CARBOY_CANCEL_ON_DISCONNECT=policy, CARBOY_CANCEL_GRACE=0.01)
    torn_down: list[Any] = []
    if colour.endswith("hook"):
        app.teardown_request(torn_down.append)
    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        assert begun.wait(TIMEOUT_SECONDS)
        client.close()
        eventually(lambda: ended == [asyncio.CancelledError], what="the view was cancelled")
        if colour.endswith("hook"):
            eventually(lambda: torn_down, what="the request is torn down")
            assert [type(error) for error in torn_down] == [ClientDisconnected]


@pytest.mark.parametrize("colour", ["async", "async behind a hook"])
def test_what_a_view_does_after_its_promises_failed_has_a_grace_period(
    colour: str, upstream: Upstream
) -> None:
    app = Flask(__name__)
    times: list[float] = []

    @app.get("/")
    async def view() -> str:
        try:
            await http.get(upstream.url)
        except ClientDisconnected:
            times.append(time.perf_counter())
            try:
                await asyncio.sleep(60)
            finally:
                times.append(time.perf_counter())
        return "never"

    app.config["CARBOY_CANCEL_GRACE"] = 0.2
    if colour.endswith("hook"):
        app.before_request(lambda: None)
    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        upstream.next_call()
        client.close()
        eventually(lambda: len(times) == 2, what="the view was cancelled")
    assert times[1] - times[0] > 0.15


def test_such_clients_may_be_dropped(upstream: Upstream) -> None:
    settings = {"CARBOY_HALF_CLOSED_CLIENTS": "drop"}
    with served(upstream, "sync", **settings) as (live, ended, _), live.connect() as client:
        client.begin("GET", "/")
        call = upstream.next_call()
        client.socket.shutdown(socket.SHUT_WR)
        call.wait_closed()
        eventually(lambda: ended == [ClientDisconnected, "view"], what="the view has ended")
