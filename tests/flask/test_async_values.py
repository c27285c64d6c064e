"""Return values that plain Flask refuses: awaitables and async iterators."""

import asyncio
import threading
import types
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, Response, g, make_response, request
from support.live import Live
from support.waiting import eventually


class Awaitable:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from asyncio.sleep(0.001).__await__()
        return self.value


async def coroutine(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


@types.coroutine
def generator_coroutine(value: Any) -> Any:
    yield from asyncio.sleep(0).__await__()
    return value


async def parts(count: int = 3) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(0)
        yield f"{number} "


class Lines:
    """Iterable, but not an iterator."""

    def __aiter__(self) -> AsyncIterator[str]:
        return parts()


async def task_of(value: Any) -> Any:
    return await asyncio.create_task(coroutine(value))


VALUES: dict[str, tuple[Callable[[], Any], int, str]] = {
    "coroutine": (lambda: coroutine("text"), 200, "text"),
    "coroutine of a coroutine": (lambda: coroutine(coroutine("text")), 200, "text"),
    "coroutine of a tuple": (lambda: coroutine(("text", 201)), 201, "text"),
    "coroutine in a tuple": (lambda: (coroutine("text"), 202), 202, "text"),
    "generator-based coroutine": (lambda: generator_coroutine("text"), 200, "text"),
    "awaitable object": (lambda: Awaitable({"a": 1}), 200, '{"a":1}\n'),
    "coroutine with a task": (lambda: task_of("text"), 200, "text"),
    "async generator": (parts, 200, "0 1 2 "),
    "async generator in a tuple": (lambda: (parts(), 203, {"X-One": "1"}), 203, "0 1 2 "),
    "coroutine of an async generator": (lambda: coroutine(parts()), 200, "0 1 2 "),
    "async iterable": (Lines, 200, "0 1 2 "),
    "empty async generator": (lambda: parts(0), 200, ""),
}


@pytest.mark.parametrize("colour", ["sync", "async", "sync behind a hook"])
@pytest.mark.parametrize("kind", VALUES)
def test_a_view_may_return(kind: str, colour: str) -> None:
    make, status, text = VALUES[kind]
    app = Flask(__name__)

    async def async_view() -> Any:
        return make()

    def sync_view() -> Any:
        return make()

    app.add_url_rule("/", "view", async_view if colour == "async" else sync_view)
    if "hook" in colour:
        app.before_request(lambda: None)

    with Live(app) as live:
        answer = live.get()

    assert (answer.status, answer.text, answer.is_complete) == (status, text, True)


def test_an_async_generator_function_is_a_view() -> None:
    app = Flask(__name__)

    @app.get("/<int:count>")
    async def view(count: int) -> AsyncIterator[str]:
        for number in range(count):
            await asyncio.sleep(0)
            yield f"{number} "

    with Live(app) as live:
        assert live.get("/4").text == "0 1 2 3 "


def test_a_callable_object_with_an_async_call_is_a_view() -> None:
    class View:
        async def __call__(self, name: str) -> str:
            await asyncio.sleep(0)
            return f"{name} {request.path}"

    app = Flask(__name__)
    app.add_url_rule("/<name>", "view", View())

    with Live(app) as live:
        assert live.get("/x").text == "x /x"


def test_make_response_takes_an_awaitable_in_a_decorator() -> None:
    """What Flask-CORS's decorator does with a view that it calls as if it were sync."""
    app = Flask(__name__)

    async def view() -> tuple[str, int]:
        await asyncio.sleep(0)
        return "text", 201

    @app.get("/")
    def decorated() -> Response:
        response = make_response(view())
        response.headers["X-Decorated"] = "1"
        return response

    with Live(app) as live:
        answer = live.get()

    assert (answer.status, answer.text, answer.header("x-decorated")) == (201, "text", "1")


def test_the_parts_of_an_async_generator_are_sent_as_they_come() -> None:
    app = Flask(__name__)
    go_on = threading.Event()

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        yield "first"
        await asyncio.to_thread(go_on.wait, 5)
        yield "second"

    with Live(app) as live, live.connect() as connection:
        connection.begin("GET", "/")
        assert connection.read_head().status == 200
        assert connection.read_chunk() == b"first"
        go_on.set()
        assert connection.read_chunk() == b"second"
        assert connection.read_chunk() == b""


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_async_generator_is_closed_when_the_client_goes(colour: str) -> None:
    app = Flask(__name__)
    events: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            events.append(f"closed on {threading.current_thread().name}")

    async def async_view() -> Any:
        return endless()

    def sync_view() -> Any:
        return endless()

    app.add_url_rule("/", "view", async_view if colour == "async" else sync_view)

    with Live(app) as live:
        with live.connect() as connection:
            connection.begin("GET", "/")
            assert connection.read_chunk_after_head()
        eventually(lambda: events == ["closed on carboy-loop"])


def test_an_async_generator_that_fails_breaks_the_answer_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Flask(__name__)
    first_arrived = threading.Event()

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        yield "first"
        await asyncio.to_thread(first_arrived.wait, 5)
        raise ValueError("in the body")

    with Live(app) as live, live.connect() as connection:
        connection.begin("GET", "/")
        assert connection.read_chunk_after_head() == b"first"
        first_arrived.set()
        with pytest.raises(ConnectionError):
            connection.read_chunk()

    assert any("in the body" in str(record.exc_info) for record in caplog.records)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_awaitable_that_fails_is_an_error_of_the_request(colour: str) -> None:
    app = Flask(__name__)

    async def fail() -> str:
        raise ValueError("awaited")

    async def async_view() -> Any:
        return fail()

    def sync_view() -> Any:
        return fail()

    app.add_url_rule("/", "view", async_view if colour == "async" else sync_view)

    @app.errorhandler(500)
    def handle(error: Any) -> tuple[str, int]:
        return repr(error.original_exception), 500

    with Live(app) as live:
        assert live.get().text == "ValueError('awaited')"


def test_an_async_generator_may_use_what_the_view_kept_of_the_request() -> None:
    app = Flask(__name__)

    @app.get("/")
    async def view() -> AsyncIterator[str]:
        # An async generator starts after the view: as with a sync one the context is gone.
        yield "in context" if request else "without context"

    with Live(app) as live:
        assert live.get().text == "without context"


def test_every_request_has_its_own_g_with_many_at_once() -> None:
    app = Flask(__name__)

    @app.before_request
    def before() -> None:
        g.number = request.args["n"]

    @app.get("/")
    def view() -> Any:
        async def later() -> str:
            await asyncio.sleep(0.01)
            return g.number

        return later()

    with Live(app) as live, ThreadPoolExecutor(30) as clients:
        answers = list(clients.map(lambda n: live.get(f"/?n={n}").text, range(60)))

    assert answers == [str(number) for number in range(60)]
