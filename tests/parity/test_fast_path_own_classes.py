"""Classes of the app's own take a request off the fast paths, also if they come late."""

import threading
from typing import Any

import flask
import pytest
from flask import Flask, Request, g
from flask.ctx import _AppCtxGlobals
from flask.sessions import SecureCookieSessionInterface
from support.changed_apps import Change, noted, requires_worker
from support.live import Live
from support.parity import Trace


class OwnRequest(Request):
    def __init__(self, environ: dict[str, Any], *arguments: Any, **keywords: Any) -> None:
        super().__init__(environ, *arguments, **keywords)
        environ["own.thread"] = threading.current_thread().name


class OwnGlobals(_AppCtxGlobals):
    def __init__(self) -> None:
        self.made_on = threading.current_thread().name


class OwnInterface(SecureCookieSessionInterface):
    pass


class OwnProvider(flask.json.provider.DefaultJSONProvider):
    def dumps(self, obj: Any, **options: Any) -> str:
        return super().dumps(obj, **options).replace("args", "ARGS")


class OwnResponse(flask.Response):
    def get_wsgi_headers(self, environ: dict[str, Any]) -> Any:
        headers = super().get_wsgi_headers(environ)
        headers["X-Own"] = "1"
        return headers


def own_session_method(app: Flask, trace: Trace) -> None:
    # Flask's default is one object for all apps.
    interface = app.session_interface = SecureCookieSessionInterface()
    interface.open_session = noted(  # type: ignore[method-assign]
        trace, interface.open_session, "open_session"
    )


OWN_CLASSES: dict[str, Change] = {
    "request_class": lambda app, trace: setattr(app, "request_class", OwnRequest),
    "session_interface": lambda app, trace: setattr(app, "session_interface", OwnInterface()),
    "json": lambda app, trace: setattr(app, "json", OwnProvider(app)),
    "response_class": lambda app, trace: setattr(app, "response_class", OwnResponse),
    "app_ctx_globals_class": lambda app, trace: setattr(app, "app_ctx_globals_class", OwnGlobals),
    "method of the session interface": own_session_method,
}


@pytest.mark.parametrize("name", OWN_CLASSES)
def test_a_class_of_the_apps_own(name: str) -> None:
    requires_worker(OWN_CLASSES[name], "own_class")


def test_a_method_that_was_put_on_the_class_of_the_session_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = SecureCookieSessionInterface.save_session

    def change(app: Flask, trace: Trace) -> None:
        # Flask saves every session, also one that nobody has looked at.
        method = noted(trace, original, "save_session")

        def save_session(self: Any, *arguments: Any) -> None:
            method(self, *arguments)

        monkeypatch.setattr(SecureCookieSessionInterface, "save_session", save_session)

    requires_worker(change, "own_class", before=monkeypatch.undo)


def test_the_late_change_of_what_is_matched_counts_too() -> None:
    """`g`, made by a class of the app's own, is made where sync code may run."""
    seen: list[str] = []

    class Globals(_AppCtxGlobals):
        def __init__(self) -> None:
            seen.append(threading.current_thread().name)

    app = Flask(__name__)
    app.app_ctx_globals_class = Globals

    @app.get("/")
    async def view() -> str:
        return str(g.get("nothing"))

    with Live(app) as live:
        assert live.get().text == "None"

    assert seen
    assert all(name.startswith("carboy-worker") for name in seen)
