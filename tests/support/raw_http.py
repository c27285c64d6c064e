"""HTTP/1.1 over a bare socket: what is sent and received is exactly what a test says."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Self

TIMEOUT_SECONDS = 10.0


@dataclass
class RawResponse:
    """A response as it came, its body without the framing of chunks."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    is_complete: bool = True

    def header(self, name: str) -> str | None:
        """The value of a header, which may occur once at most."""
        values = self.header_list(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times"
        return values[0] if values else None

    def header_list(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Connection:
    """A client's connection."""

    def __init__(self, address: tuple[str, int] | str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.socket.close()

    def reset(self) -> None:
        """Break the connection off with a reset, as a process that is killed does."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def begin(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> None:
        """Send a request, whose response is read later or never."""
        self.send(request_bytes(method, target, headers, body))

    def request(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> RawResponse:
        """Send a request and read its response."""
        self.begin(method, target, headers, body)
        return self.read_response(method)

    def read_head(self) -> RawResponse:
        """Read a response up to the end of its header section."""
        line = self._file.readline()
        if not line:
            raise ConnectionError("closed before the response")
        version, status, *reason = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
        headers = []
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        return RawResponse(version, int(status), reason[0] if reason else "", headers)

    def read_chunk(self) -> bytes:
        """Read one chunk of a chunked body; the last one is empty."""
        line = self._file.readline()
        if not line:
            raise ConnectionError("closed in the middle of a chunked body")
        size = int(line, 16)
        data = self._file.read(size)
        end = self._file.readline()
        if len(data) < size or end != b"\r\n":
            raise ConnectionError("closed in the middle of a chunk")
        return data

    def read_chunk_after_head(self) -> bytes:
        """Read a head, and the first chunk behind it."""
        self.read_head()
        return self.read_chunk()

    def read_exactly(self, size: int) -> bytes:
        """Read bytes; fewer only when the connection ends."""
        return self._file.read(size)

    def read_line(self) -> bytes:
        """Read to the next line feed."""
        return self._file.readline()

    def read_response(self, method: str = "GET") -> RawResponse:
        """Read a response to a request with this method. Interim responses are skipped."""
        response = self.read_head()
        while 100 <= response.status < 200 and response.status != 101:
            response = self.read_head()
        if method == "HEAD" or response.status in (101, 204, 304):
            return response
        if response.header("transfer-encoding") == "chunked":
            try:
                while chunk := self.read_chunk():
                    response.chunks.append(chunk)
            except ConnectionError:
                response.is_complete = False
            response.body = b"".join(response.chunks)
        elif (length := response.header("content-length")) is not None:
            response.body = self._file.read(int(length))
            response.is_complete = len(response.body) == int(length)
        else:
            response.body = self._file.read()
        return response

    def is_closed_by_server(self) -> bool:
        """Wait for the end of the connection; false when something else comes."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


def request_bytes(
    method: str,
    target: str,
    headers: list[tuple[str, str]] | None = None,
    body: bytes = b"",
) -> bytes:
    """A request as it goes over the wire. Host and Content-Length are added if missing."""
    headers = list(headers or [])
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        headers.insert(0, ("Host", "localhost"))
    if (body or method in ("POST", "PUT", "PATCH")) and not names & {
        "content-length",
        "transfer-encoding",
    }:
        headers.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def fetch(
    address: tuple[str, int] | str,
    method: str,
    target: str,
    headers: list[tuple[str, str]] | None = None,
    body: bytes = b"",
) -> RawResponse:
    """Make one request on a connection of its own."""
    with Connection(address) as connection:
        return connection.request(method, target, headers, body)
