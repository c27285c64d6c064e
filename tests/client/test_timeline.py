"""Which calls a request has made, and which of them waited for which."""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from support.live import Live
from support.raw_upstream import RawUpstream
from support.upstream import Upstream, UpstreamCall

import carboy
from carboy import Promise, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    def answer(call: UpstreamCall) -> None:
        call.answer(call.target.encode())

    with Upstream(answer) as service:
        yield service


def dependencies() -> dict[str, list[str]]:
    """By the name of each call, the names of those that it depends on."""

    def name(call: http.Call) -> str:
        return call.url.rpartition("/")[2]

    return {name(call): sorted(map(name, call.depends_on)) for call in http.timeline()}


#: A and B together, C after A, D after B and C.
DEPENDENT = {"a": [], "b": [], "c": ["a"], "d": ["b", "c"]}


def by_handlers(fetch: Callable[[str], Promise[str]]) -> Promise[str]:
    a, b = fetch("a"), fetch("b")
    c = a.then(lambda _: fetch("c"))
    return Promise.all(b, c).then(lambda _: fetch("d"))


def by_results(fetch: Callable[[str], Promise[str]]) -> str:
    a, b = fetch("a"), fetch("b")
    a.result()
    c = fetch("c")
    b.result()
    c.result()
    return fetch("d").result()


async def by_awaits(fetch: Callable[[str], Promise[str]]) -> str:
    a, b = fetch("a"), fetch("b")
    await a
    c = fetch("c")
    await Promise.all(b, c)
    return await fetch("d")


async def by_coroutine_handlers(fetch: Callable[[str], Promise[str]]) -> str:
    async def third(_: str) -> str:
        return await fetch("c")

    a, b = fetch("a"), fetch("b")
    c = a.then(third)
    return await Promise.call(lambda *_: fetch("d"), b, c)


@pytest.mark.parametrize("program", [by_handlers, by_results, by_awaits, by_coroutine_handlers])
def test_it_is_known_what_a_call_depends_on(
    program: Callable[[Any], Any], upstream: Upstream
) -> None:
    app = Flask(__name__)
    app.debug = True

    def fetch(name: str) -> Promise[str]:
        return http.get(f"{upstream.url}/{name}").then(lambda response: response.text)

    if program.__name__ in ("by_handlers", "by_results"):

        @app.get("/")
        def view() -> Any:
            last = program(fetch)
            if isinstance(last, Promise):
                last.result()
            return dependencies()

    else:

        @app.get("/")
        async def async_view() -> Any:
            await program(fetch)
            return dependencies()

    with Live(app) as live:
        answers = [json.loads(live.get("/").body) for _ in range(2)]
    assert answers == [DEPENDENT] * 2


def test_nothing_is_kept_without_debug(upstream: Upstream) -> None:
    app = Flask(__name__)

    @app.get("/")
    def view() -> Any:
        http.get(f"{upstream.url}/a").result()
        return dependencies()

    with Live(app) as live:
        assert json.loads(live.get("/").body) == {}


def test_chains_of_any_length_are_kept(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBOY_HTTP_TIMELINE", "1")

    async def main() -> dict[str, list[str]]:
        # From here on it is noted what each promise is made of.
        chain: Promise[Any] = session.get("/a")
        dropped, _, _ = Promise.with_resolvers()
        for _ in range(20_000):
            chain = chain.then(lambda value: value)
            dropped = dropped.then(lambda value: value)
        del dropped
        await chain.then(lambda _: session.get("/b"))
        return dependencies()

    began = time.monotonic()
    with http.Session(base_url=upstream.url) as session:
        assert asyncio.run(main()) == {"a": [], "b": ["a"]}
    # The way is gone once. If each step went it again, this would take a minute.
    assert time.monotonic() - began < 20


def test_calls_that_are_given_up_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBOY_HTTP_TIMELINE", "1")

    def calls() -> None:
        session = http.Session(trust_env=False)
        with RawUpstream(lambda peer: peer.wait_for_end()) as silent:
            session.get(f"{silent.url}/cancelled").cancel()
            late = session.get(f"{silent.url}/late").timeout(0.01)
            assert isinstance(late.exception(), TimeoutError)
            with carboy.deadline(0.01):
                over = session.get(f"{silent.url}/over")
            assert isinstance(over.exception(), carboy.DeadlineExceeded)
        cancelled, late_call, over_call = http.timeline()
        assert isinstance(cancelled.error, asyncio.CancelledError)
        assert isinstance(late_call.error, asyncio.CancelledError)
        assert over_call.error is over.exception()
        for call in (cancelled, late_call, over_call):
            assert call.ended is not None
            assert call.began <= call.ended
            assert "pending" not in repr(call)

    contextvars.Context().run(calls)
