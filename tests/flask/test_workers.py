"""Worker threads: as many as are needed and can be had, with as many stacks as are needed."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import greenlet
import pytest
from flask import Flask
from support.live import Live
from support.waiting import eventually

#: More requests than a thread keeps stacks for.
CROWD = 40

#: What one thread may keep once all is done: its first stack, the one that makes others,
#: the one that waits for work, and a few spare ones. See `SPARE_STACKS` in the native code.
KEPT_STACKS = 7


class ThreadStarts:
    """Lets the start of chosen worker threads fail as it does when the system has no room."""

    def __init__(self, fails: Callable[[int], bool]) -> None:
        self.fails = fails
        self.attempts = 0
        self._start = threading.Thread.start

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        starts = self

        def start(thread: threading.Thread) -> None:
            if thread.name.startswith("carboy-worker-") and thread.name[-1].isdigit():
                starts.attempts += 1
                if starts.fails(starts.attempts):
                    raise RuntimeError("can't start new thread")
            starts._start(thread)

        monkeypatch.setattr(threading.Thread, "start", start)


def test_a_first_thread_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts = ThreadStarts(lambda attempt: attempt == 1)
    starts.install(monkeypatch)
    app = Flask(__name__)

    @app.get("/")
    def view() -> str:
        return "served"

    with caplog.at_level(logging.WARNING, "carboy"), Live(app) as live:
        assert live.get().text == "served"

    assert starts.attempts >= 2
    assert [record.getMessage() for record in caplog.records] == [
        "no further worker thread can be started: can't start new thread"
    ]


def test_requests_wait_for_the_threads_there_are_when_no_more_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts = ThreadStarts(lambda attempt: attempt > 1)
    starts.install(monkeypatch)
    app = Flask(__name__)
    release = threading.Event()

    @app.get("/blocks")
    def blocks() -> str:
        assert release.wait(10)
        return "released"

    @app.get("/waits")
    def waits() -> str:
        return app.ensure_sync(asyncio.sleep)(0, "waited")

    with Live(app) as live, ThreadPoolExecutor(8) as clients:
        first = clients.submit(live.get, "/blocks")
        eventually(lambda: live.statistics()["worker_threads"] == 1)
        rest = [clients.submit(live.get, "/waits") for _ in range(5)]
        eventually(lambda: starts.attempts > 1, what="a second thread was wanted")
        eventually(lambda: live.statistics()["queued_requests"] == 5)
        assert live.statistics()["worker_threads"] == 1
        release.set()
        assert first.result(5).text == "released"
        assert [answer.result(5).text for answer in rest] == ["waited"] * 5

    assert {record.name for record in caplog.records} == {"carboy"}


def living_stacks() -> int:
    gc.collect()
    return sum(
        isinstance(thing, greenlet.greenlet) and not thing.dead for thing in gc.get_objects()
    )


def test_stacks_that_a_crowd_needed_are_given_back() -> None:
    app = Flask(__name__)
    waiting = 0
    all_here = asyncio.Event()
    before = living_stacks()

    @app.before_request
    def before_request() -> None:
        """Makes the request one for a worker."""

    @app.get("/")
    async def view() -> str:
        nonlocal waiting
        waiting += 1
        if waiting == CROWD:
            most.append(living_stacks() - before)
            all_here.set()
        await asyncio.wait_for(all_here.wait(), 5)
        return "met"

    most: list[int] = []
    with Live(app, threads=1) as live, ThreadPoolExecutor(CROWD) as clients:
        assert list(clients.map(lambda _: live.get().text, range(CROWD))) == ["met"] * CROWD
        assert most[0] >= CROWD, "each request had a stack of its own"
        eventually(
            lambda: living_stacks() - before <= KEPT_STACKS,
            what="spare stacks have ended",
            timeout=3,
        )
        assert live.get().text == "met"
