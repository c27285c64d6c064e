"""Errors: which handler answers, what teardown gets, what is logged, what is raised."""

import asyncio
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask, abort, request
from support.parity import Trace, compare
from werkzeug.exceptions import HTTPException, InternalServerError, NotFound
from werkzeug.routing import RequestRedirect


class OwnError(Exception):
    pass


class OwnSubError(OwnError):
    pass


RAISED: dict[str, Callable[[], Any]] = {
    "ValueError": lambda: ValueError("value"),
    "OwnError": lambda: OwnError("own"),
    "OwnSubError": lambda: OwnSubError("sub"),
    "NotFound": lambda: NotFound("gone"),
    "500": InternalServerError,
    "RequestRedirect": lambda: RequestRedirect("http://localhost/new"),
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "TimeoutError": TimeoutError,
    "GeneratorExit": GeneratorExit,
    "abort with a response": lambda: _aborted(flask.Response("own", 422)),
    "code None": lambda: HTTPException("no code"),
}


def _aborted(response: flask.Response) -> Exception:
    try:
        abort(response)
    except HTTPException as error:
        return error


def build_raising(
    make: Callable[[], BaseException],
    handlers: dict[Any, str],
    *,
    is_async: bool,
    in_blueprint: bool = False,
    **config: Any,
) -> Callable[[Trace], Flask]:
    """An app whose view raises, with error handlers, each ``sync`` or ``async``."""

    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.config.update(config)
        place: Flask | Blueprint = Blueprint("place", __name__) if in_blueprint else app

        async def async_view() -> str:
            await asyncio.sleep(0)
            raise make()

        def sync_view() -> str:
            raise make()

        place.add_url_rule("/", "view", async_view if is_async else sync_view)
        for key, colour in handlers.items():

            def handle(error: Exception, key: Any = key) -> tuple[str, int]:
                original = getattr(error, "original_exception", None)
                trace("handled", str(key), repr(error), repr(original), request.path)
                return f"handler {key}", 409

            async def handle_later(error: Exception, handle: Any = handle) -> tuple[str, int]:
                await asyncio.sleep(0)
                return handle(error)

            place.register_error_handler(key, handle_later if colour == "async" else handle)
        if isinstance(place, Blueprint):
            app.register_blueprint(place)
        return app

    return build


@pytest.mark.parametrize("is_async", [True, False], ids=["async view", "sync view"])
@pytest.mark.parametrize("kind", RAISED)
def test_without_handlers(kind: str, is_async: bool) -> None:
    if kind == "GeneratorExit":
        pytest.skip("a BaseException: see test_base_exceptions")
    compare(
        build_raising(RAISED[kind], {}, is_async=is_async),
        "GET /",
        path="loop" if is_async else "sync_view",
    )


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async view", "sync view"])
@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("ValueError", ValueError),
        ("ValueError", Exception),
        ("ValueError", 500),
        ("ValueError", InternalServerError),
        ("OwnSubError", OwnError),
        ("NotFound", 404),
        ("NotFound", HTTPException),
        ("500", 500),
        ("RequestRedirect", HTTPException),
        ("StopIteration", Exception),
    ],
)
def test_a_handler_answers(kind: str, key: Any, is_async: bool, colour: str) -> None:
    for in_blueprint in (False, True):
        build = build_raising(
            RAISED[kind], {key: colour}, is_async=is_async, in_blueprint=in_blueprint
        )
        compare(build, "GET /", path="loop" if is_async else "sync_view")


def test_the_most_specific_handler_answers() -> None:
    handlers = {Exception: "sync", OwnError: "async", OwnSubError: "sync", 500: "sync"}

    outcome = compare(
        build_raising(RAISED["OwnSubError"], handlers, is_async=True), "GET /", path="loop"
    )

    assert outcome.text == f"handler {OwnSubError}"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_handler_that_fails_is_a_server_error_that_500_handlers_get(colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = build_raising(RAISED["ValueError"], {500: colour}, is_async=True)(trace)

        @app.errorhandler(ValueError)
        async def fail(error: ValueError) -> str:
            raise OwnError("in the handler")

        return app

    outcome = compare(build, "GET /", path="loop")
    assert outcome.text == "handler 500"
    assert len(outcome.logs) == 1


@pytest.mark.parametrize("is_async", [True, False], ids=["async view", "sync view"])
@pytest.mark.parametrize(
    "config",
    [
        {"TESTING": True},
        {"PROPAGATE_EXCEPTIONS": True},
        {"DEBUG": True},
        {"TESTING": True, "PROPAGATE_EXCEPTIONS": False},
    ],
    ids=str,
)
def test_unhandled_errors_propagate_when_configured(
    config: dict[str, bool], is_async: bool
) -> None:
    propagates = config.get("PROPAGATE_EXCEPTIONS", True)

    compare(
        build_raising(RAISED["ValueError"], {}, is_async=is_async, **config),
        "GET /",
        path="loop" if is_async else "sync_view",
        error=ValueError if propagates else None,
    )


@pytest.mark.parametrize("is_async", [True, False], ids=["async view", "sync view"])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"DEBUG": True},
        {"TRAP_BAD_REQUEST_ERRORS": True, "PROPAGATE_EXCEPTIONS": False},
        {"TRAP_HTTP_EXCEPTIONS": True, "PROPAGATE_EXCEPTIONS": False},
    ],
    ids=str,
)
def test_a_missing_form_field_is_a_bad_request_unless_trapped(
    config: dict[str, bool], is_async: bool
) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.config.update(config)

        async def async_view() -> str:
            return request.args["missing"]

        def sync_view() -> str:
            return request.args["missing"]

        app.add_url_rule("/", "view", async_view if is_async else sync_view)
        return app

    from werkzeug.exceptions import BadRequestKeyError

    error = BadRequestKeyError if config.get("DEBUG") else None
    compare(build, "GET /", path="loop" if is_async else "sync_view", error=error)


@pytest.mark.parametrize("is_async", [True, False], ids=["async view", "sync view"])
@pytest.mark.parametrize("handled", [True, False])
def test_teardown_gets_only_what_nobody_handled(handled: bool, is_async: bool) -> None:
    def build(trace: Trace) -> Flask:
        handlers = {ValueError: "async"} if handled else {}
        app = build_raising(RAISED["ValueError"], handlers, is_async=is_async)(trace)

        @app.teardown_request
        async def teardown(error: BaseException | None) -> None:
            trace("teardown", repr(error))

        @app.teardown_appcontext
        def teardown_appcontext(error: BaseException | None) -> None:
            trace("appcontext", repr(error))

        @flask.got_request_exception.connect_via(app)
        def failed(sender: Flask, exception: Exception, **_: Any) -> None:
            trace("signal", repr(exception))

        app.config["KEEP"] = failed
        return app

    outcome = compare(build, "GET /", path="hook")

    assert (("signal", "ValueError('value')") in outcome.trace) is not handled
    assert ("teardown", "None" if handled else "ValueError('value')") in outcome.trace


def test_a_receiver_of_got_request_exception_alone_leaves_the_loops_path_open() -> None:
    def build(trace: Trace) -> Flask:
        app = build_raising(RAISED["ValueError"], {}, is_async=True)(trace)

        @flask.got_request_exception.connect_via(app)
        async def failed(sender: Flask, exception: Exception, **_: Any) -> None:
            await asyncio.sleep(0)
            trace("signal", repr(exception))

        app.config["KEEP"] = failed
        return app

    assert compare(build, "GET /", path="loop").trace == [("signal", "ValueError('value')")]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exceptions_reach_no_handler(kind: type[BaseException]) -> None:
    build = build_raising(lambda: kind("base"), {Exception: "sync", 500: "sync"}, is_async=False)

    assert compare(build, "GET /", path="sync_view", error=kind).trace == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exceptions_reach_teardown_and_no_handler(kind: type[BaseException]) -> None:
    def build(trace: Trace) -> Flask:
        handlers = {Exception: "sync", 500: "sync"}
        app = build_raising(lambda: kind("base"), handlers, is_async=False)(trace)

        @app.teardown_request
        def teardown(error: BaseException | None) -> None:
            trace("teardown", repr(error))

        return app

    outcome = compare(build, "GET /", path="hook", error=kind)

    assert outcome.trace == [("teardown", repr(kind("base")))]


@pytest.mark.parametrize("method", ["handle_exception", "handle_user_exception"])
def test_an_error_method_that_an_extension_replaced_is_called(method: str) -> None:
    def build(trace: Trace) -> Flask:
        app = build_raising(RAISED["ValueError"], {}, is_async=True)(trace)
        original = getattr(app, method)

        def replaced(error: Exception) -> Any:
            trace(method, repr(error))
            return original(error)

        setattr(app, method, replaced)
        return app

    assert compare(build, "GET /", path="loop").trace == [(method, "ValueError('value')")]
