"""Signals with sync and async receivers, around sync and async views."""

import asyncio
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Flask
from support.frozen_time import frozen_time
from support.parity import Trace, compare

ALL_SIGNALS = [
    flask.appcontext_pushed,
    flask.request_started,
    flask.template_rendered,
    flask.before_render_template,
    flask.message_flashed,
    flask.request_finished,
    flask.got_request_exception,
    flask.request_tearing_down,
    flask.appcontext_tearing_down,
    flask.appcontext_popped,
]
#: Sent without a wrapper for async receivers, by Flask itself.
SYNC_ONLY = {flask.appcontext_pushed, flask.appcontext_popped}

_connected: list[tuple[Any, Any]] = []


@pytest.fixture(autouse=True)
def disconnect() -> Iterator[None]:
    yield
    disconnect_all()


def disconnect_all() -> None:
    while _connected:
        signal, receiver = _connected.pop()
        signal.disconnect(receiver)


def connect(app: Flask, trace: Trace, *, is_async: bool) -> None:
    disconnect_all()
    for signal in ALL_SIGNALS:

        def receive(sender: Flask, signal: Any = signal, **arguments: Any) -> None:
            shown = sorted(key for key in arguments if not key.startswith("_"))
            trace(signal.name, *shown, sender is app)

        async def receive_later(sender: Flask, receive: Any = receive, **arguments: Any) -> None:
            await asyncio.sleep(0)
            receive(sender, **arguments)

        receiver = receive_later if is_async and signal not in SYNC_ONLY else receive
        signal.connect(receiver, app)
        _connected.append((signal, receiver))


@pytest.mark.parametrize("target", ["/sync", "/async", "/sync/fails", "/async/fails", "/none"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync receivers", "async receivers"])
def test_signals_are_sent_in_flasks_order(target: str, is_async: bool) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.secret_key = "not a secret"

        @app.get("/sync")
        def sync_view() -> str:
            flask.flash("message")
            return flask.render_template_string("{{ 1 + 1 }}")

        @app.get("/async")
        async def async_view() -> str:
            # Rendering and flashing call receivers in the sync way: async ones have no place
            # in an async view, under asgiref either.
            await asyncio.sleep(0)
            return "async"

        @app.get("/sync/fails")
        def sync_fails() -> str:
            raise ValueError("fails")

        @app.get("/async/fails")
        async def async_fails() -> str:
            raise ValueError("fails")

        connect(app, trace, is_async=is_async)
        return app

    with frozen_time():
        outcome = compare(build, f"GET {target}", path="signal_receiver")

    names = [event[0] for event in outcome.trace]
    assert names[0] == "appcontext-pushed"
    assert names[-1] == "appcontext-popped"
    assert ("got-request-exception" in names) is target.endswith("fails")


def test_a_receiver_for_another_app_is_not_called() -> None:
    other = Flask("other")
    events = Trace()
    connect(other, events, is_async=False)

    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        @app.get("/")
        async def view() -> str:
            return "view"

        return app

    compare(build, "GET /", path="signal_receiver")

    assert events == []


def test_a_receiver_that_fails_is_an_error_of_the_request() -> None:
    def build(trace: Trace) -> Flask:
        disconnect_all()
        app = Flask(__name__)

        @app.get("/")
        async def view() -> str:
            trace("view")
            return "view"

        @app.errorhandler(ValueError)
        async def handle(error: ValueError) -> tuple[str, int]:
            trace("handled")
            return "handled", 400

        async def receive(sender: Flask, **_: Any) -> None:
            raise ValueError("in the receiver")

        flask.request_started.connect(receive, app)
        _connected.append((flask.request_started, receive))
        return app

    assert compare(build, "GET /", path="signal_receiver").trace == ["handled"]
