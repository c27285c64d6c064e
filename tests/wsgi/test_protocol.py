"""PEP 3333 for any WSGI callable: start_response, write, iteration, close, errors."""

import io
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest
from support.live import Live
from support.waiting import eventually
from werkzeug.datastructures import Headers

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]

TEXT = [("Content-Type", "text/plain")]


def hello(environ: Environ, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [*TEXT, ("Content-Length", str(5 + len(body)))])
    return [b"hello" + body]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
def test_the_servers_side_is_valid(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with Live(validator(hello)) as live, live.connect() as connection:
        body = b"+body" if method == "POST" else b""
        answer = connection.request(method, "/path?query=1", [("X-Header", "1")], body)
        assert live.paths_taken() == {"not_flask": 1}

    assert (answer.status, answer.body) == (200, b"" if method == "HEAD" else b"hello" + body)
    assert not caplog.records


class Body:
    """A body that records what the server does with it."""

    def __init__(self, *parts: Any) -> None:
        self.parts = list(parts)
        self.closed = 0
        self.threads = {threading.get_ident()}

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            self.threads.add(threading.get_ident())
            if isinstance(part, Exception):
                raise part
            if callable(part):
                part = part()
            yield part

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


def respond(body: Any, headers: list[tuple[str, str]] = TEXT, status: str = "200 OK") -> Any:
    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response(status, headers)
        return body

    return application


@pytest.mark.parametrize(
    ("body", "expected", "length"),
    [
        ([], b"", "0"),
        ([b""], b"", "0"),
        ([b"one"], b"one", "3"),
        ((b"one",), b"one", "3"),
        ([b"one", b"", b"two"], b"onetwo", None),
        (iter([b"one", b"two"]), b"onetwo", None),
        ({b"key": 1}, b"key", None),
    ],
    ids=repr,
)
def test_any_iterable_of_bytes_is_a_body(body: Any, expected: bytes, length: str | None) -> None:
    with Live(respond(body)) as live:
        answer = live.get()

    assert (answer.body, answer.header("content-length")) == (expected, length)
    assert answer.is_complete


def test_close_is_called_once_on_the_thread_of_the_request() -> None:
    body = Body(b"one", b"two")
    with Live(respond(body)) as live:
        assert live.get().body == b"onetwo"

    assert body.closed == 1
    assert len(body.threads - {threading.get_ident()}) == 1


def test_close_is_called_once_for_head_too() -> None:
    body = Body(b"one")
    with Live(respond(body)) as live, live.connect() as connection:
        assert connection.request("HEAD", "/").status == 200

    assert body.closed == 1


def test_close_is_called_once_when_the_body_fails(caplog: pytest.LogCaptureFixture) -> None:
    body = Body(ValueError("at once"))
    with Live(respond(body)) as live:
        answer = live.get()

    assert (answer.status, body.closed) == (500, 1)
    assert "at once" in str(caplog.records[0].exc_info)


def test_close_is_called_once_when_the_client_goes() -> None:
    go_on = threading.Event()

    def wait() -> bytes:
        assert go_on.wait(5)
        return b"x" * 100_000

    body = Body(b"first", wait, *[b"x" * 100_000] * 100)
    with Live(respond(body)) as live:
        with live.connect() as connection:
            connection.begin("GET", "/")
            assert connection.read_chunk_after_head() == b"first"
        go_on.set()
        eventually(lambda: body.closed)

    assert body.closed == 1


def test_a_close_that_fails_after_the_body_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Body):
        def close(self) -> None:
            raise ValueError("in close")

    with Live(respond(Failing(b"all"), [("Content-Length", "3")])) as live:
        assert live.get().body == b"all"

    assert "in close" in str(caplog.records[0].exc_info)


def test_parts_are_sent_as_they_are_made() -> None:
    go_on = threading.Event()

    def second() -> bytes:
        assert go_on.wait(5)
        return b"second"

    with Live(respond(Body(b"first", second))) as live, live.connect() as connection:
        connection.begin("GET", "/")
        assert connection.read_chunk_after_head() == b"first"
        go_on.set()
        assert connection.read_chunk() == b"second"


def test_write_sends_before_the_iterable() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"three"]

    with Live(application) as live:
        assert live.get().body == b"one two three"


def test_write_to_a_client_that_has_gone_raises_and_ends_the_application() -> None:
    arrived = threading.Event()
    gone = threading.Event()
    raised: list[str] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"first")
        arrived.set()
        assert gone.wait(5)
        try:
            for _ in range(10_000):
                write(b"x" * 65536)
        except ConnectionError as error:
            raised.append(str(error))
            raise
        return []

    with Live(application) as live:
        with live.connect() as connection:
            connection.begin("GET", "/")
            assert arrived.wait(5)
        gone.set()
        eventually(lambda: raised)


def test_start_response_with_exc_info_replaces_a_head_that_was_not_sent() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("X-First", "1")])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("503 Busy", TEXT, sys.exc_info())
        return [b"busy"]

    with Live(application) as live:
        answer = live.get()

    assert (answer.status, answer.reason, answer.header("x-first")) == (503, "Busy", None)


def test_exc_info_may_be_named() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT, exc_info=None)  # type: ignore[call-arg]
        try:
            raise ValueError("before the body")
        except ValueError:
            start_response(status="503 Busy", headers=TEXT, exc_info=sys.exc_info())  # type: ignore[call-arg]
        return [b"replaced"]

    with Live(application) as live:
        assert (live.get().status, live.get().body) == (503, b"replaced")


@pytest.mark.parametrize("kind", [list, tuple, iter, Headers])
def test_headers_are_any_iterable_of_pairs(kind: Callable[[Any], Any]) -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", kind([*TEXT, ("X-Two", "1"), ("X-Two", "2")]))
        return [b"text"]

    with Live(application) as live:
        answer = live.get()

    assert answer.header_list("x-two") == ["1", "2"]
    assert answer.header("content-type") == "text/plain"


def test_start_response_with_exc_info_raises_it_when_the_head_is_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"sent"
        assert first_arrived.wait(5)
        try:
            raise ValueError("too late")
        except ValueError:
            start_response("500 Error", TEXT, sys.exc_info())
        yield b"never"

    first_arrived = threading.Event()
    with Live(application) as live, live.connect() as connection:
        connection.begin("GET", "/")
        assert connection.read_chunk_after_head() == b"sent"
        first_arrived.set()
        with pytest.raises(ConnectionError):
            connection.read_chunk()

    assert "too late" in str(caplog.records[0].exc_info)


def test_a_generator_may_call_start_response_at_its_first_step() -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", TEXT)
        yield b"late"

    with Live(application) as live:
        answer = live.get()

    assert (answer.status, answer.body) == (201, b"late")


def twice(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"never"]


def never_started(environ: Environ, start_response: StartResponse) -> list[bytes]:
    return [b"never"]


def empty_and_never_started(environ: Environ, start_response: StartResponse) -> list[bytes]:
    return []


def written_before_start(environ: Environ, start_response: StartResponse) -> list[bytes]:
    write = start_response.write  # type: ignore[attr-defined]
    write(b"never")
    return []


def raising(environ: Environ, start_response: StartResponse) -> list[bytes]:
    raise ValueError("in the application")


MISTAKES: dict[str, Any] = {
    "start_response twice": twice,
    "no start_response": never_started,
    "no start_response, no body": empty_and_never_started,
    "write before start_response": written_before_start,
    "an exception": raising,
    "str in the body": respond(["text"]),
    "None as the body": respond(None),
    "int in the body": respond([1]),
    "str as the body": respond("text"),
    "bytes as the body": respond(b"text"),
    "bytes as the status": respond([b""], status=b"200 OK"),  # type: ignore[arg-type]
    "int as the status": respond([b""], status=200),  # type: ignore[arg-type]
    "a status of letters": respond([b""], status="hello"),
    "a status of two digits": respond([b""], status="20 Few"),
    "a line break in the status": respond([b""], status="200 OK\r\nX-Bad: 1"),
    "bytes as a name": respond([b""], headers=[(b"A", "b")]),  # type: ignore[list-item]
    "bytes as a value": respond([b""], headers=[("A", b"b")]),  # type: ignore[list-item]
    "a header of three": respond([b""], headers=[("A", "b", "c")]),  # type: ignore[list-item]
    "a line break in a value": respond([b""], headers=[("A", "b\r\nSet-Cookie: c=d")]),
    "a line feed in a value": respond([b""], headers=[("A", "b\nc")]),
    "a carriage return in a value": respond([b""], headers=[("A", "b\rc")]),
    "a zero in a value": respond([b""], headers=[("A", "b\x00c")]),
    "a line break in a name": respond([b""], headers=[("A\r\nB", "c")]),
    "a colon in a name": respond([b""], headers=[("A:", "c")]),
    "an empty name": respond([b""], headers=[("", "c")]),
    "a value outside of latin-1": respond([b""], headers=[("A", "\u20ac")]),
    "a reason outside of latin-1": respond([b""], status="200 \u20ac"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_application_is_a_500_and_a_log_entry(
    mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Live(MISTAKES[mistake]) as live, live.connect() as connection:
        answer = connection.request("GET", "/where?q=1")
        assert (answer.status, answer.reason) == (500, "Internal Server Error")
        assert "never" not in answer.text
        assert answer.header("set-cookie") is None
        assert connection.request("GET", "/again").status == 500, "the connection is in order"

    # The workers of the two requests may log in any order.
    assert sorted(record.getMessage() for record in caplog.records) == [
        "Exception while serving GET '/again'",
        "Exception while serving GET '/where'",
    ]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("200 OK", "OK"),
        ("200 Fine", "Fine"),
        ("418 I'M A TEAPOT", "I'M A TEAPOT"),
        ("299 caf\xe9", "caf\xe9"),
        ("799 Strange", "Strange"),
        ("404 NOT FOUND", "NOT FOUND"),
    ],
)
def test_the_reason_phrase_is_the_applications(status: str, reason: str) -> None:
    with Live(respond([b"x"], status=status)) as live:
        answer = live.get()

    assert (f"{answer.status}", answer.reason) == (status[:3], reason)


def test_headers_keep_their_order_and_repetition() -> None:
    headers = [("X-B", "1"), ("X-A", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    with Live(respond([b"x"], headers)) as live:
        answer = live.get()

    names = [name.lower() for name, _ in answer.headers if name.lower().startswith(("x-", "set"))]
    assert names == ["x-b", "x-a", "set-cookie", "set-cookie"]
    assert answer.header_list("set-cookie") == ["a=1", "b=2"]


def test_framing_is_the_servers() -> None:
    headers = [("Transfer-Encoding", "chunked"), ("Connection", "close"), ("X-A", "1")]
    with Live(respond(iter([b"one", b"two"]), headers)) as live:
        answer = live.get()

    assert answer.body == b"onetwo"
    assert answer.header_list("transfer-encoding") in (["chunked"], [])


@pytest.mark.parametrize("parts", [[b"12345"], [b"123", b"45"], [b"", b"12345", b""]])
def test_a_length_that_the_application_states_is_kept(parts: list[bytes]) -> None:
    with Live(respond(iter(parts), [("Content-Length", "5")])) as live, live.connect() as c:
        assert c.request("GET", "/").body == b"12345"
        assert c.request("GET", "/").header("transfer-encoding") is None


@pytest.mark.parametrize("parts", [[b"123"], [b"123", b"45678"], [b"12345678"]])
def test_a_body_of_another_length_than_stated_never_looks_whole(parts: list[bytes]) -> None:
    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [("Content-Length", "5")])
        # Each request has parts of its own: of a body without any, not even the head is certain.
        return iter(parts)

    with Live(application) as live, live.connect() as c:
        c.send(
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        try:
            answer = c.read_response()
        except ConnectionError:
            return
        if answer.status == 200 and answer.is_complete:
            # Too much: what is beyond the length must not run into the next answer.
            assert sum(map(len, parts)) > 5
            assert answer.body == b"".join(parts)[:5]
            answer = c.read_response()
            assert (answer.status, answer.body) == (200, b"".join(parts)[:5])
        else:
            assert answer.status == 500 or not answer.is_complete


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body_send_none(status: str) -> None:
    with Live(respond([b"body"], status=status)) as live, live.connect() as connection:
        first = connection.request("GET", "/")
        second = connection.request("GET", "/")

    assert (first.body, second.status) == (b"", int(status[:3]))


def test_errors_of_the_application_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environ["wsgi.errors"].write("to the errors\n")
        environ["wsgi.errors"].writelines(["more\n"])
        environ["wsgi.errors"].flush()
        start_response("200 OK", TEXT)
        return [b""]

    with Live(application) as live:
        live.get()

    assert "to the errors\nmore\n" in capfd.readouterr().err


def test_the_file_wrapper_sends_a_file_and_closes_it() -> None:
    file = io.BytesIO(b"0123456789" * 10_000)

    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](file, 4096)

    with Live(application) as live:
        assert live.get().body == b"0123456789" * 10_000

    assert file.closed
