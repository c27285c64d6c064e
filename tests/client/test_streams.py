"""Content that comes and goes piece by piece, at the pace of the slower side."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import TYPE_CHECKING

import pytest
from support.pool import is_whole
from support.raw_upstream import Peer, RawUpstream, ok
from support.waiting import eventually

import carboy
from carboy import http
from carboy.http.content import LineSplitter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MB = 1024 * 1024


@pytest.fixture
def session() -> Iterator[http.Session]:
    with http.Session(trust_env=False, timeout=http.Timeout(write=8, read=8)) as session:
        yield session


def chunked(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + chunks + b"0\r\n\r\n"


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


# Lines and events.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a\n",
        "a\r\nb",
        "a\rb\r",
        "\r\n\r\n",
        "one\n\ntwo\x0bthree\x1cfour\x85five\u2028six",
        "ä\u2029ö\r",
        "long " * 1000 + "\nshort\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_lines_are_those_of_splitlines_however_they_come(text: str, size: int) -> None:
    encoded = text.encode()
    lines = LineSplitter("utf-8")
    found = []
    for start in range(0, len(encoded), size):
        found += lines.feed(encoded[start : start + size])
    assert found + lines.end() == text.splitlines()


def test_lines_come_as_soon_as_they_are_whole() -> None:
    lines = LineSplitter("utf-8")
    assert lines.feed(b"a\nb") == ["a"]
    assert lines.feed(b"c\r") == []
    assert lines.feed(b"\nd") == ["bc"]
    assert lines.end() == ["d"]


def test_a_line_of_many_pieces_is_not_copied_again_and_again() -> None:
    lines = LineSplitter("ascii")
    # 64 MB in pieces of 64 KB: with a copy for each piece this takes minutes.
    for _ in range(1024):
        assert lines.feed(b"x" * 65536) == []
    (line,) = lines.feed(b"\n")
    assert len(line) == 64 * MB


def test_text_in_another_encoding(session: http.Session) -> None:
    content = "Straße\nßß".encode("latin-1")
    with RawUpstream.answering(
        ok(content, "Content-Type: text/plain; charset=iso-8859-1")
    ) as upstream:
        assert session.get(upstream.url).result().text == "Straße\nßß"
        with session.stream("GET", upstream.url) as response:
            assert list(response.iter_lines()) == ["Straße", "ßß"]


EVENTS = (
    b": a comment\nid: 1\nevent: begin\ndata: one\ndata: two\n\n"
    b'retry: 1500\ndata\n\nid\ndata: {"a": 1}\r\n\r\ndata: not whole'
)


def test_events_in_sync_code(session: http.Session) -> None:
    # Byte by byte.
    pieces = [EVENTS[index : index + 1] for index in range(len(EVENTS))]
    with (
        RawUpstream.answering(chunked(*pieces)) as upstream,
        session.stream("GET", upstream.url) as response,
    ):
        events = list(response.iter_sse())
    assert [(event.event, event.data, event.id) for event in events] == [
        ("begin", "one\ntwo", "1"),
        ("message", "", "1"),
        ("message", '{"a": 1}', ""),
    ]
    assert events[1].retry_ms == 1500
    assert events[2].json() == {"a": 1}


def test_events_come_while_the_stream_goes_on(session: http.Session) -> None:
    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        seen.wait(8)
        peer.send(b"data: 2\n\n")

    seen = threading.Event()

    async def main(url: str) -> list[str]:
        found = []
        async with session.stream("GET", url) as response:
            async for event in response.aiter_sse():
                found.append(event.data)
                seen.set()
        return found

    with RawUpstream(serve) as upstream:
        assert carboy.run(asyncio.wait_for(main(upstream.url), 8)) == ["1", "2"]


# Downloads.


@pytest.mark.parametrize("run", [carboy.run, asyncio.run])
def test_a_slow_reader_slows_the_server(session: http.Session, run: object) -> None:
    sent = 0
    total = 64 * MB

    def serve(peer: Peer) -> None:
        nonlocal sent
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            peer.socket.sendall(b"x" * 65536)
            sent += 65536

    async def main(url: str) -> None:
        async with session.stream("GET", url) as response:
            iterator = response.aiter_bytes()
            size = len(await anext(iterator))
            # The server fills the buffers of both systems, and then waits.
            last = -1
            while sent != last:
                last = sent
                await asyncio.sleep(0.1)
            assert sent < total / 2
            before = resident_bytes()
            async for piece in iterator:
                size += len(piece)
            assert size == total
            assert resident_bytes() - before < 16 * MB

    with RawUpstream(serve) as upstream:
        run(main(upstream.url))  # type: ignore[operator]
        is_whole(session)


def test_a_large_download_in_sync_code_takes_little_memory(session: http.Session) -> None:
    total = 64 * MB

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // MB):
            peer.socket.sendall(bytes(MB))

    with RawUpstream(serve) as upstream, session.stream("GET", upstream.url) as response:
        before = resident_bytes()
        largest = size = 0
        for piece in response.iter_bytes(65536):
            size += len(piece)
            largest = max(largest, resident_bytes())
        assert size == total
        assert largest - before < 16 * MB


def test_streams_are_read_once(session: http.Session) -> None:
    with RawUpstream.answering(ok(b"once")) as upstream:
        with session.stream("GET", upstream.url) as response:
            assert response.read() == b"once"
            assert response.content == b"once"
            assert response.json is not None
        with session.stream("GET", upstream.url) as response:
            for size in (0, -1):
                with pytest.raises(ValueError, match=f"chunk_size={size}: pieces have 1 byte"):
                    list(response.iter_bytes(size))
            assert list(response.iter_bytes(3)) == [b"onc", b"e"]
            with pytest.raises(http.StreamConsumed):
                list(response.iter_bytes())
        assert response.is_closed
        is_whole(session, 1)


def test_a_stream_that_breaks_off(session: http.Session) -> None:
    with RawUpstream.answering_once(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    ) as upstream:
        with (
            session.stream("GET", upstream.url) as response,
            pytest.raises(http.RemoteProtocolError),
        ):
            response.read()
        is_whole(session, 0)


# Uploads.


def reads_slowly(go_on: threading.Event, received: list[int]) -> RawUpstream:
    """An upstream that takes the head, waits, and then takes the rest."""

    def serve(peer: Peer) -> None:
        while b"\r\n\r\n" not in peer.socket.recv(1):
            if peer.socket.recv(1024):
                break
        go_on.wait(8)
        size = 0
        while piece := peer.socket.recv(MB):
            size += len(piece)
            if piece.endswith(b"0\r\n\r\n"):
                break
        received.append(size)
        peer.send(ok())

    return RawUpstream(serve)


def test_a_slow_server_slows_the_upload(session: http.Session) -> None:
    made = 0
    go_on, received = threading.Event(), [0][:0]

    def pieces() -> Iterator[bytes]:
        nonlocal made
        for _ in range(1024):
            made += 1
            yield bytes(65536)

    with reads_slowly(go_on, received) as upstream:
        before = resident_bytes()
        promise = session.post(upstream.url, content=pieces())
        last = -1
        while made != last:
            last = made
            threading.Event().wait(0.1)
        assert made < 512, "a part is in the buffers of both systems, the rest is not made yet"
        go_on.set()
        assert promise.result().ok
        assert made == 1024
        assert received[0] > 64 * MB - 65536
        assert resident_bytes() - before < 32 * MB


def test_an_async_upload_waits_too(session: http.Session) -> None:
    made = 0
    go_on, received = threading.Event(), [0][:0]

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(1024):
            made += 1
            yield bytes(65536)

    async def main(url: str) -> None:
        promise = session.post(url, content=pieces())
        last = -1
        while made != last:
            last = made
            await asyncio.sleep(0.1)
        assert made < 512
        go_on.set()
        assert (await promise).ok
        assert made == 1024

    with reads_slowly(go_on, received) as upstream:
        carboy.run(asyncio.wait_for(main(upstream.url), 10))
    assert received[0] > 64 * MB - 65536


def test_files_are_sent_with_their_length(session: http.Session) -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(3)
    with RawUpstream.answering(ok()) as upstream:
        assert session.post(upstream.url, content=file).result().ok
        request = upstream.requests[0].lower()
        assert b"content-length: 7\r\n" in request
        assert request.endswith(b"\r\n\r\n3456789")
        assert not file.closed, "a file is closed by who has opened it"


def test_a_form_with_a_large_file(session: http.Session) -> None:
    with RawUpstream.answering(ok()) as upstream:
        file = io.BytesIO(b"y" * 5 * MB)
        files = {"file": ('na"me.bin', file, "application/x-own", {"X-Part": "1"})}
        response = session.post(upstream.url, data={"ä": ["1", "2"]}, files=files).result()
        assert response.ok
        head, _, body = upstream.requests[0].partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head.lower()
        boundary = head.partition(b"boundary=")[2].split(b"\r\n")[0]
        parts = body.split(b"--" + boundary)
        assert len(parts) == 5
        assert parts[-1] == b"--\r\n"
        assert parts[1] == b'\r\nContent-Disposition: form-data; name="\xc3\xa4"\r\n\r\n1\r\n'
        part_head, _, content = parts[3].partition(b"\r\n\r\n")
        assert b'filename="na%22me.bin"' in part_head
        assert b"Content-Type: application/x-own" in part_head
        assert b"X-Part: 1" in part_head
        assert content == b"y" * 5 * MB + b"\r\n"


def test_threads_of_uploads_end(session: http.Session) -> None:
    with RawUpstream.answering(ok()) as upstream:
        for _ in range(5):
            session.post(upstream.url, content=iter([b"a"])).result()
    eventually(
        lambda: not [one for one in threading.enumerate() if one.name == "carboy-upload"],
        what="the threads of uploads have ended",
    )


@pytest.mark.parametrize(
    "charset", ["base64", "hex", "idna", "punycode", "undefined", "rot13", "zlib", "x" * 1000, "\\"]
)
def test_what_is_no_encoding_of_text_is_not_believed(session: http.Session, charset: str) -> None:
    content = "Straße\n".encode() + b"\xff\n"
    head = f"Content-Type: text/plain; charset={charset}"
    with RawUpstream.answering(ok(content, head)) as upstream:
        assert session.get(upstream.url).result().text == "Straße\n\ufffd\n"
        with session.stream("GET", upstream.url) as response:
            assert list(response.iter_lines()) == ["Straße", "\ufffd"]


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
def test_lines_of_wide_characters_without_a_mark(session: http.Session, charset: str) -> None:
    content = "ä\nö".encode(f"{charset}-le")
    head = f"Content-Type: text/plain; charset={charset}"
    pieces = [content[index : index + 1] for index in range(len(content))]
    whole = chunked(*pieces).replace(b"200 OK\r\n", f"200 OK\r\n{head}\r\n".encode())
    with RawUpstream.answering(whole) as upstream:
        assert session.get(upstream.url).result().text == "ä\nö"
        with session.stream("GET", upstream.url) as response:
            assert list(response.iter_lines()) == ["ä", "ö"]
