"""One app and one request, served by plain Flask and by carboy in two ways, side by side.

``compare(build, "GET /path", path="loop")`` builds the app anew for each implementation,
sends it the same request, and compares status, headers, body, and the trace that the app
recorded. ``path`` says which way the request must have taken through carboy.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import werkzeug.test
from flask import Flask
from werkzeug.test import EnvironBuilder

from carboy._carboy import add_home_loop, remove_home_loop
from carboy.background_loop import shared_background_loop
from carboy.flask import patch
from carboy.testing import takeover
from support.live import Live, paths_taken
from support.raw_http import Connection, RawResponse

#: What belongs to a connection, not to a response.
_CONNECTION_HEADERS = {"date", "server", "connection", "transfer-encoding", "keep-alive"}

_plain_run_wsgi_app = werkzeug.test.run_wsgi_app
_plain_async_to_sync = Flask.async_to_sync


class Trace(list[Any]):
    """What an app did, in order. Calling it records."""

    def __call__(self, *event: Any) -> None:
        self.append(event[0] if len(event) == 1 else event)


@dataclass
class Request:
    """A request, independent of how it is sent."""

    method: str
    target: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @classmethod
    def parse(cls, line: str, headers: list[tuple[str, str]] | None, body: bytes) -> Request:
        """From a line ``GET /path?query``."""
        method, _, target = line.partition(" ")
        headers = list(headers or [])
        if not any(name.lower() == "host" for name, _ in headers):
            headers.insert(0, ("Host", "localhost"))
        return cls(method, target, headers, body)

    def environ(self) -> dict[str, Any]:
        """As a WSGI environ."""
        host = next(value for name, value in self.headers if name.lower() == "host")
        path, _, query = self.target.partition("?")
        builder = EnvironBuilder(base_url=f"http://{host}/", method=self.method)
        for name, value in self.headers:
            if name.lower() == "content-type":
                builder.content_type = value
            elif name.lower() != "host":
                builder.headers.add(name, value)
        builder.input_stream = BytesIO(self.body)
        builder.content_length = len(self.body) if self.body else None
        environ = builder.get_environ()
        environ["HTTP_HOST"] = host
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1")
        environ["QUERY_STRING"] = query
        environ["RAW_URI"] = environ["REQUEST_URI"] = self.target
        environ["wsgi.input_terminated"] = True
        return environ


@dataclass
class Outcome:
    """What came of a request."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trace: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    logs: list[str] = field(default_factory=list)
    server_logs: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def header_list(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name.lower()]


Build = Callable[[Trace], Flask]


class _Implementation:
    """Serves apps one after another."""

    name: ClassVar[str]

    @contextlib.contextmanager
    def serving(self, app: Flask) -> Iterator[None]:
        yield

    def serve(self, app: Flask, request: Request) -> Outcome:
        raise NotImplementedError

    def paths(self, app: Flask) -> dict[str, int]:
        return {}


class PlainFlask(_Implementation):
    """Flask as it is, in Werkzeug's test client's way."""

    name = "plain Flask"

    def serve(self, app: Flask, request: Request) -> Outcome:
        assert Flask.async_to_sync is _plain_async_to_sync, "carboy is installed"
        return _run(_plain_run_wsgi_app, app, request)


class InProcess(_Implementation):
    """carboy's dispatch, as the takeover of test clients uses it."""

    name = "carboy in process"

    @contextlib.contextmanager
    def serving(self, app: Flask) -> Iterator[None]:
        patch.install()
        add_home_loop(shared_background_loop().loop)
        try:
            yield
        finally:
            remove_home_loop(shared_background_loop().loop)
            patch.uninstall()

    def serve(self, app: Flask, request: Request) -> Outcome:
        return _run(takeover.run_wsgi_app, app, request)

    def paths(self, app: Flask) -> dict[str, int]:
        counts = takeover._dispatchers[app].eligibility()
        return {"loop" if name == "on_loop" else name: count for name, count in counts if count}


class OverSocket(_Implementation):
    """carboy's server on a real socket."""

    name = "carboy over a socket"

    def __init__(self) -> None:
        self._live: Live | None = None
        self._paths: dict[str, int] = {}

    @contextlib.contextmanager
    def serving(self, app: Flask) -> Iterator[None]:
        with Live(app) as live:
            self._live = live
            yield
        self._paths = paths_taken(live.statistics())

    def serve(self, app: Flask, request: Request) -> Outcome:
        assert self._live is not None
        with Connection(self._live.address) as connection:
            response = connection.request(
                request.method, request.target, request.headers, request.body
            )
        return _outcome_of(response)

    def paths(self, app: Flask) -> dict[str, int]:
        return self._paths


def _run(run_wsgi_app: Callable[..., Any], app: Flask, request: Request) -> Outcome:
    try:
        body, status, headers = run_wsgi_app(app, request.environ(), buffered=True)
    except BaseException as error:
        return Outcome(error=error)
    content = b"".join(body)
    return Outcome(
        status=int(status.partition(" ")[0]),
        headers=_application_headers(list(headers)),
        body=b"" if request.method == "HEAD" else content,
    )


def _outcome_of(response: RawResponse) -> Outcome:
    assert response.is_complete
    return Outcome(response.status, _application_headers(response.headers), response.body)


def _application_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    # Allow is made from a set: its order differs from process to process.
    return [
        (name.lower(), ", ".join(sorted(value.split(", "))) if name == "allow" else value)
        for name, value in ((name.lower(), value) for name, value in headers)
        if name not in _CONNECTION_HEADERS
    ]


def _as_application_set(got: Outcome, want: Outcome, line: str) -> list[tuple[str, str]]:
    """Leave out a length that the server found out itself, where it may say it."""
    length = ("content-length", str(len(got.body)))
    may_be_added = not line.startswith("HEAD") and want.status not in (204, 304)
    if length in got.headers and not want.header_list("content-length") and may_be_added:
        return [header for header in got.headers if header != length]
    return got.headers


class _Records(logging.Handler):
    """Collects the messages that an app's logger gets."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        self.messages.append(f"{record.levelname} {record.getMessage()} {error}".strip())


IMPLEMENTATIONS: tuple[type[_Implementation], ...] = (PlainFlask, InProcess, OverSocket)


def serve_with(
    implementation: _Implementation, build: Build, requests: list[Request]
) -> tuple[list[Outcome], Flask]:
    """Build an app and send it requests, carrying cookies from one to the next."""
    trace = Trace()
    app = build(trace)
    records = _Records()
    server_records = _Records()
    server_logger = logging.getLogger("carboy")
    app.logger.addHandler(records)
    app.logger.propagate = False
    server_logger.addHandler(server_records)
    cookies: dict[str, str] = {}
    outcomes = []
    with implementation.serving(app):
        for request in requests:
            headers = list(request.headers)
            if cookies:
                pairs = "; ".join(f"{key}={value}" for key, value in cookies.items())
                headers.append(("Cookie", pairs))
            sent = Request(request.method, request.target, headers, request.body)
            outcome = implementation.serve(app, sent)
            for cookie in outcome.header_list("set-cookie"):
                key, _, value = cookie.partition(";")[0].partition("=")
                cookies[key] = value
            outcomes.append(outcome)
    app.logger.removeHandler(records)
    server_logger.removeHandler(server_records)
    outcomes[-1].trace = list(trace)
    outcomes[-1].logs = records.messages
    outcomes[-1].server_logs = server_records.messages
    return outcomes, app


def compare(
    build: Build,
    *lines: str,
    path: str | None,
    headers: list[tuple[str, str]] | None = None,
    body: bytes = b"",
    error: type[BaseException] | None = None,
    paths: dict[str, int] | None = None,
) -> Outcome:
    """Send requests to plain Flask and to carboy, and require that nothing differs.

    Args:
        build: Makes the app. It gets a trace to record in.
        lines: The requests, ``GET /path``; cookies are carried over. With a trace, what is
            compared is that of all requests together.
        path: The way that each request must take: ``loop``, or the reason for a worker.
            ``None``: different ones, see ``paths``.
        headers: Headers of each request.
        body: The body of each request.
        error: What leaves the app in process, and is a plain 500 over a socket.
        paths: How many of the requests must take which way, where they differ.

    Returns:
        What plain Flask gave for the last request.
    """
    requests = [Request.parse(line, headers, body) for line in lines]
    expected, _ = serve_with(PlainFlask(), build, requests)
    for last in expected:
        raised = last.error
        assert (raised is None) if error is None else isinstance(raised, error), raised
    for kind in (InProcess, OverSocket):
        implementation = kind()
        outcomes, app = serve_with(implementation, build, requests)
        for line, want, got in zip(lines, expected, outcomes, strict=True):
            where = f"{line} on {implementation.name}"
            if error is not None and kind is OverSocket:
                assert got.status == 500, where
            else:
                assert type(got.error) is type(want.error), f"{where}: {got.error!r}"
                assert str(got.error) == str(want.error), where
                assert got.status == want.status, where
                assert _as_application_set(got, want, line) == want.headers, where
                assert got.body == want.body, where
        assert outcomes[-1].trace == expected[-1].trace, implementation.name
        assert outcomes[-1].logs == expected[-1].logs, implementation.name
        if kind is InProcess or error is None:
            assert outcomes[-1].server_logs == [], implementation.name
        else:
            assert len(outcomes[-1].server_logs) == len(lines), implementation.name
        if paths is not None:
            assert implementation.paths(app) == paths, implementation.name
        if path is not None:
            assert implementation.paths(app) == {path: len(lines)}, implementation.name
    return expected[-1]
