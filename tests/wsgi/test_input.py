"""`wsgi.input`: reading, line by line, by size, while it arrives, and when it breaks off."""

import asyncio
import contextlib
import hashlib
import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask, request
from support.live import Live
from support.raw_http import Connection
from support.waiting import eventually
from werkzeug.exceptions import ClientDisconnected

BODY = b"first line\nsecond\n\nlast without an end"

READERS: dict[str, Callable[[Any], Any]] = {
    "read": lambda file: file.read(),
    "read of -1": lambda file: file.read(-1),
    "read of 0": lambda file: (file.read(0), file.read()),
    "reads of 7": lambda file: [file.read(7) for _ in range(8)],
    "read of too much": lambda file: (file.read(10_000), file.read(1)),
    "readline": lambda file: [file.readline() for _ in range(6)],
    "readline of sizes": lambda file: [file.readline(size) for size in (3, 100, 0, 2, 100)],
    "readlines": lambda file: file.readlines(),
    "readlines with a hint": lambda file: (file.readlines(12), file.readlines()),
    "iteration": list,
    "mixed": lambda file: (file.read(2), file.readline(), next(iter(file)), file.read()),
    "wrapped": lambda file: io.BufferedReader(RawReader(file)).read(),
}


class RawReader(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.file.readinto(buffer)


def reading(reader: Callable[[Any], Any], results: list[Any]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        results.append(reader(environ["wsgi.input"]))
        start_response("200 OK", [])
        return [b"read"]

    return application


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("arrival", ["at once", "chunked", "in pieces"])
@pytest.mark.parametrize("way", [way for way in READERS if way != "wrapped"])
def test_a_body_reads_as_a_file(way: str, arrival: str) -> None:
    results: list[Any] = []
    expected = READERS[way](io.BytesIO(BODY))

    with Live(reading(READERS[way], results)) as live, live.connect() as connection:
        if arrival == "at once":
            head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)
            connection.send(head + BODY)
        else:
            head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            content = chunks(*[BODY[i : i + 5] for i in range(0, len(BODY), 5)])
            if arrival == "chunked":
                connection.send(head + content)
            else:
                # A small body that is declared would be waited for before the worker starts.
                connection.send(head + content[:8])
                eventually(lambda: live.statistics()["worker_threads"] > 0)
                connection.send(content[8:20])
                connection.send(content[20:])
        assert connection.read_response().body == b"read"

    assert results == [expected]


def test_readinto_fills_a_buffer() -> None:
    results: list[Any] = []
    with Live(reading(READERS["wrapped"], results)) as live:
        live.post("/", BODY)

    assert results == [BODY]


def test_readinto_leaves_no_object_behind() -> None:
    times = 200

    def blocks_left(file: Any) -> int:
        buffer = bytearray(1000)
        for _ in range(20):
            assert file.readinto(buffer) == 1000
        before = sys.getallocatedblocks()
        for _ in range(times):
            assert file.readinto(buffer) == 1000
        return sys.getallocatedblocks() - before

    results: list[Any] = []
    with Live(reading(blocks_left, results)) as live:
        live.post("/", b"x" * (1000 * (times + 20)))

    # Other threads make some objects meanwhile, but not one for each read.
    assert results[0] < times / 2


def test_trailers_do_not_become_headers() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body + b" " + environ.get("HTTP_X_TRAILER", "none").encode()]

    with Live(application) as live, live.connect() as connection:
        connection.send(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Trailer: X-Trailer\r\n\r\n4\r\nbody\r\n0\r\nX-Trailer: forged\r\n\r\n"
        )
        assert connection.read_response().body == b"body none"


def collecting_app(colour: str, read: Callable[[], Any], results: list[Any]) -> Flask:
    app = Flask(__name__)

    def run() -> str:
        try:
            results.append(read())
        except BaseException as error:
            results.append(error)
            raise
        return "read"

    async def async_view() -> str:
        await asyncio.sleep(0)
        return run()

    def sync_view() -> str:
        return run()

    view = async_view if colour == "async" else sync_view
    app.add_url_rule("/", "view", view, methods=["POST"])
    return app


READS: dict[str, Callable[[], Any]] = {
    "get_data": lambda: request.get_data(),
    "form": lambda: request.form.to_dict(),
    "json": lambda: request.get_json(force=True),
    "stream": lambda: request.stream.read(),
    "read by size": lambda: [request.stream.read(10) for _ in range(1000)],
    "lines": lambda: list(request.stream),
}


@pytest.mark.parametrize("length", [100, 2_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "bad chunk"])
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one(
    colour: str, read: str, framing: str, length: int
) -> None:
    if length > 100 and read == "read by size":
        pytest.skip("slow, and no other path")
    results: list[Any] = []
    app = collecting_app(colour, READS[read], results)

    with Live(app) as live, live.connect() as connection:
        head = (
            b"POST / HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n"
        )
        part = b"a=" + b"1" * (length // 2)
        if framing == "length":
            connection.send(head + b"Content-Length: %d\r\n\r\n" % length + part)
        else:
            connection.send(
                head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(part), part)
            )
            if framing == "bad chunk":
                connection.send(b"nonsense\r\n")
        if framing == "bad chunk":
            answer = connection.read_response()
            assert answer.status in (400, 500), answer
        else:
            connection.socket.shutdown(1)
            with contextlib.suppress(ConnectionError):
                assert connection.read_response().status == 400

    assert all(isinstance(result, ClientDisconnected) for result in results), results


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_of_50_mb_arrives_whole(framing: str, colour: str) -> None:
    block = bytes(range(256)) * 4096
    count = 50
    expected = hashlib.sha256(block * count).hexdigest()
    results: list[Any] = []

    def read() -> tuple[int, str]:
        digest = hashlib.sha256()
        size = 0
        while part := request.stream.read(65536):
            digest.update(part)
            size += len(part)
        return size, digest.hexdigest()

    app = collecting_app(colour, read, results)
    with Live(app) as live, live.connect() as connection:
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
        if framing == "length":
            connection.send(head + b"Content-Length: %d\r\n\r\n" % (len(block) * count))
        else:
            connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(count):
            if framing == "length":
                connection.send(block)
            else:
                connection.send(b"%x\r\n%s\r\n" % (len(block), block))
        if framing == "chunked":
            connection.send(b"0\r\n\r\n")
        assert connection.read_response().text == "read"

    assert results == [(len(block) * count, expected)]


def test_an_upload_that_nobody_reads_is_held_back() -> None:
    """The server takes some of it; the rest waits at the client, not in memory."""
    go_on = threading.Event()
    app = Flask(__name__)

    @app.post("/")
    def view() -> str:
        assert go_on.wait(10)
        return str(len(request.get_data()))

    size = 40_000_000
    with Live(app) as live, live.connect() as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
        connection.socket.setblocking(False)
        sent = fill(connection, size)
        assert sent < size
        go_on.set()
        connection.socket.settimeout(10)
        connection.send(b"x" * (size - sent))
        assert connection.read_response().text == str(size)


def fill(connection: Connection, size: int) -> int:
    """Send until the connection takes no more for a while, and say how much it took."""
    sent = 0
    block = b"x" * 1_000_000
    quiet = threading.Event()
    while sent < size:
        try:
            sent += connection.socket.send(block[: size - sent])
        except BlockingIOError:
            if quiet.is_set():
                return sent
            quiet.set()
            threading.Event().wait(0.3)
        else:
            quiet.clear()
    return sent


def test_an_answer_before_the_body_is_read_ends_the_connection_in_order() -> None:
    app = Flask(__name__)

    @app.post("/")
    def view() -> tuple[str, int]:
        return "not read", 403

    with Live(app) as live, live.connect() as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n")
        connection.send(b"x" * 1000)
        answer = connection.read_response()

    assert (answer.status, answer.text) == (403, "not read")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_max_content_length_of_flask(colour: str) -> None:
    results: list[Any] = []
    app = collecting_app(colour, READS["get_data"], results)
    app.config["MAX_CONTENT_LENGTH"] = 1000

    with Live(app) as live:
        assert live.post("/", b"x" * 1000).status == 200
        assert live.post("/", b"x" * 1001).status == 413


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_the_servers_limit_of_a_body(framing: str, colour: str) -> None:
    from carboy import Limits

    results: list[Any] = []
    app = collecting_app(colour, READS["get_data"], results)

    with Live(app, limits=Limits(body_bytes=1000)) as live, live.connect() as connection:
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
        if framing == "length":
            connection.send(head + b"Content-Length: 1001\r\n\r\n")
        else:
            connection.send(
                head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(b"x" * 600, b"y" * 600)
            )
        assert connection.read_response().status == 413

    assert not any(isinstance(result, bytes) for result in results)


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test of reading may leave a thread that still waits."""
    yield
    eventually(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("carboy-worker-")]
    )


@pytest.mark.parametrize("colour", ["def", "async def", "async def behind a hook"])
def test_clients_that_are_slow_with_small_bodies_hold_no_thread(colour: str) -> None:
    app = Flask(__name__)

    if colour.startswith("async"):

        @app.post("/")
        async def async_view() -> bytes:
            return request.get_data()

    else:

        @app.post("/")
        def view() -> bytes:
            return request.get_data()

    @app.get("/")
    def other() -> str:
        return "served meanwhile"

    if colour.endswith("hook"):
        app.before_request(lambda: None)

    with Live(app, threads=2) as live, ExitStack() as stack:
        slow = [stack.enter_context(live.connect()) for _ in range(5)]
        for connection in slow:
            connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        eventually(lambda: live.statistics()["in_flight_requests"] == 5)
        assert live.get().text == "served meanwhile"
        for connection in slow:
            connection.send(b"world")
            assert connection.read_response("POST").body == b"helloworld"
