"""A server that answers as a test says and writes down what it was sent."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from dataclasses import dataclass
from typing import Any, Self

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Received:
    """A request as it came."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) <= 1, found
        return found[0] if found else None


class Upstream:
    """Answers each target by what `answers` has for it: bytes, or a function of the request and
    the connection's file. A function that returns something true ends the connection.

    It listens on a port of this machine, or on the socket at `path`.
    """

    def __init__(self, context: ssl.SSLContext | None = None, path: str | None = None) -> None:
        self.answers: dict[str, Any] = {}
        self.received: list[Received] = []
        self.connections = 0
        upstream = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 10

            def handle(self) -> None:
                upstream.connections += 1
                if isinstance(self.request, ssl.SSLSocket):
                    self.request.do_handshake()
                number = upstream.connections
                while (request := read_request(self.rfile, number)) is not None:
                    upstream.received.append(request)
                    target = request.line.split(" ")[1]
                    answer = upstream.answers.get(target.partition("?")[0], OK)
                    if callable(answer):
                        if answer(request, self.wfile):
                            return
                    else:
                        self.wfile.write(answer)

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()

        class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
            daemon_threads = True
            allow_reuse_address = True
            address_family = socket.AF_INET if path is None else socket.AF_UNIX

            def server_bind(self) -> None:
                if path is None:
                    super().server_bind()
                else:
                    self.socket.bind(path)

            def get_request(self) -> tuple[Any, Any]:
                connection, address = super().get_request()
                if context is None:
                    return connection, address
                options: Any = {"server_side": True, "do_handshake_on_connect": False}
                return context.wrap_socket(connection, **options), address

            def handle_error(self, *_: object) -> None:
                """A client that goes is part of the tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port: int = 0 if path is not None else self.server.server_address[1]
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def read_request(file: Any, connection: int) -> Received | None:
    line = file.readline().decode("latin-1").rstrip("\r\n")
    if not line:
        return None
    headers = []
    while (field := file.readline().decode("latin-1").rstrip("\r\n")) != "":
        name, _, value = field.partition(":")
        headers.append((name, value.strip()))
    known = {name.lower(): value for name, value in headers}
    body = b""
    if known.get("transfer-encoding") == "chunked":
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
    elif "content-length" in known:
        body = file.read(int(known["content-length"]))
    return Received(line, headers, body, connection)


def answer(
    *headers: str, body: bytes = b"", status: str = "200 OK", version: str = "HTTP/1.1"
) -> bytes:
    """An answer with its length."""
    fields = "".join(f"{header}\r\n" for header in headers)
    head = f"{version} {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def chunked(*pieces: bytes) -> bytes:
    """An answer in chunks."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
