"""Async views are real asyncio tasks of one loop that lives as long as the server."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
from flask import Flask, g, request
from support.live import Live
from support.waiting import eventually

BEHIND = ["nothing", "sync hook"]


def make_app(behind: str) -> Flask:
    """An app, with a sync hook on each request's way or without."""
    app = Flask(__name__)
    if behind == "sync hook":

        @app.before_request
        def before() -> None:
            g.before = True

    return app


@pytest.mark.parametrize("behind", BEHIND)
def test_a_view_is_one_real_task_from_its_first_step_to_its_last(behind: str) -> None:
    app = make_app(behind)

    @app.get("/")
    async def view() -> list[Any]:
        first = asyncio.current_task()
        facts = [type(first) is asyncio.Task, first in asyncio.all_tasks()]
        await asyncio.sleep(0)
        facts.append(asyncio.current_task() is first)
        await asyncio.sleep(0.001)
        facts.append(asyncio.current_task() is first)
        assert first is not None
        facts.append(first.get_coro() is not None and bool(first.get_stack()))
        facts.append(first.get_loop() is asyncio.get_running_loop())
        return facts

    with Live(app) as live:
        assert live.get().body == b"[true,true,true,true,true,true]\n"


@pytest.mark.parametrize("behind", BEHIND)
def test_a_timeout_ends_a_wait(behind: str) -> None:
    app = make_app(behind)

    @app.get("/")
    async def view() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except TimeoutError:
            return "in time"
        return "never"

    with Live(app) as live:
        assert live.get().text == "in time"


@pytest.mark.parametrize("behind", BEHIND)
def test_a_task_group_sees_the_request_in_its_children(behind: str) -> None:
    app = make_app(behind)

    @app.get("/")
    async def view() -> dict[str, Any]:
        async def child(number: int) -> str:
            await asyncio.sleep(0.001 * number)
            return f"{request.path} {number}"

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(number)) for number in range(3)]
        failures = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(30))
                group.create_task(fail())
        except* ValueError as raised:
            failures = [str(error) for error in raised.exceptions]
        return {"results": [task.result() for task in tasks], "failures": failures}

    async def fail() -> None:
        raise ValueError("child")

    with Live(app) as live:
        assert live.get().body == b'{"failures":["child"],"results":["/ 0","/ 1","/ 2"]}\n'


@pytest.mark.parametrize("behind", BEHIND)
def test_anyio_works_in_a_view(behind: str) -> None:
    app = make_app(behind)

    @app.get("/")
    async def view() -> list[Any]:
        results: list[Any] = []

        async def child(number: int) -> None:
            await anyio.sleep(0.001 * number)
            results.append(number)

        async with anyio.create_task_group() as group:
            for number in (2, 1):
                group.start_soon(child, number)
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        results.append(scope.cancelled_caught)
        results.append(await anyio.to_thread.run_sync(lambda: "thread"))
        return results

    with Live(app) as live:
        assert live.get().body == b'[1,2,true,"thread"]\n'


@pytest.mark.parametrize("behind", BEHIND)
def test_a_background_task_lives_on_after_the_response(behind: str) -> None:
    app = make_app(behind)
    kept: set[asyncio.Task[None]] = set()
    events: list[str] = []
    go_on: list[asyncio.Event] = []

    @app.get("/start")
    async def start() -> str:
        go_on.append(asyncio.Event())

        async def work() -> None:
            await go_on[0].wait()
            events.append("done")

        kept.add(asyncio.create_task(work()))
        return "started"

    @app.get("/continue")
    async def let_it_continue() -> str:
        go_on[0].set()
        return "continued"

    with Live(app) as live:
        assert live.get("/start").text == "started"
        assert events == []
        assert live.get("/continue").text == "continued"
        eventually(lambda: events == ["done"])


@pytest.mark.parametrize("behind", BEHIND)
def test_clients_made_by_the_first_request_serve_the_later_ones(behind: str) -> None:
    upstream = Flask("upstream")
    connections: set[str] = set()

    @upstream.get("/<name>")
    async def answer(name: str) -> str:
        connections.add(request.environ["REMOTE_PORT"])
        return f"hello {name}"

    app = make_app(behind)
    clients: dict[str, Any] = {}

    @app.get("/aiohttp/<name>")
    async def by_aiohttp(name: str) -> str:
        if "aiohttp" not in clients:
            clients["aiohttp"] = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5))
        async with clients["aiohttp"].get(f"{backend.url}/{name}") as response:
            return await response.text()

    @app.get("/httpx/<name>")
    async def by_httpx(name: str) -> str:
        if "httpx" not in clients:
            clients["httpx"] = httpx.AsyncClient(timeout=5)
        response = await clients["httpx"].get(f"{backend.url}/{name}")
        return response.text

    @app.get("/close")
    async def close() -> str:
        await clients["aiohttp"].close()
        await clients["httpx"].aclose()
        return "closed"

    with Live(upstream) as backend, Live(app) as live:
        for library in ("aiohttp", "httpx"):
            connections.clear()
            texts = [live.get(f"/{library}/{n}").text for n in range(5)]
            assert texts == [f"hello {n}" for n in range(5)]
            assert len(connections) == 1, "the pool kept its connection"
        assert live.get("/close").text == "closed"


def test_views_wait_at_the_same_time() -> None:
    app = make_app("nothing")
    waiting = 0
    all_here = asyncio.Event()

    @app.get("/")
    async def view() -> str:
        nonlocal waiting
        waiting += 1
        if waiting == 20:
            all_here.set()
        await asyncio.wait_for(all_here.wait(), 5)
        return "met"

    with Live(app) as live, ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: live.get().text, range(20)))
        assert live.paths_taken() == {"loop": 20}

    assert answers == ["met"] * 20


@pytest.mark.parametrize("threads", [1, 3])
def test_requests_that_wait_in_async_code_share_few_threads(threads: int) -> None:
    app = make_app("sync hook")
    waiting = 0
    all_here = asyncio.Event()

    @app.get("/")
    async def view() -> str:
        nonlocal waiting
        waiting += 1
        if waiting == 20:
            all_here.set()
        await asyncio.wait_for(all_here.wait(), 5)
        return request.args["n"]

    @app.after_request
    def after(response: Any) -> Any:
        response.headers["X-N"] = request.args["n"]
        return response

    with Live(app, threads=threads) as live, ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda n: live.get(f"/?n={n}"), range(20)))
        assert live.statistics()["worker_threads"] <= threads

    assert [(a.text, a.header("x-n")) for a in answers] == [(str(n), str(n)) for n in range(20)]


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_program_ends_only_the_request(
    kind: type[BaseException], behind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(behind)
    torn_down: list[str] = []

    @app.get("/now")
    async def now() -> str:
        raise kind("now")

    @app.get("/later")
    async def later() -> str:
        await asyncio.sleep(0.001)
        raise kind("later")

    @app.get("/sync")
    def sync() -> str:
        raise kind("sync")

    @app.get("/child")
    async def child() -> str:
        task = asyncio.create_task(asyncio.sleep(30))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "never"

    @app.get("/works")
    async def works() -> str:
        return "works"

    if behind == "sync hook":

        @app.teardown_request
        def teardown(error: BaseException | None) -> None:
            torn_down.append(repr(error))

    with Live(app) as live:
        for target in ("/now", "/later", "/sync"):
            assert live.get(target).status == 500
            assert live.get("/works").text == "works"
        assert live.get("/child").text == "cancelled"

    logged = [r for r in caplog.records if r.name == "carboy"]
    assert [type(record.exc_info[1]) for record in logged if record.exc_info] == [kind] * 3
    if behind == "sync hook":
        assert torn_down[::2] == [repr(kind(name)) for name in ("now", "later", "sync")] + ["None"]


@pytest.mark.parametrize("behind", BEHIND)
def test_a_view_may_cancel_its_own_task(behind: str) -> None:
    app = make_app(behind)

    @app.get("/")
    async def view() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            task.uncancel()
            return "caught"
        return "never"

    with Live(app) as live:
        assert live.get().text == "caught"
