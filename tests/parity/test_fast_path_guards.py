"""Each guard of the fast paths: a request leaves them when it must, and is served as by Flask.

A guard is checked per request, so each test changes an app that has been served on the
loop before, or by a worker that has called nothing but a `def` view.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Flask
from support.changed_apps import build_changed, noted, requires_worker
from support.parity import Trace, compare

from carboy.flask.pristine import REQUEST_PATH_METHODS, REQUEST_PATH_SIGNALS


def own_methods() -> list[str]:
    """Methods that an application may replace. The server itself replaces two."""
    return [
        name
        for name in REQUEST_PATH_METHODS
        if hasattr(Flask, name) and getattr(Flask, name) is not None
    ]


@pytest.mark.parametrize("name", [n for n in own_methods() if n != "__call__"])
def test_a_method_that_was_put_on_the_app(name: str) -> None:
    def change(app: Flask, trace: Trace) -> None:
        setattr(app, name, noted(trace, getattr(app, name), name))

    requires_worker(change, "method_replaced")


@pytest.mark.parametrize("name", own_methods())
def test_a_method_that_was_put_on_the_class(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class App(Flask):
        pass

    traces: list[Trace] = []
    original = getattr(Flask, name)

    def change(app: Flask, trace: Trace) -> None:
        traces.append(trace)
        base = getattr(super(App, app), name)
        if name == "async_to_sync":
            # The server's own replacement is found by the class, at the call.
            setattr(App, name, lambda self, f: noted(trace, Flask.async_to_sync(self, f), name))
        else:
            setattr(App, name, lambda self, *a, **k: noted(trace, base, name)(*a, **k))

    def build(trace: Trace) -> Flask:
        if name in App.__dict__:
            delattr(App, name)
        return build_changed(change, app_class=App)(trace)

    compare(
        build, "GET /", "GET /change", "GET /", path=None, paths={"loop": 2, "method_replaced": 1}
    )
    assert original is not None
    assert len(traces) == 3


NOT_CALLED_FOR_A_PLAIN_REQUEST = {
    "make_default_options_response",
    "raise_routing_exception",
    "should_ignore_error",
}


@pytest.mark.parametrize("name", [n for n in own_methods() if n != "async_to_sync"])
def test_a_method_of_a_subclass(name: str) -> None:
    def build(trace: Trace) -> Flask:
        def method(self: Flask, *arguments: Any, **keywords: Any) -> Any:
            trace(name)
            return getattr(super(type(self), self), name)(*arguments, **keywords)

        app_class = type("App", (Flask,), {name: method})
        return build_changed(lambda app, trace: None, app_class=app_class)(trace)

    outcome = compare(build, "GET /", path="method_replaced")

    assert (name in outcome.trace) is (name not in NOT_CALLED_FOR_A_PLAIN_REQUEST)


@pytest.mark.parametrize("signal", REQUEST_PATH_SIGNALS, ids=lambda signal: signal.name)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync receiver", "async receiver"])
def test_a_receiver_of_a_signal(signal: Any, is_async: bool) -> None:
    if is_async and signal.name.startswith("appcontext-p"):
        pytest.skip("Flask sends this signal to sync receivers alone")
    kept: list[Any] = []

    def change(app: Flask, trace: Trace) -> None:
        def receive(sender: Flask, **_: Any) -> None:
            if sender is app:
                trace(signal.name)

        async def receive_later(sender: Flask, **_: Any) -> None:
            await asyncio.sleep(0)
            receive(sender)

        receiver = receive_later if is_async else receive
        kept.append(receiver)
        signal.connect(receiver, app)

    def disconnect() -> None:
        for receiver in kept:
            signal.disconnect(receiver)

    try:
        requires_worker(change, "signal_receiver", before=disconnect)
    finally:
        disconnect()


HOOKS = ["before_request", "after_request", "teardown_request", "url_value_preprocessor"]


@pytest.mark.parametrize("place", ["app", "blueprint"])
@pytest.mark.parametrize("hook", [*HOOKS, "teardown_appcontext"])
def test_a_hook_that_was_registered_late(hook: str, place: str) -> None:
    if hook == "teardown_appcontext" and place == "blueprint":
        pytest.skip("an app has it alone")

    def change(app: Flask, trace: Trace) -> None:
        def run(*arguments: Any) -> Any:
            trace(hook)
            return arguments[0] if hook == "after_request" else None

        if hook == "teardown_appcontext":
            app.teardown_appcontext_funcs.append(run)
            return
        name = f"{hook}s" if hook == "url_value_preprocessor" else f"{hook}_funcs"
        registry = getattr(app, name)
        registry.setdefault(None if place == "app" else "place", []).append(run)

    requires_worker(change, "hook")


def test_a_hook_of_another_blueprint_does_not_matter() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.before_request_funcs.setdefault("elsewhere", []).append(lambda: trace("never"))

    compare(build_changed(change), "GET /", "GET /change", "GET /", path="loop")


def test_a_hook_that_the_view_itself_registers_runs_for_its_own_request() -> None:
    def change(app: Flask, trace: Trace) -> None:
        def after(response: flask.Response) -> flask.Response:
            trace("after")
            response.headers["X-After"] = "1"
            return response

        app.after_request_funcs.setdefault(None, []).append(after)
        app.teardown_request_funcs.setdefault(None, []).append(lambda error: trace("teardown"))

    outcome = compare(build_changed(change), "GET /change", path="loop")

    assert outcome.trace == ["after", "teardown"]
    assert outcome.header_list("x-after") == ["1"]


@pytest.mark.parametrize(
    ("line", "headers", "reason"),
    [
        ("GET //", [], "unusual_request"),
        ("GET /%ff", [], "unusual_request"),
        ("GET /", [("Host", "[::1]:80")], "unusual_request"),
        ("GET /", [("Host", "under_score")], "unusual_request"),
        ("GET /", [("Upgrade", "websocket"), ("Connection", "Upgrade")], None),
        ("OPTIONS /", [], "special_rule"),
        ("PUT /", [], "not_matched"),
        ("GET /nowhere", [], "not_matched"),
        ("get /", [], None),
    ],
)
def test_an_unusual_request(line: str, headers: list[tuple[str, str]], reason: str | None) -> None:
    compare(build_changed(lambda app, trace: None), line, headers=headers, path=reason)


@pytest.fixture(autouse=True)
def no_receivers_left() -> Iterator[None]:
    yield
    for signal in REQUEST_PATH_SIGNALS:
        assert not signal.receivers, signal.name
