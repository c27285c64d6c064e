"""Sends what a test client would run in process over a real HTTP/1.1 connection."""

from __future__ import annotations

import http.client
import io
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.datastructures import Headers

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 10.0
"""Seconds that a server may take for one request of a suite."""

CARRIED = frozenset(
    {
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "PATH_INFO",
        "QUERY_STRING",
        "RAW_URI",
        "REQUEST_METHOD",
        "REQUEST_URI",
        "wsgi.input",
        "wsgi.input_terminated",
    }
)
"""Environ keys that become part of the HTTP message."""

SERVER_CHOICE = frozenset(
    {
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "werkzeug.request",
        "wsgi.multiprocess",
        "wsgi.multithread",
        "wsgi.run_once",
        "wsgi.version",
    }
)
"""Environ keys that every server fills in by itself."""

CONNECTION_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding"})
"""Headers that belong to the connection and not to the application's answer."""


def not_carried(environ: dict[str, Any]) -> Iterator[str]:
    """Name what this environ asks for that an HTTP request cannot express."""
    for key, value in environ.items():
        if key in CARRIED or key in SERVER_CHOICE or key.startswith("HTTP_"):
            continue
        if key == "werkzeug.debug.preserve_context":
            yield "preserved-context"
        elif key == "SCRIPT_NAME":
            if value:
                yield "script-name"
        elif key == "wsgi.url_scheme":
            if value != "http":
                yield "url-scheme"
        elif key == "wsgi.errors":
            if value is not sys.stderr:
                yield "errors-stream"
        elif (key, value) != ("REMOTE_ADDR", "127.0.0.1"):
            yield "environ-key"


def request_target(environ: dict[str, Any]) -> str:
    """Return the target of the request line.

    The test client's own spelling is kept if there is one: what is percent
    encoded in it is part of what the test sends.
    """
    if "REQUEST_URI" in environ:
        target = quote(environ["REQUEST_URI"].encode("latin-1"), safe="%/:?#[]@!$&'()*+,;=")
        return target or "/"
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    target = quote(path.encode("latin-1")) or "/"
    query = environ.get("QUERY_STRING", "")
    return f"{target}?{query}" if query else target


def request_headers(environ: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the header fields that a server turns back into the same environ."""
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            yield key.removeprefix("HTTP_").replace("_", "-").title(), str(value)
    if environ.get("CONTENT_TYPE"):
        yield "Content-Type", environ["CONTENT_TYPE"]
    if environ.get("CONTENT_LENGTH"):
        yield "Content-Length", str(environ["CONTENT_LENGTH"])


def request_body(environ: dict[str, Any]) -> bytes:
    """Read as much of the input as a WSGI server would hand to the application.

    A fresh stream is left behind, because the client sends the same input again
    when the answer is a redirect that keeps the method.
    """
    stream = environ.get("wsgi.input")
    body = b""
    if stream is not None and environ.get("CONTENT_LENGTH"):
        body = stream.read(int(environ["CONTENT_LENGTH"]))
    elif stream is not None and environ.get("wsgi.input_terminated"):
        body = stream.read()
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def send(host: str, port: int, environ: dict[str, Any]) -> tuple[list[bytes], str, Headers]:
    """Send the request and return the answer as `werkzeug.test.run_wsgi_app` does.

    The body is read to its end, so that the connection is closed here and not
    whenever the test lets go of the response. Redirects and cookies are left
    to the test client above, which handles them as it does in process.
    """
    method = environ["REQUEST_METHOD"]
    body = request_body(environ)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.putrequest(
            method, request_target(environ), skip_host=True, skip_accept_encoding=True
        )
        for name, value in request_headers(environ):
            connection.putheader(name, value)
        if body and not environ.get("CONTENT_LENGTH"):
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders(body, encode_chunked=True)
        else:
            connection.endheaders(body or None)
        response = connection.getresponse()
        headers = Headers(
            (name, value)
            for name, value in response.getheaders()
            if name.lower() not in CONNECTION_HEADERS
        )
        content = response.read()
    finally:
        connection.close()
    return [content] if content else [], f"{response.status} {response.reason}", headers
