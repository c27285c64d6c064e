"""Bodies that come piece by piece, whose reader goes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Response
from support.live import Live
from support.waiting import TIMEOUT_SECONDS, eventually

from carboy import http

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.upstream import Upstream


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_waiting_stream_is_given_up_with_its_service(colour: str, upstream: Upstream) -> None:
    """Server-sent events that come from a service which has nothing to say."""
    app = Flask(__name__)
    ended = threading.Event()

    if colour == "sync":

        @app.get("/")
        def view() -> Response:
            def events() -> Iterator[str]:
                try:
                    with http.stream("GET", upstream.url) as response:
                        yield from (piece.decode() for piece in response.iter_bytes())
                finally:
                    ended.set()

            return Response(events(), mimetype="text/event-stream")

    else:

        @app.get("/")
        async def async_view() -> Any:
            async def events() -> Any:
                try:
                    async with http.stream("GET", upstream.url) as response:
                        async for text in response.aiter_bytes():
                            yield text
                finally:
                    ended.set()

            return events()

    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        call = upstream.next_call()
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert client.read_chunk_after_head() == b"one"
        client.close()
        # Sooner than any timeout of the client.
        assert call.closed.wait(5)
        assert ended.wait(TIMEOUT_SECONDS)


def test_an_idle_stream_of_events_ends_when_its_reader_goes() -> None:
    """Also without promises: a body of an async iterator is carboy's own."""
    app = Flask(__name__)
    ended: list[Any] = []

    @app.get("/")
    async def view() -> Any:
        async def events() -> Any:
            try:
                yield b"one"
                await asyncio.sleep(60)
            except BaseException as error:
                ended.append(type(error))
                raise

        return events()

    app.config["CARBOY_CANCEL_GRACE"] = 0.01
    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        assert client.read_chunk_after_head() == b"one"
        client.close()
        eventually(lambda: ended == [asyncio.CancelledError], what="the stream has ended")


def test_a_response_that_has_nearly_come_keeps_its_connection(upstream: Upstream) -> None:
    app = Flask(__name__)
    session = http.Session()
    numbers: list[Any] = []

    @app.get("/")
    def view() -> str:
        return session.get(upstream.url).result().text

    @app.get("/numbers")
    async def statistics_of_pool() -> str:
        numbers.append(await session.statistics())
        return ""

    def idle() -> int:
        live.get("/numbers")
        return int(numbers[-1][1])

    with Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        call = upstream.next_call()
        # The rest is on its way when the client goes; how far it is does not matter.
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 25_000)
        client.close()
        call.send(b"x" * 25_000)
        eventually(lambda: idle() == 1 or call.closed.is_set(), what="drained or closed")
