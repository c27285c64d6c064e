"""Streamed bodies: when they run, in which context, and when they are closed."""

import threading

import flask
import pytest
from flask import Flask, Response, g, request, session, stream_template_string, stream_with_context
from support.live import Live
from support.parity import PlainFlask, Request, Trace, compare, serve_with

COLOURS = ["async", "sync"]


def add_view(app: Flask, colour: str, make: object) -> None:
    async def async_view() -> Response:
        return make()  # type: ignore[operator]

    def sync_view() -> Response:
        return make()  # type: ignore[operator]

    app.add_url_rule("/", "view", async_view if colour == "async" else sync_view)


def record_ends(app: Flask, trace: Trace) -> None:
    @app.teardown_request
    def teardown_request(error: BaseException | None) -> None:
        trace("teardown request", repr(error))

    @app.teardown_appcontext
    async def teardown_appcontext(error: BaseException | None) -> None:
        trace("teardown appcontext", repr(error))


@pytest.mark.parametrize("with_teardown", [True, False])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_body_runs_after_the_context_is_gone(colour: str, with_teardown: bool) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        if with_teardown:
            record_ends(app, trace)

        def make() -> Response:
            def parts():
                try:
                    for number in range(3):
                        trace("part", number, flask.has_request_context())
                        yield str(number)
                finally:
                    trace("closed")

            response = Response(parts())
            response.call_on_close(lambda: trace("on close"))
            return response

        add_view(app, colour, make)
        return app

    paths = {"async": "loop", "sync": "sync_view"}
    outcome = compare(build, "GET /", path="hook" if with_teardown else paths[colour])

    assert outcome.trace[-2:] == ["closed", "on close"]


@pytest.mark.parametrize("with_teardown", [True, False])
@pytest.mark.parametrize("colour", COLOURS)
def test_stream_with_context_keeps_request_session_and_g(colour: str, with_teardown: bool) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        app.secret_key = "not a secret"
        if with_teardown:
            record_ends(app, trace)

        def make() -> Response:
            g.name = "kept"

            @stream_with_context
            def parts():
                for number in range(2):
                    trace("part", number)
                    yield f"{request.path} {g.name} {session.get('none')} {number}\n"
                trace("end", flask.has_request_context())

            return Response(parts())

        add_view(app, colour, make)
        return app

    paths = {"async": "loop", "sync": "sync_view"}
    outcome = compare(build, "GET /", path="hook" if with_teardown else paths[colour])

    assert outcome.text == "/ kept None 0\n/ kept None 1\n"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_streamed_template(colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        def make() -> Response:
            g.names = ["a", "b"]
            return Response(
                stream_template_string(
                    "{% for n in g.names %}{{ n }} {{ request.path }};{% endfor %}"
                )
            )

        add_view(app, colour, make)
        return app

    outcome = compare(build, "GET /", path="loop" if colour == "async" else "sync_view")

    assert outcome.text == "a /;b /;"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_head_request_closes_a_body_that_it_does_not_run(colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        class Parts:
            def __iter__(self):
                return self

            def __next__(self) -> bytes:
                trace("ran")
                raise StopIteration

            def close(self) -> None:
                trace("closed")

        add_view(app, colour, lambda: Response(Parts()))
        return app

    outcome = compare(build, "HEAD /", path="loop" if colour == "async" else "sync_view")

    assert outcome.trace == ["closed"]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_context_may_be_copied_into_a_greenlet_or_function(colour: str) -> None:
    def build(trace: Trace) -> Flask:
        app = Flask(__name__)
        record_ends(app, trace)

        def make() -> str:
            @flask.copy_current_request_context
            def inside() -> str:
                return f"{request.path}?{request.args['q']}"

            return inside()

        add_view(app, colour, make)
        return app

    compare(build, "GET /?q=1", path="hook")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_body_that_fails_after_its_first_part_leaves_the_app(colour: str) -> None:
    """In process the exception comes out; a socket's client must see that it is not whole."""
    first_arrived = threading.Event()

    def build(trace: Trace) -> Flask:
        app = Flask(__name__)

        def parts():
            yield "first"
            assert first_arrived.wait(5)
            raise ValueError("in the body")

        add_view(app, colour, lambda: Response(parts()))
        return app

    first_arrived.set()
    outcomes, _ = serve_with(PlainFlask(), build, [Request.parse("GET /", None, b"")])
    assert isinstance(outcomes[0].error, ValueError)

    first_arrived.clear()
    with Live(build(Trace())) as live, live.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.read_head().status == 200
        assert connection.read_chunk() == b"first"
        first_arrived.set()
        with pytest.raises(ConnectionError):
            connection.read_chunk()
