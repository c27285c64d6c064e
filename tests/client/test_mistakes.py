"""The mistakes that other clients make easy: here each is impossible, or told with its line."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.pool import is_whole
from support.raw_upstream import Peer, RawUpstream, ok
from support.waiting import eventually

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream.answering(ok()) as upstream:
        yield upstream


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_calls_without_a_session_share_connections(upstream: RawUpstream) -> None:
    """New client per request: there is none to be made."""
    for _ in range(20):
        assert http.get(upstream.url).result().ok
    assert len(upstream.peers) == 1

    async def main() -> None:
        for _ in range(20):
            assert (await http.get(upstream.url)).ok

    carboy.run(main())
    assert len(upstream.peers) == 2, "one for each loop"


def test_a_session_per_request_leaves_nothing(upstream: RawUpstream) -> None:
    """And who makes one all the same pays little, and leaks nothing."""
    http.Session(trust_env=False).get(upstream.url).result()
    for _ in range(50):
        session = http.Session(trust_env=False)
        assert session.get(upstream.url).result().ok
    del session
    gc.collect()
    # The next client that is made clears up after those that are gone.
    with http.Session(trust_env=False) as last:
        last.get(upstream.url).result()
        eventually(
            lambda: sum(not peer.has_ended.is_set() for peer in upstream.peers) <= 2,
            what="their connections are closed",
        )


def test_sessions_cross_loops_and_threads(upstream: RawUpstream) -> None:
    """Session across loops: a session is a handle, each loop has connections of its own."""
    session = http.Session(trust_env=False)

    async def main() -> None:
        assert (await session.get(upstream.url)).ok

    for run in (carboy.run, asyncio.run, carboy.run, asyncio.run):
        run(main())
    thread = threading.Thread(target=lambda: carboy.run(main()))
    thread.start()
    thread.join()
    assert session.get(upstream.url).result().ok


def test_closing_a_session_closes_the_connections_of_every_loop(upstream: RawUpstream) -> None:
    session = http.Session(trust_env=False)
    ready, done = threading.Event(), threading.Event()

    async def on_its_loop() -> None:
        assert (await session.get(upstream.url)).ok
        ready.set()
        while not done.is_set():
            await asyncio.sleep(0.001)

    thread = threading.Thread(target=lambda: carboy.run(on_its_loop()))
    thread.start()
    assert ready.wait(5)
    assert session.get(upstream.url).result().ok
    assert len(upstream.peers) == 2
    session.close()
    try:
        for peer in upstream.peers:
            assert peer.has_ended.wait(5), "a connection was left open"
    finally:
        done.set()
        thread.join()
    with pytest.raises(http.ClientClosed):
        session.get(upstream.url).result()


def test_every_timeout_is_finite() -> None:
    """No timeout: ``None`` must be spelt."""
    for session in (http.Session(), http.Client()):
        limits = session.timeout.as_tuple()
        assert limits == (3.0, 10.0, 10.0, 3.0, 30.0)
    assert http.Session(timeout=None).timeout.as_tuple() == (None,) * 5
    for nonsense in (0, -1, True, "5"):
        with pytest.raises((TypeError, ValueError), match="timeout is to be"):
            http.Session(timeout=nonsense)  # type: ignore[arg-type]


def test_the_loop_is_not_blocked(upstream: RawUpstream) -> None:
    """Blocking the loop's thread: an error that names the place of the promise."""

    async def main() -> None:
        promise = http.get(upstream.url)
        with pytest.raises(RuntimeError, match=r"use 'await' instead.*test_mistakes\.py:\d+"):
            promise.result()
        with (
            pytest.raises(RuntimeError, match=r"use 'await' instead"),
            http.stream("GET", upstream.url),
        ):
            pass
        assert (await promise).ok

    with warnings.catch_warnings():
        # The stream was begun, and nobody took it.
        warnings.simplefilter("ignore", ResourceWarning)
        carboy.run(main())
        gc.collect()


def test_awaiting_one_after_the_other_overlaps() -> None:
    """Sequential awaits of independent calls: both have begun at once."""
    both = threading.Barrier(2)

    def serve(peer: Peer) -> None:
        peer.read_request()
        # Neither is answered before the other has come.
        both.wait(5)
        peer.send(ok())

    async def main(url: str) -> None:
        first, second = http.get(url), http.get(url)
        assert (await first).ok
        assert (await second).ok

    with RawUpstream(serve) as upstream:
        carboy.run(asyncio.wait_for(main(upstream.url), 5))
        both.reset()
        first, second = http.get(upstream.url), http.get(upstream.url)
        assert first.result(5).ok
        assert second.result(5).ok


def test_an_unread_stream_is_told_with_its_line_and_leaks_nothing() -> None:
    """Unread streaming body leaks a connection: not here, and the line is named."""

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\nbegin")
        peer.wait_for_end()

    with RawUpstream(serve) as upstream, http.Session(trust_env=False) as session:
        response = session.get(upstream.url, stream=True).result()
        line = test_an_unread_stream_is_told_with_its_line_and_leaks_nothing
        with pytest.warns(ResourceWarning, match=r"neither read nor closed") as told:
            # It is gone with the last reference to it.
            del response
        place = f"{Path(__file__).name}:{line.__code__.co_firstlineno + 9}"
        assert place in str(told[0].message)
        assert upstream.peers[0].has_ended.wait(5)
        is_whole(session, 0)


def test_a_whole_response_holds_no_connection(upstream: RawUpstream) -> None:
    with http.Session(trust_env=False) as session:
        kept = [session.get(upstream.url).result() for _ in range(10)]
        is_whole(session, 1)
        assert len(upstream.peers) == 1
        assert {response.text for response in kept} == {"fine"}


def test_a_failure_that_nobody_sees_is_logged(
    upstream: RawUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Fire and forget: the error is not lost."""
    http.get("http://127.0.0.1:1/lost")
    eventually(lambda: (gc.collect(), "127.0.0.1:1/lost" in caplog.text)[1])
    assert "test_mistakes.py" in caplog.text


def test_pending_values_can_not_be_used(upstream: RawUpstream) -> None:
    """Using a pending value: an error instead of an object's address in a URL."""
    promise = http.get(upstream.url)
    for use in (
        lambda: f"{promise}",
        lambda: bool(promise),
        lambda: len(promise),  # type: ignore[arg-type]
        lambda: list(promise),  # type: ignore[call-overload]
        lambda: promise.status_code,  # type: ignore[attr-defined]
    ):
        with pytest.raises((TypeError, AttributeError), match="await"):
            use()
    promise.result()


def test_descriptors_stay_flat(upstream: RawUpstream) -> None:
    async def main() -> None:
        async with http.Session(trust_env=False) as session:
            await asyncio.gather(*(session.get(upstream.url) for _ in range(10)))

    carboy.run(main())
    eventually(lambda: all(peer.has_ended.is_set() for peer in upstream.peers))
    before = open_descriptors()
    for _ in range(10):
        carboy.run(main())
    eventually(lambda: open_descriptors() <= before + 2, what="descriptors are given back")


def test_a_process_that_forks_has_connections_of_its_own(upstream: RawUpstream) -> None:
    assert http.get(upstream.url).result().ok
    with warnings.catch_warnings():
        # CPython 3.12 warns of forks beside threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            for _ in range(3):
                assert http.get(upstream.url).result(5).ok
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + 10
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.005)
    assert os.waitstatus_to_exitcode(done[1]) == 0
    assert http.get(upstream.url).result().ok
    assert len(upstream.peers) == 2, "the parent's connection was not touched"


def test_a_call_that_is_refused_leaves_no_promise_behind(
    upstream: RawUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    for options in (
        {"headers": {"a": "b\r\nc: d"}},
        {"timeout": float("nan")},
        {"timeout": (1, -1)},
    ):
        with pytest.raises(ValueError, match=r"can't be the value|is to be .* seconds"):
            http.get(upstream.url, **options)  # type: ignore[arg-type]
    gc.collect()
    assert caplog.records == []


def test_a_hook_may_change_where_a_request_goes(upstream: RawUpstream) -> None:
    def change(request: http.Request) -> None:
        request.method = "PUT"
        request.url = f"{upstream.url}/changed"

    session = http.Session(hooks={"request": [change]})
    response = session.get("http://127.0.0.1:1/").result()
    assert response.url == f"{upstream.url}/changed"
    assert response.request.method == "PUT"
