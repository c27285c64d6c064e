"""A view that holds the loop is named, with its request, while it does."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from flask import Flask, current_app, request
from support.live import Live
from support.log_records import TIMEOUT_SECONDS, Records, records_of
from support.waiting import eventually

from carboy import watchdog

THRESHOLD = 0.2

release = threading.Event()


def make_app() -> Flask:
    app = Flask(__name__)

    def hold() -> str:
        assert release.wait(TIMEOUT_SECONDS)
        return "held"

    @app.get("/first-step/<int:number>")
    async def first_step(number: int) -> str:
        return hold()

    @app.get("/later-step", endpoint="named otherwise")
    async def later_step() -> str:
        await asyncio.sleep(0)
        return hold()

    @app.get("/sub-task")
    async def sub_task() -> str:
        async def child() -> str:
            return hold()

        return await asyncio.create_task(child(), name="child's task")

    @app.get("/looked-at")
    async def looked_at() -> str:
        assert request.path == "/looked-at"
        return hold()

    @app.get("/bridge")
    def bridge() -> str:
        async def nested() -> str:
            await asyncio.sleep(0)
            return hold()

        return current_app.ensure_sync(nested)()

    @app.get("/sync")
    def sync() -> str:
        return hold()

    return app


@pytest.fixture(autouse=True)
def unlimited_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = watchdog._ReportBudget(burst=1000, seconds_per_report=1.0)
    monkeypatch.setattr(watchdog, "_budget", budget)


@pytest.fixture
def records() -> Iterator[Records]:
    release.clear()
    with records_of("carboy.watchdog", lambda _: release.set()) as records:
        yield records
    release.set()


@pytest.mark.parametrize(
    ("target", "endpoint", "coroutine"),
    [
        ("/first-step/7?q=1", "first_step", "first_step"),
        ("/later-step", "named otherwise", "later_step"),
        ("/looked-at", "looked_at", "looked_at"),
        ("/sub-task", "sub_task", "sub_task.<locals>.child"),
        ("/bridge", "bridge", "bridge.<locals>.nested"),
    ],
)
def test_a_view_that_holds_the_loop_is_named_with_its_request(
    records: Records, target: str, endpoint: str, coroutine: str
) -> None:
    with Live(make_app(), blocking_threshold_seconds=THRESHOLD) as live:
        before = live.statistics()
        assert live.get(target).text == "held"
        # The loop is that of all live servers in this process.
        longer = before["loop_stalled_ms"] + THRESHOLD * 1000
        eventually(lambda: live.statistics()["loop_stalled_ms"] >= longer)
        assert live.statistics()["loop_stalls"] == before["loop_stalls"] + 1

    begin = records.messages[0].splitlines()[0]
    path = target.partition("?")[0]
    assert f"make_app.<locals>.{coroutine}() in view {endpoint!r} (GET {path})" in begin
    assert "test_blocking_views.py" in records.messages[0]
    eventually(lambda: len(records.messages) == 2)
    assert "in view" in records.messages[1]
    assert "in all" in records.messages[1]


def test_a_sync_view_may_take_its_time(records: Records) -> None:
    with Live(make_app(), blocking_threshold_seconds=0.05) as live:
        before = live.statistics()["loop_stalls"]
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(live.get("/sync").text))
        thread.start()
        # Longer than the threshold, by a clock that the loop does not share.
        threading.Event().wait(0.2)
        release.set()
        thread.join()

        assert answers == ["held"]
        assert live.statistics()["loop_stalls"] == before
    assert records.messages == []


@pytest.mark.parametrize(
    ("setting", "is_debug", "threshold"),
    [(None, False, 1.0), (None, True, 0.1), (0, True, None), (2.5, False, 2.5)],
)
def test_servers_watch_their_loop(
    setting: float | None, is_debug: bool, threshold: float | None
) -> None:
    app = make_app()
    app.debug = is_debug
    with Live(app, blocking_threshold_seconds=setting) as live:
        loop = live.live_server.server._loop
        assert loop.blocking_threshold_seconds == threshold
    assert loop.blocking_threshold_seconds is None
