"""Sessions: when the cookie is set, when it is refreshed, and what varies by it."""

import asyncio
import datetime
from collections.abc import Iterator

import pytest
from flask import Flask, flash, get_flashed_messages, session
from flask.sessions import SecureCookieSessionInterface
from support.frozen_time import frozen_time
from support.parity import Trace, compare

VIEWS = ["/async", "/sync"]


def build_with_session(trace: Trace) -> Flask:
    app = Flask(__name__)
    app.secret_key = "not a secret"
    app.config["PERMANENT_SESSION_LIFETIME"] = datetime.timedelta(days=10)

    def serve(action: str) -> str:
        if action == "set":
            session["count"] = session.get("count", 0) + 1
        elif action == "clear":
            session.clear()
        elif action == "read":
            trace(session.get("count"))
        elif action == "permanent":
            session.permanent = True
            session["count"] = 10
        elif action == "mutate":
            session["list"] = [1]
            session.modified = False
        elif action == "flash":
            flash("message")
        elif action == "flashes":
            trace(get_flashed_messages())
        trace(action, session.new, session.modified, session.accessed)
        return action

    @app.get("/async/<action>")
    async def async_view(action: str) -> str:
        await asyncio.sleep(0)
        return serve(action)

    @app.get("/sync/<action>")
    def sync_view(action: str) -> str:
        return serve(action)

    return app


@pytest.fixture(autouse=True)
def same_time() -> Iterator[None]:
    with frozen_time():
        yield


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "actions",
    [
        ["nothing"],
        ["read"],
        ["set"],
        ["set", "read"],
        ["set", "set", "read"],
        ["set", "clear", "read"],
        ["permanent", "nothing"],
        ["permanent", "read"],
        ["mutate", "read"],
        ["flash", "flashes", "flashes"],
    ],
    ids=" ".join,
)
def test_the_session_cookie_is_set_and_read_as_in_flask(view: str, actions: list[str]) -> None:
    compare(
        build_with_session,
        *[f"GET {view}/{action}" for action in actions],
        path="loop" if view == "/async" else "sync_view",
    )


@pytest.mark.parametrize("view", VIEWS)
def test_a_session_that_is_only_read_varies_by_cookie(view: str) -> None:
    outcome = compare(build_with_session, f"GET {view}/read", path=None)

    assert outcome.header_list("vary") == ["Cookie"]
    assert outcome.header_list("set-cookie") == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_permanent_session_is_refreshed_by_each_request(view: str) -> None:
    outcome = compare(build_with_session, f"GET {view}/permanent", f"GET {view}/nothing", path=None)

    assert len(outcome.header_list("set-cookie")) == 1


@pytest.mark.parametrize("view", VIEWS)
def test_a_session_without_a_secret_key_fails_on_write_alone(view: str) -> None:
    def build(trace: Trace) -> Flask:
        app = build_with_session(trace)
        app.secret_key = None
        return app

    assert compare(build, f"GET {view}/read", path=None).status == 200
    assert compare(build, f"GET {view}/set", path=None).status == 500


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("cookie", ["garbage", "e30.garbage.garbage", "", '"quoted"'])
def test_a_forged_cookie_is_an_empty_session(view: str, cookie: str) -> None:
    outcome = compare(
        build_with_session,
        f"GET {view}/read",
        headers=[("Cookie", f"session={cookie}")],
        path="loop" if view == "/async" else "sync_view",
    )

    assert outcome.trace[0] is None


@pytest.mark.parametrize("view", VIEWS)
def test_a_secret_key_of_a_wrong_type_is_handled_as_any_error(view: str) -> None:
    def build(trace: Trace) -> Flask:
        app = build_with_session(trace)
        app.secret_key = object()  # type: ignore[assignment]

        @app.errorhandler(500)
        def handle(error: Exception) -> tuple[str, int]:
            trace("handled", repr(type(getattr(error, "original_exception", None))))
            return "handled", 500

        @app.teardown_request
        def teardown(error: BaseException | None) -> None:
            trace("teardown", repr(type(error)))

        return app

    compare(build, f"GET {view}/read", headers=[("Cookie", "session=a.b.c")], path=None)


def test_a_wrong_secret_key_without_hooks_is_handled_as_any_error() -> None:
    def build(trace: Trace) -> Flask:
        app = build_with_session(trace)
        app.secret_key = object()  # type: ignore[assignment]

        @app.errorhandler(500)
        def handle(error: Exception) -> tuple[str, int]:
            trace("handled")
            return "handled", 500

        return app

    compare(build, "GET /async/read", headers=[("Cookie", "session=a.b.c")], path="loop")


def test_an_interface_of_the_apps_own_is_asked_in_flasks_order() -> None:
    def build(trace: Trace) -> Flask:
        app = build_with_session(trace)

        class Interface(SecureCookieSessionInterface):
            def open_session(self, app, request):
                trace("open", request.url_rule)
                return super().open_session(app, request)

            def save_session(self, app, session, response):
                trace("save", response.status_code)
                return super().save_session(app, session, response)

        app.session_interface = Interface()
        return app

    outcome = compare(build, "GET /async/set", path="own_class")

    assert outcome.trace == [("open", None), ("set", False, True, True), ("save", 200)]


def test_a_method_that_was_put_on_the_stock_interface_is_called() -> None:
    def build(trace: Trace) -> Flask:
        app = build_with_session(trace)
        app.session_interface = SecureCookieSessionInterface()
        original = app.session_interface.save_session

        def save(*arguments):
            trace("saved")
            return original(*arguments)

        app.session_interface.save_session = save  # type: ignore[method-assign]
        return app

    assert "saved" in compare(build, "GET /async/set", path=None).trace
