"""Servers that answer before they have read the request, and close the connection."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.pool import is_whole
from support.raw_upstream import Peer, RawUpstream
from support.waiting import eventually

from carboy import http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: More than the sockets on the way hold.
LARGE = 20 * 1024 * 1024

CONTENTS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: bytes(LARGE),
    "pieces": lambda: iter([b"x" * 65536] * (LARGE // 65536)),
    "a few pieces": lambda: iter([b"data", b"to", b"send"]),
}
ANSWERS = {
    "with a length": b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge",
    "in chunks": (
        b"HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nlarge\r\n0\r\n\r\n"
    ),
}


@pytest.fixture
def session() -> Iterator[http.Session]:
    with http.Session(timeout=http.Timeout(total=20), trust_env=False) as session:
        yield session


def answer_early(answer: bytes) -> Callable[[Peer], None]:
    """Answer after the first bytes. Closing resets the connection, as there is more to read."""

    def serve(peer: Peer) -> None:
        peer.read_some()
        peer.send(answer)

    return serve


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_the_answer_is_read(session: http.Session, content: str, answer: str) -> None:
    with RawUpstream(answer_early(ANSWERS[answer])) as upstream:
        for _ in range(10):
            response = session.post(upstream.url, content=CONTENTS[content]()).result()
            assert (response.status_code, response.text) == (413, "large")
            # A call that is quicker than the end of the connection would meet that.
            is_whole(session, 0)


def test_without_an_answer_it_is_the_writing_that_failed(session: http.Session) -> None:
    with RawUpstream(answer_early(b"")) as upstream:
        for _ in range(10):
            with pytest.raises((http.WriteError, http.ReadError)):
                session.post(upstream.url, content=bytes(LARGE)).result()
        is_whole(session, 0)


def test_a_source_without_end_is_left(session: http.Session) -> None:
    taken = itertools.count()
    last = 0

    def pieces() -> Iterator[bytes]:
        nonlocal last
        for last in taken:  # noqa: B007 - It is looked at below.
            yield b"x" * 65536

    def stands_still() -> bool:
        before = last
        time.sleep(0.05)
        return before == last

    with RawUpstream(answer_early(ANSWERS["with a length"])) as upstream:
        assert session.post(upstream.url, content=pieces()).result().status_code == 413
        eventually(stands_still)
        is_whole(session, 0)


@pytest.mark.parametrize("content", ["bytes", "pieces"])
def test_a_server_that_answers_and_never_reads_the_rest(
    session: http.Session, content: str
) -> None:
    released = threading.Event()

    def serve(peer: Peer) -> None:
        peer.read_some()
        peer.send(ANSWERS["with a length"])
        released.wait(10)

    with RawUpstream(serve) as upstream:
        response = session.post(upstream.url, content=CONTENTS[content]()).result()
        assert (response.status_code, response.text) == (413, "large")
        # It would keep its place in the pool for ever.
        is_whole(session, 0)
        released.set()
