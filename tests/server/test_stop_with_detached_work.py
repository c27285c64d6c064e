"""A stop while work goes on that outlives its request."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server_process import ServerProcess

APP = """
    import asyncio, os
    import carboy.server
    from carboy import Promise, http
    from flask import Flask

    carboy.server.BACKGROUND_TASKS_TIMEOUT = float(os.environ.get("WORK_TIMEOUT", "60"))
    app = Flask(__name__)
    url = os.environ["UPSTREAM"]

    def tell(response):
        print("detached work has", response.text, flush=True)

    @app.get("/call")
    def call():
        http.get(url).tap(tell).detach("the audit")
        return "ok"

    @app.get("/thread")
    def thread():
        http.get(url).tap(tell, on="thread").detach("the audit")
        return "ok"

    @app.get("/async")
    async def async_view():
        http.get(url).tap(tell).detach("the audit")
        return "ok"

    @app.get("/coroutine")
    async def coroutine():
        async def work():
            tell(await http.get(url))
        Promise(work()).detach("the audit")
        return "ok"

    @app.get("/more")
    def more():
        def begin(_):
            http.get(url + "/more").tap(tell).detach("more of it")
        http.get(url).tap(begin).detach("the audit")
        return "ok"

    @app.get("/fails")
    def fails():
        http.get(url).tap(lambda _: 1 / 0).detach("the audit")
        return "ok"
"""
TARGETS = ["/call", "/thread", "/async", "/coroutine", "/more"]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as service:
        yield service


@pytest.mark.parametrize("target", TARGETS)
def test_detached_work_is_finished(
    serve: Callable[..., ServerProcess], upstream: Upstream, target: str
) -> None:
    server = serve(APP, env={"UPSTREAM": upstream.url})
    assert server.get(target).body == b"ok"
    call = upstream.next_call()
    server.send_signal(signal.SIGTERM)
    server.wait_for_line("finishing the requests")
    call.answer(b"finished")
    if target == "/more":
        upstream.next_call().answer(b"finished")
    assert server.wait() == 0
    assert "detached work has finished" in server.output
    assert "ERROR" not in server.output
    assert "WARNING" not in server.output


@pytest.mark.parametrize("target", TARGETS)
def test_what_does_not_finish_is_told_by_its_name(
    serve: Callable[..., ServerProcess], upstream: Upstream, target: str
) -> None:
    server = serve(APP, env={"UPSTREAM": upstream.url, "WORK_TIMEOUT": "0.2"})
    assert server.get(target).body == b"ok"
    call = upstream.next_call()
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    call.wait_closed()
    assert "WARNING the audit did not finish and is cancelled: <Promise pending, " in server.output
    assert server.output.count("did not finish") == 1
    assert "ERROR" not in server.output


def test_the_failure_of_work_that_is_waited_for_is_told(
    serve: Callable[..., ServerProcess], upstream: Upstream
) -> None:
    server = serve(APP, env={"UPSTREAM": upstream.url})
    assert server.get("/fails").body == b"ok"
    call = upstream.next_call()
    server.send_signal(signal.SIGTERM)
    server.wait_for_line("finishing the requests")
    call.answer(b"finished")
    assert server.wait() == 0
    assert "ERROR the audit failed (" in server.output
    assert "ZeroDivisionError" in server.output
