"""What servers do that they should not: each has its exception, within its time, and the pool is
whole afterwards."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from typing import TYPE_CHECKING

import brotli
import pytest
import zstandard
from support.pool import is_whole, numbers
from support.raw_upstream import Peer, RawUpstream, ok

from carboy import http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ_SECONDS = 0.3
LIMITS = http.Limits(content_bytes=8 * 1024 * 1024)
#: For what is not a matter of time.
PATIENT = http.Timeout(connect=20, read=20, write=20, pool=20, total=40)
#: For what is.
HASTY = http.Timeout(connect=20, read=READ_SECONDS, write=READ_SECONDS, pool=20, total=40)


@pytest.fixture
def session() -> Iterator[http.Session]:
    with http.Session(timeout=PATIENT, limits=LIMITS, trust_env=False) as session:
        yield session


@pytest.fixture
def hasty_session() -> Iterator[http.Session]:
    with http.Session(timeout=HASTY, limits=LIMITS, trust_env=False) as session:
        yield session


def fails(
    session: http.Session, url: str, error: type[http.HTTPError], within: float = 5
) -> http.HTTPError:
    """A call fails so, in time; nothing of it is left in the pool, and the next call is served."""
    began = time.monotonic()
    with pytest.raises(error) as raised:
        session.get(url).result()
    assert time.monotonic() - began < within
    assert type(raised.value) is error
    assert raised.value.request is not None
    assert raised.value.request.url == url
    is_whole(session)
    with RawUpstream.answering(ok()) as good:
        assert session.get(good.url, timeout=PATIENT).result().text == "fine"
    return raised.value


def test_slow_head(hasty_session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nX-Slow")
        peer.wait_for_end()

    with RawUpstream(serve) as upstream:
        error = fails(hasty_session, upstream.url, http.ReadTimeout)
        assert isinstance(error, TimeoutError)
        assert upstream.peers[0].has_ended.wait(5), "the connection was closed"


def trickle(peer: Peer, part: bytes) -> None:
    """Send the same again and again, until the client has gone."""
    while not peer.has_ended.wait(0.05):
        peer.send(part)
        peer.socket.settimeout(0.001)
        try:
            peer.wait_for_end()
        except TimeoutError:
            continue


def test_a_head_that_trickles(hasty_session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        trickle(peer, b"X: y\r\n")

    with RawUpstream(serve) as upstream:
        fails(hasty_session, upstream.url, http.ReadTimeout)


def test_slow_content(hasty_session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        peer.wait_for_end()

    with RawUpstream(serve) as upstream:
        fails(hasty_session, upstream.url, http.ReadTimeout)
        assert upstream.peers[0].has_ended.wait(5)


def test_content_that_trickles_is_bounded_by_the_whole_time() -> None:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        trickle(peer, b"x")

    limits = http.Timeout(read=20, total=0.8)
    with (
        RawUpstream(serve) as upstream,
        http.Session(timeout=limits, trust_env=False) as session,
    ):
        fails(session, upstream.url, http.TotalTimeout)


def test_a_server_that_reads_nothing(hasty_session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        released.wait(8)

    released = threading.Event()
    with RawUpstream(serve) as upstream:
        with pytest.raises(http.WriteTimeout):
            hasty_session.post(upstream.url, content=b"x" * 32 * 1024 * 1024).result()
        is_whole(hasty_session, 0)
        released.set()


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nX-Some: thing\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("answer", [CHUNKED, ok(b"abcdef")], ids=["chunked", "length"])
def test_the_end_at_every_byte(session: http.Session, answer: bytes, resets: bool) -> None:
    def serve(peer: Peer) -> None:
        request = peer.read_request()
        length = int(request.split(b" ")[1].removeprefix(b"/"))
        peer.send(answer[:length])
        if resets:
            peer.reset()

    with RawUpstream(serve) as upstream:
        for length in range(len(answer)):
            with pytest.raises((http.RemoteProtocolError, http.ReadError)) as raised:
                session.get(f"{upstream.url}/{length}").result()
            assert isinstance(raised.value, ConnectionError), length
        is_whole(session, 0)
        # A reset behind the last byte may overtake it; an orderly end does not.
        if not resets:
            assert session.get(f"{upstream.url}/{len(answer)}").result().ok


BAD_ANSWERS = {
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
    "chunk end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "huge chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "short content": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
    "no number": b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "no colon": b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "nothing": b"",
    "a long header": b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_answers_that_are_not_http(session: http.Session, answer: bytes) -> None:
    with RawUpstream.answering_once(answer) as upstream:
        fails(session, upstream.url, http.RemoteProtocolError)


def test_more_content_than_announced_is_not_the_next_answer(session: http.Session) -> None:
    smuggled = ok(b"abc") + ok(b"evil", "X-Smuggled: 1")
    with RawUpstream.answering(smuggled) as upstream:
        for _ in range(3):
            response = session.get(upstream.url).result()
            assert response.text == "abc"
            assert "x-smuggled" not in response.headers
        is_whole(session)


def test_endless_redirects(session: http.Session) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 4\r\n\r\nmore"
    with RawUpstream.answering(answer) as upstream:
        error = fails(session, upstream.url, http.TooManyRedirects)
        assert "20 redirects" in str(error)
        assert len(upstream.requests) == 21
        assert len(upstream.peers) == 1, "the connection was kept"


ZEROS = bytes(64 * 1024 * 1024)


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", lambda content: gzip.compress(content, 6)),
    "deflate": ("deflate", lambda content: zlib.compress(content, 6)),
    "bare deflate": ("deflate", raw_deflate),
    "br": ("br", lambda content: brotli.compress(content, quality=5)),
    "zstd": ("zstd", lambda content: zstandard.compress(content, 3)),
}


@pytest.mark.parametrize(("coding", "encode"), CODINGS.values(), ids=CODINGS)
def test_decompression(
    session: http.Session, coding: str, encode: Callable[[bytes], bytes]
) -> None:
    header = f"Content-Encoding: {coding}"
    text = json.dumps({"ä": list(range(5000))}).encode()
    with RawUpstream.answering(ok(encode(text), header)) as upstream:
        response = session.get(upstream.url).result()
        assert response.content == text
        assert coding in upstream.requests[0].decode().lower().partition("accept-encoding:")[2]
        # Piece by piece it is the same.
        with session.stream("GET", upstream.url) as stream:
            assert b"".join(stream.iter_bytes(7)) == text
    with RawUpstream.answering(ok(encode(ZEROS), header)) as upstream:
        fails(session, upstream.url, http.ContentTooLarge)
    # It breaks off in the middle; and it is something else.
    for broken in (encode(text)[:-9], b"\x00\xff no such coding" * 10):
        with RawUpstream.answering(ok(broken, header)) as upstream:
            error = fails(session, upstream.url, http.DecodingError)
            assert isinstance(error, ValueError)


def test_more_content_than_is_wanted(session: http.Session) -> None:
    with RawUpstream.answering(ok(bytes(9 * 1024 * 1024))) as upstream:
        fails(session, upstream.url, http.ContentTooLarge)
        # A stream has no such limit: it is not kept in memory.
        with session.stream("GET", upstream.url) as response:
            assert sum(map(len, response.iter_bytes())) == 9 * 1024 * 1024
        is_whole(session)


def test_hosts_that_are_not_there(session: http.Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert isinstance(
        fails(session, f"http://127.0.0.1:{port}/", http.ConnectError), ConnectionError
    )
    error = fails(session, "http://nowhere.invalid/", http.ResolveError)
    assert "nowhere.invalid" in str(error)
    assert isinstance(error, http.ConnectError)


def test_a_host_that_takes_no_connection(session: http.Session) -> None:
    # The queue of a listener that accepts nobody is soon full; then connecting takes for ever.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        while True:
            client = socket.socket()
            client.settimeout(0.2)
            waiting.append(client)
            try:
                client.connect(listener.getsockname())
            except TimeoutError:
                break
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        limits = http.Timeout(connect=0.3)
        with pytest.raises(http.ConnectTimeout, match=r"0\.3 s"):
            session.get(url, timeout=limits).result()
        for client in waiting:
            client.close()
    is_whole(session, 0)


def test_a_kept_connection_that_the_server_has_closed(session: http.Session) -> None:
    # Half closed: the server sends nothing more, and the client knows when it calls again.
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(ok())
        peer.socket.shutdown(socket.SHUT_WR)
        half_closed.release()
        peer.wait_for_end()

    half_closed = threading.Semaphore(0)

    with RawUpstream(serve) as upstream:
        for number in range(1, 6):
            assert session.get(upstream.url).result().text == "fine"
            assert half_closed.acquire(timeout=5)
            assert session.post(upstream.url, content=b"x").result().text == "fine"
            assert half_closed.acquire(timeout=5)
            assert len(upstream.peers) == 2 * number
        is_whole(session)
        for peer in upstream.peers:
            assert peer.has_ended.wait(5), "the client has closed its half, too"
        is_whole(session, 0)


def test_a_pool_that_is_full(session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        while peer.read_request():
            if peer.number == 1:
                answered.wait(8)
            peer.send(ok())

    answered = threading.Event()
    limits = http.Limits(connections_per_host=1)
    timeout = http.Timeout(pool=0.2)
    with (
        RawUpstream(serve) as upstream,
        http.Session(limits=limits, timeout=timeout, trust_env=False) as narrow,
    ):
        first = narrow.get(upstream.url)
        with pytest.raises(http.PoolTimeout, match="1 per host"):
            narrow.get(upstream.url).result()
        assert numbers(narrow) == (1, 0, 0)
        answered.set()
        assert first.result().ok
        is_whole(narrow, 1)
