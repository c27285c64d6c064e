"""A client that goes takes its request's promises with it, as the policy says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import flask
import pytest
from flask import Flask, Response, request
from support.live import Live
from support.upstream import Upstream
from support.waiting import TIMEOUT_SECONDS, eventually

from carboy import ClientDisconnected, Promise, cancel_on_disconnect, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLOURS = ["sync", "sync returned", "async", "async returned", "async behind a hook"]


def make_app(upstream: Upstream, colour: str, **options: Any) -> tuple[Flask, list[Any]]:
    """An app with one view that makes one call, and the list of how it ended."""
    app = Flask(__name__)
    ended: list[Any] = []

    def call() -> Any:
        return http.get(f"{upstream.url}/slow").then(lambda response: response.text)

    if colour.startswith("sync"):

        def view() -> Any:
            try:
                if colour == "sync returned":
                    return {"a": call()}
                return {"a": call().result()}
            except BaseException as error:
                ended.append(type(error))
                raise
            finally:
                ended.append("view")

    else:

        async def view() -> Any:
            try:
                if colour == "async returned":
                    return {"a": call()}
                return {"a": await call()}
            except BaseException as error:
                ended.append(type(error))
                raise
            finally:
                ended.append("view")

    if decorate := options.pop("decorate", None):
        view = decorate(view)
    app.add_url_rule("/", view_func=view, methods=["GET", "POST"])
    app.config.update(options)
    if colour.endswith("hook"):
        app.before_request(lambda: None)
    return app, ended


@contextlib.contextmanager
def served(
    upstream: Upstream, colour: str, **options: Any
) -> Iterator[tuple[Live, list[Any], list[Any]]]:
    """Serve such an app; gives the server, how views ended, and the errors of teardowns."""
    app, ended = make_app(upstream, colour, **options)
    torn_down: list[Any] = []
    if colour.startswith("sync") or colour.endswith("hook"):
        # On a view that runs on the loop it would be sync code on the way.
        app.teardown_request(lambda error: torn_down.append(error))
    with Live(app) as live:
        yield live, ended, torn_down


def has_teardown(colour: str) -> bool:
    return colour.startswith("sync") or colour.endswith("hook")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as service:
        yield service


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_get_is_given_up_down_to_the_socket(
    colour: str, how: str, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    with served(upstream, colour) as (live, ended, torn_down), caplog.at_level(logging.INFO):
        client = live.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
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
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        calls = {call.target: call for call in (upstream.next_call(), upstream.next_call())}
        client.close()
        calls["/marked"].wait_closed()
        assert not calls["/kept"].closed.is_set()
        calls["/kept"].answer(b"kept")
        eventually(lambda: len(outcome) == 3, what="the view has ended")
    assert outcome == [ClientDisconnected, "kept", ClientDisconnected]


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
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.wait(TIMEOUT_SECONDS)
        client.reset()
        # Long enough for a watch to notice, if there were one.
        time.sleep(0.05)
        assert not ended
        may_end.set()
        eventually(lambda: ended == ["GET"], what="the view has ended")


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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream.next_call()
        client.close()
        eventually(lambda: len(times) == 2, what="the view was cancelled")
    assert times[1] - times[0] > 0.15


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


def test_such_clients_may_be_dropped(upstream: Upstream) -> None:
    settings = {"CARBOY_HALF_CLOSED_CLIENTS": "drop"}
    with served(upstream, "sync", **settings) as (live, ended, _), live.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        call = upstream.next_call()
        client.socket.shutdown(socket.SHUT_WR)
        call.wait_closed()
        eventually(lambda: ended == [ClientDisconnected, "view"], what="the view has ended")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_is_answered_has_no_client_that_goes(colour: str, upstream: Upstream) -> None:
    """Kept and pipelined connections: each request has its own watch."""
    with served(upstream, colour) as (live, ended, _):
        client = live.connect()
        for _ in range(3):
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_waiting_stream_is_given_up_with_its_service(colour: str, upstream: Upstream) -> None:
    """Server-sent events that come from a service which has nothing to say."""
    app = Flask(__name__)
    ended = threading.Event()

    if colour == "sync":

        @app.get("/")
        def view() -> Response:
            def events() -> Iterator[str]:
                try:
                    with http.stream("GET", upstream.url) as response:
                        yield from (piece.decode() for piece in response.iter_bytes())
                finally:
                    ended.set()

            return Response(events(), mimetype="text/event-stream")

    else:

        @app.get("/")
        async def async_view() -> Any:
            async def events() -> Any:
                try:
                    async with http.stream("GET", upstream.url) as response:
                        async for text in response.aiter_bytes():
                            yield text
                finally:
                    ended.set()

            return events()

    with Live(app) as live:
        client = live.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        call = upstream.next_call()
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert client.read_chunk_after_head() == b"one"
        client.close()
        # Sooner than any timeout of the client.
        assert call.closed.wait(5)
        assert ended.wait(TIMEOUT_SECONDS)


def test_an_idle_stream_of_events_ends_when_its_reader_goes() -> None:
    """Also without promises: a body of an async iterator is carboy's own."""
    app = Flask(__name__)
    ended: list[Any] = []

    @app.get("/")
    async def view() -> Any:
        async def events() -> Any:
            try:
                yield b"one"
                await asyncio.sleep(60)
            except BaseException as error:
                ended.append(type(error))
                raise

        return events()

    app.config["CARBOY_CANCEL_GRACE"] = 0.01
    with Live(app) as live:
        client = live.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_chunk_after_head() == b"one"
        client.close()
        eventually(lambda: ended == [asyncio.CancelledError], what="the stream has ended")


def test_a_response_that_has_nearly_come_keeps_its_connection(upstream: Upstream) -> None:
    app = Flask(__name__)
    session = http.Session()
    numbers: list[Any] = []

    @app.get("/")
    def view() -> str:
        return session.get(upstream.url).result().text

    @app.get("/numbers")
    async def statistics_of_pool() -> str:
        numbers.append(await session.statistics())
        return ""

    def idle() -> int:
        live.get("/numbers")
        return int(numbers[-1][1])

    with Live(app) as live:
        client = live.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        call = upstream.next_call()
        # The rest is on its way when the client goes; how far it is does not matter.
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 25_000)
        client.close()
        call.send(b"x" * 25_000)
        eventually(lambda: idle() == 1 or call.closed.is_set(), what="drained or closed")


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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
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
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert waiting.acquire(timeout=TIMEOUT_SECONDS)
            other = live.connect()
            other.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert waiting.acquire(timeout=TIMEOUT_SECONDS)
            connection.close()
            # Its own client is there, and what it can't be given is an error.
            assert other.read_response().status == 500
            other.close()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["Exception while serving GET '/'"]
