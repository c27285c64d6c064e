"""Content that is made while it is sent: where it is made, how often, and what is left of it."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import threading
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from support.pool import is_whole
from support.raw_upstream import Peer, RawUpstream, ok
from support.waiting import eventually
from werkzeug.datastructures import FileStorage

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
ELSEWHERE = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"

caller: ContextVar[str] = ContextVar("caller", default="nobody")


class GoneError(Exception):
    """What the source of an upload raises."""


@pytest.fixture
def session() -> Iterator[http.Session]:
    with http.Session(trust_env=False, timeout=http.Timeout(total=10)) as session:
        yield session


@pytest.fixture
def upstream() -> Iterator[RawUpstream]:
    with RawUpstream.answering(ok()) as upstream:
        yield upstream


def read_whole(peer: Peer) -> bytes:
    """Return the next request with its content, whichever framing that has; or what there is."""
    request = b""
    while True:
        head, end, content = request.partition(b"\r\n\r\n")
        if b"chunked" in head:
            is_whole = content.endswith(b"0\r\n\r\n")
        else:
            length = head.partition(b"Content-Length: ")[2].partition(b"\r")[0]
            is_whole = bool(end) and len(content) >= int(length or 0)
        received = b"" if is_whole else peer.read_some()
        if not received:
            return request
        request += received


def answering_whole(*answers: bytes) -> RawUpstream:
    """An upstream that reads requests to their end, and has these answers before the usual one."""
    left = list(answers)

    def serve(peer: Peer) -> None:
        while request := read_whole(peer):
            upstream.requests.append(request)
            peer.send(left.pop(0) if left else ok())

    upstream = RawUpstream(serve)
    return upstream


def uploading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "carboy-upload"]


def content_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


# Calls that are never made.


def refusing_hook(request: http.Request) -> None:
    raise GoneError


@pytest.mark.parametrize(
    "call",
    [
        lambda session, content: session.post("no url", content=content),
        lambda session, content: session.post("ftp://host/", content=content),
        lambda session, content: session.request("A B", "http://127.0.0.1:1", content=content),
        lambda session, content: session.post("http://a", content=content, headers={"a\nb": ""}),
        lambda session, content: session.post("http://a", content=content, auth=5),
        lambda session, content: session.post("http://a", content=content, timeout=-1),
        lambda session, content: session.post("http://127.0.0.1:1/", content=content),
        lambda _, content: http.Session(hooks={"request": [refusing_hook]}).post(
            "http://a", content=content
        ),
    ],
)
def test_nothing_is_made_for_a_call_that_is_not_made(
    session: http.Session, call: Callable[..., Any]
) -> None:
    made = []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            made.append(number)
            yield b"x"

    with pytest.raises((http.HTTPError, ValueError, TypeError, GoneError)):
        call(session, pieces()).result()
    assert not made
    assert not uploading_threads()


def test_a_closed_session_makes_nothing(session: http.Session) -> None:
    session.close()
    with pytest.raises(http.ClientClosed):
        session.post("http://127.0.0.1:1", content=iter([b"x"])).result()
    assert not uploading_threads()


# What the source raises.


def test_the_error_of_the_source_is_the_cause(session: http.Session) -> None:
    failure = GoneError("the disk is gone")
    has_arrived = threading.Event()
    received = []

    def pieces() -> Iterator[bytes]:
        yield b"one"
        assert has_arrived.wait(5)
        raise failure

    def serve(peer: Peer) -> None:
        while some := peer.read_some():
            received.append(some)
            if b"one" in some:
                has_arrived.set()

    with RawUpstream(serve) as upstream:
        with pytest.raises(http.UploadError, match="the disk is gone") as raised:
            session.post(upstream.url, content=pieces()).result()
        assert raised.value.__cause__ is failure
        assert "pieces" in [frame.name for frame in traceback.extract_tb(failure.__traceback__)]
        is_whole(session, 0)
        assert upstream.peers[0].has_ended.wait(5)
        # Half of it does not look like the whole.
        assert b"".join(received).endswith(b"one\r\n")


@pytest.mark.parametrize("run", [carboy.run, asyncio.run])
def test_the_error_of_an_async_source_is_the_cause(session: http.Session, run: Any) -> None:
    failure = GoneError("the disk is gone")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        raise failure

    async def main(url: str) -> None:
        with pytest.raises(http.UploadError) as raised:
            await session.post(url, content=pieces())
        assert raised.value.__cause__ is failure

    with answering_whole() as upstream:
        run(main(upstream.url))
        is_whole(session, 0)


def test_a_piece_that_is_none(session: http.Session) -> None:
    with answering_whole() as upstream:
        with pytest.raises(http.UploadError, match="bytes or str, not int") as raised:
            session.post(upstream.url, content=[1, 2]).result()  # type: ignore[list-item]
        assert isinstance(raised.value.__cause__, TypeError)


# Where it is made.


def test_the_source_runs_in_the_context_of_its_call(session: http.Session) -> None:
    seen = []

    def pieces() -> Iterator[bytes]:
        seen.append(caller.get())
        yield b"x"

    async def async_pieces() -> AsyncIterator[bytes]:
        seen.append(caller.get())
        yield b"x"

    async def main(url: str) -> None:
        await session.post(url, content=async_pieces())

    with answering_whole() as upstream:
        caller.set("me")
        assert session.post(upstream.url, content=pieces()).result().ok
        carboy.run(main(upstream.url))
    assert seen == ["me", "me"]


# What is left of it.


def answer_early(peer: Peer) -> None:
    received = b""
    # A generator that has not begun when the answer comes is not begun any more, and runs no
    # `finally`.
    while not received.partition(b"\r\n\r\n")[2] and not peer.has_ended.is_set():
        received += peer.read_some()
    peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("run", [carboy.run, asyncio.run])
def test_an_async_generator_is_closed_when_no_more_is_wanted(
    session: http.Session, run: Any
) -> None:
    async def main(url: str) -> None:
        closed = asyncio.Event()
        sleeps = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            try:
                yield b"one"
                # It has no more, and never will.
                await sleeps.wait()
            finally:
                closed.set()

        response = await session.post(url, content=pieces())
        assert response.status_code == 413
        await asyncio.wait_for(closed.wait(), 5)

    with RawUpstream(answer_early) as upstream:
        run(main(upstream.url))
        is_whole(session, 0)


def test_a_generator_is_closed_when_no_more_is_wanted(session: http.Session) -> None:
    closed = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    with RawUpstream(answer_early) as upstream:
        assert session.post(upstream.url, content=pieces()).result().status_code == 413
        assert closed.wait(5)
    eventually(lambda: not uploading_threads())


def test_sources_leave_nothing_behind(session: http.Session, upstream: RawUpstream) -> None:
    def sources() -> int:
        gc.collect()
        return sum(isinstance(thing, http.upload.Source) for thing in gc.get_objects())

    before = sources()
    for _ in range(20):
        session.post(upstream.url, content=io.BytesIO(b"x")).result()
        session.post(upstream.url, files={"a": io.BytesIO(b"x")}).result()
    assert sources() == before


# How often.

REPEATABLE: dict[str, Callable[[], dict[str, Any]]] = {
    "a file": lambda: {"content": io.BytesIO(b"all of it")},
    "a file in a form": lambda: {"files": {"a": io.BytesIO(b"all of it")}},
    "a list": lambda: {"content": [b"all ", b"of it"]},
}


@pytest.mark.parametrize("kind", REPEATABLE)
def test_what_can_be_made_again_goes_along_with_redirects(session: http.Session, kind: str) -> None:
    options = REPEATABLE[kind]()
    with answering_whole(ELSEWHERE) as upstream:
        assert session.post(upstream.url, **options).result().text == "fine"
        first, second = upstream.requests
        assert second.startswith(b"POST /there ")
        assert content_of(first) == content_of(second)
        assert b"of it" in content_of(first)


@pytest.mark.parametrize("kind", REPEATABLE)
def test_what_can_be_made_again_is_retried(session: http.Session, kind: str) -> None:
    options = REPEATABLE[kind]()
    with answering_whole(BUSY, BUSY) as upstream:
        again = http.Retries(2, backoff=0.01)
        assert session.put(upstream.url, retries=again, **options).result().text == "fine"
        assert len({content_of(request) for request in upstream.requests}) == 1
        assert len(upstream.requests) == 3
        is_whole(session, 1)


def test_a_file_is_sent_again_from_where_it_was(session: http.Session) -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    with answering_whole(ELSEWHERE) as upstream:
        assert session.post(upstream.url, content=file).result().text == "fine"
        assert [content_of(request) for request in upstream.requests] == [b"456789"] * 2
    assert not file.closed


def test_a_redirect_before_all_was_sent(session: http.Session) -> None:
    """The first sending is broken off, and does not take from the second."""
    size = 8 * 1024 * 1024
    content = os.urandom(size)

    def serve(peer: Peer) -> None:
        if peer.number == 1:
            peer.read_some()
            peer.send(ELSEWHERE)
            peer.wait_for_end()
            return
        upstream.requests.append(peer.read_request())
        peer.send(ok())

    with RawUpstream(serve) as upstream:
        assert session.post(upstream.url, content=io.BytesIO(content)).result().text == "fine"
        assert content_of(upstream.requests[0]) == content
        is_whole(session, 0)
    eventually(lambda: not uploading_threads())


def test_digest_authentication_with_a_file(session: http.Session) -> None:
    challenge = (
        b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm="r", nonce="n", qop="auth"'
        b"\r\nContent-Length: 0\r\n\r\n"
    )
    with answering_whole(challenge) as upstream:
        auth = http.DigestAuth("user", "password")
        response = session.post(upstream.url, content=io.BytesIO(b"file"), auth=auth).result()
        assert response.ok
        assert [content_of(request) for request in upstream.requests] == [b"file"] * 2
        assert b"Authorization: Digest " in upstream.requests[1]


def test_an_async_iterable_is_made_again(session: http.Session) -> None:
    class Pieces:
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in (b"one", b"two"):
                yield piece

    async def main(url: str) -> None:
        response = await session.post(url, content=Pieces())
        assert response.text == "fine"

    with answering_whole(ELSEWHERE) as upstream:
        carboy.run(main(upstream.url))
        assert content_of(upstream.requests[0]) == content_of(upstream.requests[1])


def test_what_can_be_made_once_is_not_made_again(session: http.Session) -> None:
    with (
        answering_whole(ELSEWHERE) as upstream,
        pytest.raises(http.LocalProtocolError, match="a stream that was sent already"),
    ):
        session.post(upstream.url, content=iter([b"once"])).result()


# How long it is.


def test_the_caller_may_know_the_size(session: http.Session, upstream: RawUpstream) -> None:
    size = {"Content-Length": "5"}
    assert session.post(upstream.url, content=iter([b"abc", b"de"]), headers=size).result().ok
    assert b"Content-Length: 5\r\n" in upstream.requests[0]
    assert b"Transfer-Encoding" not in upstream.requests[0]
    assert content_of(upstream.requests[0]) == b"abcde"
    for content in ([b"abc"], [b"abc", b"def"]):
        with pytest.raises(http.UploadError, match="than its Content-Length"):
            session.post(upstream.url, content=content, headers=size).result()
    with pytest.raises(ValueError, match="Content-Length is to be a number"):
        session.post(upstream.url, content=[b"abc"], headers={"Content-Length": "many"})


def test_a_file_that_was_read_beyond_its_end(session: http.Session, upstream: RawUpstream) -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(100)
    assert session.post(upstream.url, content=file).result().ok
    assert content_of(upstream.requests[0]) == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_no_content_has_a_length(session: http.Session, upstream: RawUpstream, method: str) -> None:
    """RFC 9110 section 8.6: servers may insist on it with 411."""
    session.request(method, upstream.url).result()
    session.request(method, upstream.url, content=b"").result()
    for request in upstream.requests:
        assert request.count(b"Content-Length: 0\r\n") == 1
    upstream.requests.clear()
    session.get(upstream.url).result()
    session.delete(upstream.url).result()
    for request in upstream.requests:
        assert b"Content-Length" not in request


# Forms.


def part_of(session: http.Session, upstream: RawUpstream, **options: Any) -> str:
    upstream.requests.clear()
    session.post(upstream.url, **options).result()
    lines = content_of(upstream.requests[0]).decode(errors="surrogateescape").split("\r\n")
    return "\n".join(lines[1:-2])


def test_the_parts_of_a_form(session: http.Session, upstream: RawUpstream) -> None:
    def part(**options: Any) -> str:
        return part_of(session, upstream, **options)

    octets = "\nContent-Type: application/octet-stream\n\n"
    disposition = 'Content-Disposition: form-data; name="a"; filename='
    for content in (b"x", "x", bytearray(b"x"), memoryview(b"x"), io.BytesIO(b"x")):
        assert part(files={"a": content}) == f'{disposition}"a"{octets}x'
    assert part(files={"a": (b"name\xff", b"x")}) == f'{disposition}"name\udcff"{octets}x'
    assert part(files={1: b"x"}).startswith(
        'Content-Disposition: form-data; name="1"; filename="1"'
    )
    # A type among the headers is the type.
    own = ("n", b"x", None, {"content-type": "a/b"})
    assert part(files={"a": own}) == f'{disposition}"n"\ncontent-type: a/b\n\nx'
    # What Flask has received goes on under its name and with its type.
    received = FileStorage(io.BytesIO(b"x"), "cat.png", name="field", content_type="image/png")
    assert part(files={"a": received}) == f'{disposition}"cat.png"\nContent-Type: image/png\n\nx'
    fields = part(data={"yes": True, "none": None}, files={"a": b"x"})
    assert fields.startswith('Content-Disposition: form-data; name="yes"\n\ntrue\n')
    assert "none" not in fields
    # As in a form without files.
    session.post(upstream.url, data={"yes": True}).result()
    assert upstream.requests[-1].endswith(b"yes=true")


def test_files_that_are_none(session: http.Session) -> None:
    for file in ((), ("n",), ("n", b"x", "t/t", {}, 1)):
        with pytest.raises(ValueError, match=f"a tuple of .* not of {len(file)} things"):
            session.post("http://127.0.0.1:1/", files={"a": file})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="not NoneType"):
        session.post("http://127.0.0.1:1/", files={"a": ("n", None)})  # type: ignore[dict-item]
