"""Content that is left in the middle, while the server is silent or never comes to an end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.pool import is_whole
from support.raw_upstream import Peer, RawUpstream
from support.waiting import eventually

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
LIMIT_BYTES = 1024 * 1024


@pytest.fixture
def session() -> Iterator[http.Session]:
    limits = http.Limits(content_bytes=LIMIT_BYTES)
    # Only who leaves it ends a stream.
    with http.Session(trust_env=False, timeout=None, limits=limits) as session:
        yield session


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    """Sends one event, and then nothing."""

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + b"data: 1\n\n")
        peer.wait_for_end()

    with RawUpstream(serve) as upstream:
        yield upstream


@pytest.mark.parametrize("run", [carboy.run, asyncio.run])
@pytest.mark.parametrize("reading", ["aiter_bytes", "aiter_lines", "aiter_sse"])
def test_a_reader_that_is_cancelled_while_it_waits(
    session: http.Session, upstream: RawUpstream, run: Any, reading: str
) -> None:
    async def main() -> None:
        has_begun = asyncio.Event()

        async def read() -> None:
            async with session.stream("GET", upstream.url) as response:
                async for _ in getattr(response, reading)():
                    has_begun.set()

        task = asyncio.create_task(read())
        await has_begun.wait()
        # It waits for the second event now.
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not upstream.peers[0].has_ended.is_set():
            await asyncio.sleep(0.001)

    run(asyncio.wait_for(main(), 10))
    is_whole(session, 0)


def test_the_block_ends_before_its_iterator(session: http.Session, upstream: RawUpstream) -> None:
    with session.stream("GET", upstream.url) as response:
        events = response.iter_sse()
        assert next(events).data == "1"
        assert not response.is_closed
    assert response.is_closed
    assert upstream.peers[0].has_ended.wait(5)
    with pytest.raises(http.StreamConsumed, match="closed before its content ended"):
        next(events)
    is_whole(session, 0)


def test_the_async_block_ends_before_its_iterator(
    session: http.Session, upstream: RawUpstream
) -> None:
    async def main() -> None:
        async with session.stream("GET", upstream.url) as response:
            events = response.aiter_sse()
            assert (await anext(events)).data == "1"
        while not upstream.peers[0].has_ended.is_set():
            await asyncio.sleep(0.001)
        with pytest.raises(http.StreamConsumed):
            await anext(events)

    carboy.run(asyncio.wait_for(main(), 10))
    is_whole(session, 0)


def test_a_response_that_another_thread_closes(
    session: http.Session, upstream: RawUpstream
) -> None:
    raised: list[BaseException] = []
    has_begun = threading.Event()

    def read(response: http.Response) -> None:
        try:
            for _ in response.iter_sse():
                has_begun.set()
        except http.HTTPError as error:
            raised.append(error)

    with session.stream("GET", upstream.url) as response:
        reader = threading.Thread(target=read, args=(response,))
        reader.start()
        assert has_begun.wait(5)
    reader.join(5)
    assert not reader.is_alive()
    assert isinstance(raised[0], (http.ReadError, http.StreamConsumed))
    assert "closed" in str(raised[0])
    is_whole(session, 0)


def test_a_library_whose_response_another_thread_closes(upstream: RawUpstream) -> None:
    import requests

    carboy.install("requests")
    try:
        response = requests.get(upstream.url, stream=True)
        has_begun = threading.Event()

        def read() -> None:
            with contextlib.suppress(Exception):
                for _ in response.iter_content(1):
                    has_begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert has_begun.wait(5)
        response.raw._fp.close()
        reader.join(5)
        assert not reader.is_alive()
        assert upstream.peers[0].has_ended.wait(5)
    finally:
        carboy.uninstall("requests")


# What never ends.


@pytest.fixture
def flood() -> Iterator[RawUpstream]:
    """Sends a line without an end."""

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + b"data: ")
        with contextlib.suppress(OSError):
            while True:
                peer.socket.sendall(b"x" * 65536)

    with RawUpstream(serve) as upstream:
        yield upstream


@pytest.mark.parametrize("reading", ["iter_lines", "iter_sse", "read"])
def test_what_is_kept_in_memory_has_a_bound(
    session: http.Session, flood: RawUpstream, reading: str
) -> None:
    with session.stream("GET", flood.url) as response:
        with pytest.raises(http.ContentTooLarge, match=str(LIMIT_BYTES)) as raised:
            list(getattr(response, reading)())
        assert raised.value.request is response.request
        assert response.is_closed
    is_whole(session, 0)


@pytest.mark.parametrize("reading", ["aiter_lines", "aiter_sse", "aread"])
def test_what_async_code_keeps_in_memory_has_a_bound(
    session: http.Session, flood: RawUpstream, reading: str
) -> None:
    async def read(response: http.Response) -> None:
        if reading == "aread":
            await response.aread()
            return
        pieces: AsyncIterator[Any] = getattr(response, reading)()
        async for _ in pieces:
            pass

    async def main() -> None:
        async with session.stream("GET", flood.url) as response:
            with pytest.raises(http.ContentTooLarge, match=str(LIMIT_BYTES)):
                await read(response)
            assert response.is_closed

    carboy.run(asyncio.wait_for(main(), 10))
    is_whole(session, 0)


def test_many_lines_of_one_event_have_a_bound(session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD)
        with contextlib.suppress(OSError):
            while True:
                peer.socket.sendall(b"data: and so on\n" * 4096)

    with RawUpstream(serve) as upstream:
        with (
            session.stream("GET", upstream.url) as response,
            pytest.raises(http.ContentTooLarge),
        ):
            list(response.iter_sse())
        is_whole(session, 0)


def test_short_lines_and_events_may_go_on_for_ever(session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + (b"data: " + b"x" * 10_000 + b"\n\n") * 500)

    with RawUpstream(serve) as upstream:
        with session.stream("GET", upstream.url) as response:
            assert sum(1 for _ in response.iter_sse()) == 500
        with session.stream("GET", upstream.url) as response:
            assert sum(1 for _ in response.iter_lines()) == 1000
    eventually(lambda: session.statistics().result() == (0, 0, 0))
