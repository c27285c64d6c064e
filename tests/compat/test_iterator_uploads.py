"""Content that sync code of requests and httpx gives piece by piece."""

from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
import requests
from compat_servers import answer
from flask import Flask
from support.live import Live

import carboy
from carboy.compat.blocking import BlockingCallInAsyncView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compat_servers import Received, Upstream


def post_by_requests(session: Any, url: str, content: Any) -> Any:
    return session.post(url, data=content, timeout=10)


def post_by_httpx(client: Any, url: str, content: Any) -> Any:
    return client.post(url, content=content, timeout=10)


LIBRARIES: list[Any] = [
    pytest.param(requests.Session, post_by_requests, id="requests"),
    pytest.param(lambda: httpx.Client(trust_env=False), post_by_httpx, id="httpx"),
    pytest.param(lambda: httpx2.Client(trust_env=False), post_by_httpx, id="httpx2"),
]


def echo(request: Received, file: Any) -> None:
    file.write(answer(body=request.body))


@pytest.mark.parametrize(("make", "post"), LIBRARIES)
def test_it_is_refused_where_it_would_block_the_loop(
    upstream: Upstream, make: Callable[[], Any], post: Callable[..., Any]
) -> None:
    taken = []

    def pieces() -> Iterator[bytes]:
        for number in range(20):
            taken.append(number)
            yield b"x" * 100

    async def main() -> None:
        with make() as client, pytest.raises(BlockingCallInAsyncView, match="POST http"):
            post(client, upstream.url, pieces())

    carboy.run(main())
    assert taken == []
    assert upstream.received == []


@pytest.mark.parametrize(("make", "post"), LIBRARIES)
def test_it_goes_over_the_connection_of_other_calls(
    upstream: Upstream, make: Callable[[], Any], post: Callable[..., Any]
) -> None:
    upstream.answers["/echo"] = echo
    with make() as client:
        client.get(upstream.url)
        assert post(client, f"{upstream.url}/echo", iter([b"a", b"b"])).content == b"ab"
        client.get(upstream.url)
    assert {received.connection for received in upstream.received} == {1}


@pytest.mark.parametrize(("make", "post"), LIBRARIES)
def test_the_iterator_may_make_calls(
    upstream: Upstream, make: Callable[[], Any], post: Callable[..., Any]
) -> None:
    upstream.answers["/echo"] = echo
    threads = set()
    with make() as client:

        def pieces() -> Iterator[bytes]:
            for _ in range(12):
                threads.add(threading.current_thread())
                yield client.get(upstream.url).content

        assert post(client, f"{upstream.url}/echo", pieces()).content == b"ok" * 12
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize(("make", "post"), LIBRARIES)
def test_its_own_error_is_raised(
    upstream: Upstream, make: Callable[[], Any], post: Callable[..., Any]
) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise KeyError("mine")

    with make() as client:
        with pytest.raises(KeyError, match="mine"):
            post(client, upstream.url, pieces())
        assert client.get(upstream.url).content == b"ok"


@pytest.mark.parametrize(("make", "post"), LIBRARIES)
def test_in_a_def_view_and_under_a_deadline(
    upstream: Upstream, make: Callable[[], Any], post: Callable[..., Any]
) -> None:
    upstream.answers["/echo"] = echo
    app = Flask("views")
    with make() as client:

        @app.get("/")
        def view() -> bytes:
            with carboy.deadline(10):
                content: bytes = post(client, f"{upstream.url}/echo", iter([b"a", b"b"])).content
                return content

        with Live(app, threads=1) as live:
            assert live.get("/").text == "ab"
        with carboy.deadline(10):
            assert post(client, f"{upstream.url}/echo", iter([b"c"])).content == b"c"


class StuckError(Exception):
    """Nothing was taken from the iterator for a while."""


@pytest.mark.parametrize(("make", "post"), LIBRARIES)
def test_a_signal_ends_it_while_the_server_takes_nothing(
    make: Callable[[], Any], post: Callable[..., Any]
) -> None:
    taken, seen = 0, -1

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(500_000)

    def look(*_: object) -> None:
        nonlocal seen
        if taken == seen and taken > 0:
            raise StuckError
        seen = taken

    # The system takes connections for it, and as much as its buffers hold.
    with socket.create_server(("127.0.0.1", 0)) as silent, make() as client:
        before = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
        try:
            with pytest.raises(StuckError):
                post(client, f"http://127.0.0.1:{silent.getsockname()[1]}/", pieces())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
