"""Who loses interest in a call ends it, down to the socket."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from support.pool import is_whole, numbers
from support.raw_upstream import Peer, RawUpstream, ok
from support.waiting import eventually

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session() -> Iterator[http.Session]:
    with http.Session(trust_env=False) as session:
        yield session


@pytest.fixture
def silent() -> Iterator[RawUpstream]:
    """An upstream that reads and says nothing."""

    def serve(peer: Peer) -> None:
        upstream.requests.append(peer.read_request())
        peer.wait_for_end()

    with RawUpstream(serve) as upstream:
        yield upstream


def has_asked(upstream: RawUpstream, count: int = 1) -> None:
    eventually(lambda: len(upstream.requests) == count, what="the request has come")


def test_cancel_closes_the_socket(session: http.Session, silent: RawUpstream) -> None:
    promise = session.get(silent.url)
    has_asked(silent)
    assert promise.cancel()
    assert silent.peers[0].has_ended.wait(5)
    with pytest.raises(asyncio.CancelledError):
        promise.result()
    is_whole(session, 0)


def test_a_task_that_is_cancelled(session: http.Session, silent: RawUpstream) -> None:
    async def main() -> None:
        async def call() -> None:
            await session.get(silent.url)

        task = asyncio.create_task(call())
        while not silent.requests:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not silent.peers[0].has_ended.is_set():
            await asyncio.sleep(0.001)
        assert await session.statistics() == (0, 0, 0)

    carboy.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("run", [carboy.run, asyncio.run])
def test_the_loser_of_a_race(session: http.Session, silent: RawUpstream, run: object) -> None:
    with RawUpstream.answering(ok(b"winner")) as quick:

        async def main() -> str:
            lost = session.get(silent.url)
            while not silent.requests:
                await asyncio.sleep(0.001)
            winner = await carboy.Promise.race([lost, session.get(quick.url)])
            return winner.text

        assert run(asyncio.wait_for(main(), 10)) == "winner"  # type: ignore[operator]
        assert silent.peers[0].has_ended.wait(5)


def test_a_timeout_of_the_promise(session: http.Session, silent: RawUpstream) -> None:
    with pytest.raises(TimeoutError):
        session.get(silent.url).timeout(0.1).result()
    assert silent.peers[0].has_ended.wait(5)
    is_whole(session, 0)


def test_a_deadline(session: http.Session, silent: RawUpstream) -> None:
    with carboy.deadline(0.2):
        promise = session.get(silent.url)
        with pytest.raises(carboy.DeadlineExceeded):
            promise.result()
    assert silent.peers[0].has_ended.wait(5)
    is_whole(session, 0)


def test_one_of_many_that_wait(session: http.Session) -> None:
    answered = threading.Event()

    def serve(peer: Peer) -> None:
        while request := peer.read_request():
            upstream.requests.append(request)
            answered.wait(8)
            peer.send(ok())

    limits = http.Limits(connections_per_host=1)
    with RawUpstream(serve) as upstream, http.Session(limits=limits, trust_env=False) as narrow:
        first = narrow.get(upstream.url)
        has_asked(upstream)
        second, third = narrow.get(upstream.url), narrow.get(upstream.url)
        eventually(lambda: numbers(narrow) == (1, 0, 2))
        second.cancel()
        eventually(lambda: numbers(narrow) == (1, 0, 1))
        answered.set()
        assert first.result().ok
        assert third.result().ok
        assert len(upstream.requests) == 2
        is_whole(narrow, 1)


def test_a_stream_that_is_left(session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
        peer.send(b"x" * 1000)
        peer.wait_for_end()

    with RawUpstream(serve) as upstream:
        with session.stream("GET", upstream.url) as response:
            pieces = response.iter_bytes(100)
            assert next(pieces) == b"x" * 100
            assert numbers(session) == (1, 0, 0)
        assert upstream.peers[0].has_ended.wait(5)
        is_whole(session, 0)


def test_a_short_rest_is_read_and_the_connection_kept(session: http.Session) -> None:
    with RawUpstream.answering(ok(b"x" * 10_000)) as upstream:
        for _ in range(3):
            with session.stream("GET", upstream.url) as response:
                assert response.ok
            is_whole(session, 1)
        assert len(upstream.peers) == 1


def test_an_upload_that_is_given_up(session: http.Session) -> None:
    begun, closed, stopped = threading.Event(), threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            begun.set()
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    with RawUpstream(lambda peer: stopped.wait(8)) as upstream:
        promise = session.post(upstream.url, content=pieces())
        assert begun.wait(5)
        eventually(lambda: upstream.peers)
        promise.cancel()
        assert closed.wait(5), "the generator was closed, and its thread has ended"
        is_whole(session, 0)
        stopped.set()


def test_a_loop_that_ends_takes_its_calls_along(silent: RawUpstream) -> None:
    session = http.Session(trust_env=False)

    async def main() -> carboy.Promise[http.Response]:
        promise = session.get(silent.url)
        while not silent.requests:
            await asyncio.sleep(0.001)
        return promise

    promise = carboy.run(asyncio.wait_for(main(), 10))
    assert silent.peers[0].has_ended.wait(5), "no connection outlives its loop"
    with pytest.raises(RuntimeError, match="given up"):
        promise.result()
