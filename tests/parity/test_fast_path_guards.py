"""Each guard of the fast paths: a request leaves them when it must, and is served as by Flask.

A guard is checked per request, so each test changes an app that has been served on the
loop before, or by a worker that has called nothing but a `def` view.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask, Request, g, request
from flask.ctx import _AppCtxGlobals
from flask.sessions import SecureCookieSessionInterface
from support.frozen_time import frozen_time
from support.live import Live
from support.parity import Trace, compare
from werkzeug.routing import BaseConverter, Map, Rule

from carboy.flask.pristine import REQUEST_PATH_METHODS, REQUEST_PATH_SIGNALS

Change = Callable[[Flask, Trace], None]


def build_changed(
    change: Change, *, app_class: type[Flask] = Flask, is_async: bool = True
) -> Callable[[Trace], Flask]:
    """An app with one view in a blueprint; a request to another makes the change."""

    def build(trace: Trace) -> Flask:
        app = app_class(__name__)
        blueprint = Blueprint("place", __name__)

        def answer() -> dict[str, Any]:
            trace("view", request.endpoint)
            return {"args": request.args, "data": request.get_data(as_text=True)}

        async def async_view() -> dict[str, Any]:
            await asyncio.sleep(0)
            return answer()

        view = async_view if is_async else answer
        blueprint.add_url_rule("/", "view", view, methods=["GET", "POST"])

        @app.get("/change")
        async def apply() -> str:
            # Flask refuses registration after the first request, extensions do it anyway.
            app._got_first_request = False
            change(app, trace)
            return "changed"

        app.register_blueprint(blueprint)
        return app

    return build


def requires_worker(
    change: Change, reason: str, *, before: Callable[[], object] = lambda: None
) -> None:
    """Serve before the change, the change, and after it; compare all three with Flask."""

    for is_async, paths in ((True, {"loop": 2}), (False, {"sync_view": 1, "loop": 1})):

        def build(trace: Trace, *, is_async: bool = is_async) -> Flask:
            before()
            return build_changed(change, is_async=is_async)(trace)

        requests = ("GET /?q=1", "GET /change", "GET /?q=1")
        compare(build, *requests, path=None, paths={**paths, reason: 1})


def noted(trace: Trace, original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        trace(name)
        return original(*arguments, **keywords)

    return wrapper


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


class ReversedMap(Map):
    """Serves each path backwards: Werkzeug's matcher must not be asked with the plain one."""

    def bind_to_environ(self, environ: Any, *arguments: Any, **keywords: Any) -> Any:
        environ = getattr(environ, "environ", environ)
        turned = {**environ, "PATH_INFO": "/" + environ["PATH_INFO"].strip("/")[::-1]}
        return super().bind_to_environ(turned, *arguments, **keywords)


class OwnRule(Rule):
    def get_converter(self, *arguments: Any, **keywords: Any) -> Any:
        return super().get_converter(*arguments, **keywords)


def test_a_map_of_the_apps_own() -> None:
    def build(trace: Trace) -> Flask:
        class App(Flask):
            url_map_class = ReversedMap

        app = App(__name__)

        @app.get("/abc")
        async def forward() -> str:
            return "forward"

        @app.get("/cba")
        async def backward() -> str:
            return "backward"

        return app

    assert compare(build, "GET /abc", path="own_class").text == "backward"


def session_reading_converter(trace: Trace) -> type[BaseConverter]:
    class SessionConverter(BaseConverter):
        def to_python(self, value: str) -> tuple[str, Any]:
            trace("convert", flask.session.get("user"))
            return value, flask.session.get("user")

        def to_url(self, value: Any) -> str:
            return str(value[0])

    return SessionConverter


def test_a_converter_of_the_apps_own_reads_the_session() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.secret_key = "not a secret"
        app.url_map.converters["own"] = session_reading_converter(trace)

        @app.get("/login")
        async def login() -> str:
            flask.session["user"] = "me"
            return "in"

        @app.get("/as/<own:value>")
        async def view(value: tuple[str, Any]) -> list[Any]:
            return list(value)

        return app

    with frozen_time():
        outcome = compare(build, "GET /login", "GET /as/x", path="own_class")

    assert outcome.body == b'["x","me"]\n'


def test_a_rule_that_was_added_late_with_a_converter_of_the_apps_own() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.url_map.converters["own"] = session_reading_converter(trace)
        app.add_url_rule("/as/<own:value>", "as", lambda value: value[0])

    requires_worker(change, "own_class")


@pytest.mark.parametrize(
    ("key", "value"),
    [("TRUSTED_HOSTS", ["localhost"]), ("TRUSTED_HOSTS", ["elsewhere"])],
    ids=["trusted", "untrusted"],
)
def test_hosts_that_are_restricted_late(key: str, value: object) -> None:
    requires_worker(lambda app, trace: app.config.update({key: value}), "host_matching")


def test_host_matching_that_is_turned_on_late() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.url_map.host_matching = True

    requires_worker(change, "host_matching")


def test_subdomain_matching_that_is_turned_on_late() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.subdomain_matching = True

    requires_worker(change, "host_matching")


def test_a_view_that_is_replaced_at_run_time() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.view_functions["place.view"] = lambda: "sync"

    compare(
        build_changed(change),
        *("GET /", "GET /change", "GET /"),
        path=None,
        paths={"loop": 2, "sync_view": 1},
    )


def test_a_def_view_that_is_replaced_at_run_time() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.view_functions["place.view"] = lambda: "another"

    outcome = compare(
        build_changed(change, is_async=False),
        *("GET /", "GET /change", "GET /"),
        path=None,
        paths={"loop": 1, "sync_view": 2},
    )
    assert outcome.text == "another"


def test_a_view_that_is_replaced_by_another_coroutine_function() -> None:
    def change(app: Flask, trace: Trace) -> None:
        async def other() -> str:
            return "other"

        app.view_functions["place.view"] = other

    assert (
        compare(build_changed(change), "GET /", "GET /change", "GET /", path="loop").text == "other"
    )


def test_a_view_that_is_removed() -> None:
    def change(app: Flask, trace: Trace) -> None:
        del app.view_functions["place.view"]

    requires_worker(change, "not_matched")


def test_rules_that_are_added_to_the_map_at_run_time() -> None:
    def change(app: Flask, trace: Trace) -> None:
        async def late(name: str) -> str:
            return f"late {name}"

        app.add_url_rule("/late/<name>", "late", late)

    compare(
        build_changed(change),
        "GET /late/x",
        "GET /change",
        "GET /late/x",
        path=None,
        paths={"loop": 2, "not_matched": 1},
    )


def test_a_rule_of_a_known_endpoint_that_is_added_to_the_map_at_run_time() -> None:
    def change(app: Flask, trace: Trace) -> None:
        app.url_map.add(Rule("/again", endpoint="place.view"))
        # Whoever matches first updates the map, and leaves no mark that it was changed.
        app.url_map.update()

    compare(
        build_changed(change),
        "GET /",
        "GET /again",
        "GET /change",
        "GET /again",
        "GET /",
        path=None,
        paths={"loop": 4, "not_matched": 1},
    )


def test_a_rule_with_defaults_that_makes_a_known_path_a_redirect() -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        @app.get("/pages/<int:number>")
        async def page(number: int) -> str:
            return str(number)

        @app.get("/change")
        async def apply() -> str:
            rule = Rule("/pages", endpoint="page", defaults={"number": 1}, methods=["GET"])
            app.url_map.add(rule)
            return "changed"

        return app

    outcome = compare(
        build,
        "GET /pages/1",
        "GET /change",
        "GET /pages/1",
        path=None,
        paths={"loop": 2, "special_rule": 1},
    )

    assert outcome.status == 308


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


@pytest.fixture(autouse=True)
def no_receivers_left() -> Iterator[None]:
    yield
    for signal in REQUEST_PATH_SIGNALS:
        assert not signal.receivers, signal.name
