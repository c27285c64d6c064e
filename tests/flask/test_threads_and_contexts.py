"""Where code runs: one thread and one context per request; a running loop for async code alone."""

import asyncio
import contextvars
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
from flask import Flask, Response, g, request, stream_with_context
from support.live import Live

LOOP_THREAD = "carboy-loop"


def thread_name() -> str:
    return threading.current_thread().name


def has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def build_with_connection(colour: str) -> Flask:
    """An app whose sqlite3 connection must be used on the thread that made it."""
    app = Flask(__name__)

    @app.before_request
    def connect() -> None:
        g.connection = sqlite3.connect(":memory:")
        g.connection.execute("create table seen (stage text)")
        note("before")

    def note(stage: str) -> None:
        g.connection.execute("insert into seen values (?)", (stage,))

    @app.after_request
    def after(response: Response) -> Response:
        note("after")
        # After the last teardown, on the thread that made it as well.
        response.call_on_close(g.connection.close)
        return response

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        note("teardown")
        assert error is None

    def make() -> Response:
        @stream_with_context
        def rows():
            note("body")
            for (stage,) in g.connection.execute("select stage from seen"):
                yield stage + "\n"

        return Response(rows())

    if colour == "sync":

        @app.get("/")
        def sync_view() -> Response:
            note("view")
            return make()

    else:

        @app.get("/")
        async def async_view() -> Response:
            await asyncio.sleep(0)
            return make()

    return app


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_sync_code_of_a_request_stays_on_one_thread_to_the_last_byte(
    colour: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Live(build_with_connection(colour)) as live, ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: live.get(), range(40)))

    stages = {stage for answer in answers for stage in answer.text.split()}
    assert all(answer.status == 200 and answer.is_complete for answer in answers)
    assert {"before", "after", "body"} <= stages
    assert [record.message for record in caplog.records] == []


def build_that_records_threads(record: list[tuple[str, str, bool]]) -> Flask:
    app = Flask(__name__)

    def note(stage: str) -> None:
        record.append((stage, thread_name(), has_running_loop()))

    @app.before_request
    def sync_before() -> None:
        note("sync before")

    @app.before_request
    async def async_before() -> None:
        note("async before")

    @app.url_value_preprocessor
    def preprocess(endpoint: str | None, values: Any) -> None:
        note("sync preprocess")

    @app.get("/sync")
    def sync_view() -> Response:
        note("sync view")
        return Response(body())

    @app.get("/async")
    async def async_view() -> Response:
        note("async view")
        await asyncio.sleep(0)
        note("async view after a wait")
        return Response(body())

    @app.get("/fails")
    async def fails() -> str:
        raise ValueError("handled")

    def body():
        note("sync body")
        yield "body"

    @app.errorhandler(ValueError)
    def handle(error: ValueError) -> str:
        note("sync handler")
        return "handled"

    @app.after_request
    async def after(response: Response) -> Response:
        note("async after")
        response.call_on_close(lambda: note("sync close"))
        return response

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        note("async teardown")

    @app.teardown_appcontext
    def teardown_appcontext(error: BaseException | None) -> None:
        note("sync teardown")

    return app


@pytest.mark.parametrize("target", ["/sync", "/async", "/fails"])
def test_async_code_runs_on_the_loop_and_sync_code_on_one_worker(target: str) -> None:
    record: list[tuple[str, str, bool]] = []

    with Live(build_that_records_threads(record)) as live:
        assert live.get(target).status == 200

    for stage, thread, sees_loop in record:
        is_async = stage.startswith("async")
        assert (thread == LOOP_THREAD) is is_async, stage
        assert sees_loop is is_async, stage
    assert len({thread for stage, thread, _ in record if stage.startswith("sync")}) == 1
    assert "sync close" in [stage for stage, _, _ in record]


def test_an_async_view_without_hooks_hands_its_body_to_a_worker() -> None:
    record: list[tuple[str, str, bool]] = []
    app = Flask(__name__)

    @app.get("/")
    async def view() -> Response:
        record.append(("view", thread_name(), has_running_loop()))

        def body():
            record.append(("body", thread_name(), has_running_loop()))
            yield "body"

        return Response(body())

    with Live(app) as live:
        assert live.get().text == "body"
        assert live.paths_taken() == {"loop": 1}

    assert record[0] == ("view", LOOP_THREAD, True)
    assert record[1][1].startswith("carboy-worker")
    assert record[1][2] is False


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_error_handler_of_a_view_on_the_loop_runs_on_a_worker(colour: str) -> None:
    app = Flask(__name__)

    @app.get("/")
    async def view() -> str:
        raise ValueError("handled")

    if colour == "sync":

        @app.errorhandler(ValueError)
        def handle(error: ValueError) -> list[Any]:
            return [thread_name().startswith("carboy-worker"), has_running_loop(), request.path]

    else:

        @app.errorhandler(ValueError)
        async def handle_later(error: ValueError) -> list[Any]:
            return [thread_name() == LOOP_THREAD, not has_running_loop(), request.path]

    with Live(app) as live:
        assert live.get().body == b'[true,false,"/"]\n'
        assert live.paths_taken() == {"loop": 1}


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_context_variables_pass_between_sync_and_async_code_of_a_request() -> None:
    app = Flask(__name__)
    seen: list[str] = []

    @app.before_request
    def sync_before() -> None:
        seen.append(variable.get())
        variable.set("sync before")

    @app.before_request
    async def async_before() -> None:
        seen.append(variable.get())
        variable.set("async before")

    @app.get("/")
    async def view() -> str:
        seen.append(variable.get())
        variable.set("view")
        await asyncio.sleep(0)
        return "view"

    @app.after_request
    def after(response: Response) -> Response:
        seen.append(variable.get())
        variable.set("after")
        return response

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        seen.append(variable.get())

    variable.set("of the main thread")
    with Live(app) as live:
        live.get()
        live.get()

    assert seen == ["unset", "sync before", "async before", "view", "after"] * 2


def test_a_token_may_be_reset_where_another_stage_set_it() -> None:
    """Needs the very same context: a copy would refuse the token."""
    app = Flask(__name__)

    @app.before_request
    def before() -> None:
        g.token = variable.set("set")

    @app.get("/")
    async def view() -> str:
        variable.reset(g.token)
        g.token = variable.set("in the view")
        return variable.get()

    @app.after_request
    def after(response: Response) -> Response:
        variable.reset(g.token)
        response.headers["X-After"] = variable.get()
        return response

    with Live(app) as live:
        answer = live.get()

    assert (answer.text, answer.header("x-after")) == ("in the view", "unset")


def test_threads_of_an_executor_run_async_code_of_the_request() -> None:
    app = Flask(__name__)

    @app.get("/<int:number>")
    def view(number: int) -> list[str]:
        async def work(part: int) -> str:
            await asyncio.sleep(0.001)
            return f"{request.path} {part} {thread_name()}"

        with ThreadPoolExecutor(3) as executor:
            # A copied context is for one call.
            futures = [
                executor.submit(flask.copy_current_request_context(work), part) for part in range(3)
            ]
            return [future.result() for future in futures]

    with Live(app) as live, ThreadPoolExecutor(5) as clients:
        answers = list(clients.map(lambda number: live.get(f"/{number}").text, range(10)))

    for number, answer in enumerate(answers):
        assert flask.json.loads(answer) == [f"/{number} {p} {LOOP_THREAD}" for p in range(3)]


def test_a_thread_of_an_async_view_sees_the_request() -> None:
    app = Flask(__name__)

    def work() -> list[Any]:
        g.thread = thread_name()
        return [request.path, thread_name() != LOOP_THREAD, has_running_loop()]

    @app.get("/path")
    async def view() -> list[Any]:
        results = await asyncio.gather(*(asyncio.to_thread(work) for _ in range(3)))
        return [*results[0], results == [results[0]] * 3, g.thread != LOOP_THREAD]

    with Live(app) as live:
        assert live.get("/path").body == b'["/path",true,false,true,true]\n'


def test_a_view_may_make_requests_to_its_own_server() -> None:
    app = Flask(__name__)

    @app.get("/calls/<path:target>")
    def calls(target: str) -> str:
        return live.get(f"/{target}").text

    @app.get("/async")
    async def async_view() -> str:
        return "async"

    @app.get("/sync")
    def sync_view() -> str:
        return "sync"

    @app.get("/awaits")
    async def awaits() -> str:
        return await asyncio.to_thread(lambda: live.get("/sync").text + live.get("/async").text)

    with Live(app, threads=2) as live:
        assert live.get("/calls/async").text == "async"
        assert live.get("/calls/sync").text == "sync"
        assert live.get("/awaits").text == "syncasync"


def test_async_code_that_is_called_in_the_sync_way_on_the_loop_is_told_so() -> None:
    app = Flask(__name__)

    async def helper() -> str:
        return "helped"

    @app.get("/")
    async def view() -> str:
        try:
            return app.ensure_sync(helper)()
        except RuntimeError as error:
            return str(error)

    with Live(app) as live:
        assert "await it instead" in live.get().text


def test_asyncio_run_works_in_a_sync_view() -> None:
    app = Flask(__name__)

    @app.get("/run")
    def run() -> str:
        return asyncio.run(asyncio.sleep(0.001, "ran"))

    @app.get("/loop")
    def own_loop() -> str:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.sleep(0.001, "ran"))
        finally:
            loop.close()

    with Live(app) as live, ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda n: live.get(("/run", "/loop")[n % 2]).text, range(16)))

    assert answers == ["ran"] * 16


def test_a_sync_view_may_wait_for_a_coroutine_that_it_sends_to_the_servers_loop() -> None:
    app = Flask(__name__)
    loops: list[asyncio.AbstractEventLoop] = []

    @app.get("/loop")
    async def remember() -> str:
        loops.append(asyncio.get_running_loop())
        return "remembered"

    @app.get("/")
    def view() -> str:
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001, "done"), loops[0])
        return future.result(5)

    with Live(app) as live:
        live.get("/loop")
        assert live.get().text == "done"


def test_threading_locals_of_a_request_are_its_own_while_threads_are_not_shared() -> None:
    local = threading.local()
    app = Flask(__name__)
    all_started = threading.Barrier(4)

    @app.before_request
    def before() -> None:
        local.value = request.args["n"]
        all_started.wait(5)

    @app.get("/")
    async def view() -> str:
        await asyncio.sleep(0.01)
        return "view"

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-Local"] = local.value
        return response

    with Live(app, threads=4) as live, ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda n: live.get(f"/?n={n}"), range(4)))

    assert [answer.header("x-local") for answer in answers] == ["0", "1", "2", "3"]
