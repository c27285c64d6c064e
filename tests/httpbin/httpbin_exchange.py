"""Sends one case over a socket and reads the answer as it came."""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from httpbin_cases import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpbin_cases import Case

TIMEOUT = 5.0
"""Seconds that a server may take for one step of an answer."""


@dataclass(frozen=True)
class Answer:
    """What came back; `continued` tells whether a 100 came first.

    `spread` is the time in seconds between the first and the last byte of the
    body, and `seconds` the time from the request to the end of the answer.
    """

    status: int
    reason: str
    version: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    continued: bool
    spread: float
    seconds: float

    def header(self, name: str) -> str:
        """Return the values of a header, joined."""
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower())


class Client:
    """Sends cases to one server, each on a new connection or all on a kept one."""

    def __init__(self, address: tuple[str, int], *, keep_alive: bool) -> None:
        self.address = address
        self.keep_alive = keep_alive
        self.connection: socket.socket | None = None

    def close(self) -> None:
        """Close the connection that is kept, if there is one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def send(self, case: Case) -> Answer:
        """Send the case, with digest credentials if it has any."""
        if case.digest is None:
            return self.send_request(case)
        challenge = self.send_request(replace(case, digest=None))
        authorization = answer_challenge(case, challenge.header("WWW-Authenticate"))
        cookies = "; ".join(
            value.partition(";")[0]
            for name, value in challenge.headers
            if name.lower() == "set-cookie"
        )
        headers = (*case.headers, ("Authorization", authorization), ("Cookie", cookies))
        return self.send_request(replace(case, headers=headers))

    def send_request(self, case: Case) -> Answer:
        """Send one request, on a new connection if the server has closed the kept one.

        A server may do that at any time, and gunicorn does it after a long body
        that was not read. A request that gets no answer in time is an error.
        """
        if self.connection is not None:
            with suppress(BrokenPipeError, ConnectionResetError):
                return self.send_on(self.connection, case)
        self.connection = socket.create_connection(self.address, timeout=TIMEOUT)
        return self.send_on(self.connection, case)

    def send_on(self, connection: socket.socket, case: Case) -> Answer:
        """Send one request; the connection is kept only if the answer says that it may be."""
        keep = False
        try:
            answer, server_closes = exchange(connection, case)
            keep = self.keep_alive and not server_closes
        finally:
            if not keep:
                self.close()
        return answer


def exchange(connection: socket.socket, case: Case) -> tuple[Answer, bool]:
    """Write the request's bytes and parse the answer's; say whether the server closes."""
    started = time.monotonic()
    connection.sendall(request_head(case))
    waits = any(name == "Expect" for name, _ in case.headers)
    continued = waits and read_interim(connection)
    connection.sendall(b"".join(request_body(case)))
    with closing(http.client.HTTPResponse(connection, method=case.method)) as response:
        response.begin()
        server_closes = response.will_close
        body, spread = read_body(response)
        answer = Answer(
            status=response.status,
            reason=response.reason,
            version=response.version,
            headers=tuple(response.getheaders()),
            body=body,
            continued=continued,
            spread=spread,
            seconds=time.monotonic() - started,
        )
    return answer, server_closes


def request_head(case: Case) -> bytes:
    """Return the request line and the header section."""
    lines = [f"{case.method} {case.target} {case.version}", f"Host: {HOST}"]
    lines += [f"{name}: {value}" for name, value in case.headers]
    if isinstance(case.body, tuple):
        lines.append("Transfer-Encoding: chunked")
    elif case.body is not None:
        lines.append(f"Content-Length: {len(case.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request_body(case: Case) -> Iterator[bytes]:
    """Yield the body with its framing."""
    if isinstance(case.body, bytes):
        yield case.body
    elif case.body is not None:
        for chunk in case.body:
            yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
        yield b"0\r\n%b\r\n" % case.trailers


def read_interim(connection: socket.socket) -> bool:
    """Read the interim answer that allows the body to be sent.

    It is read byte by byte, because what follows belongs to the final answer.
    """
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return False
        head += byte
    return head.startswith(b"HTTP/1.1 100 ")


def read_body(response: http.client.HTTPResponse) -> tuple[bytes, float]:
    """Read the body, and measure the time between its first and its last piece."""
    pieces: list[bytes] = []
    first = last = time.monotonic()
    while piece := response.read1(65536):
        last = time.monotonic()
        if not pieces:
            first = last
        pieces.append(piece)
    return b"".join(pieces), last - first


def answer_challenge(case: Case, challenge: str) -> str:
    """Return the credentials for a digest challenge, as RFC 7616 computes them."""
    assert case.digest is not None
    offered = dict(re.findall(r'(\w+)="?([^",]+)"?', challenge))
    algorithm = offered.get("algorithm", "MD5")

    def digest(*parts: str) -> str:
        name = algorithm.replace("-", "").lower()
        return hashlib.new(name, ":".join(parts).encode()).hexdigest()

    user, realm, count, client_nonce = case.digest.user, offered["realm"], "00000001", "c1ie27"
    quality = offered["qop"]
    request = [case.method, case.target]
    if quality == "auth-int":
        request.append(digest(""))
    secret = digest(user, realm, case.digest.password)
    response = digest(secret, offered["nonce"], count, client_nonce, quality, digest(*request))
    return (
        f'Digest username="{user}", realm="{realm}", nonce="{offered["nonce"]}",'
        f' uri="{case.target}", algorithm={algorithm}, response="{response}",'
        f' opaque="{offered["opaque"]}", qop={quality}, nc={count}, cnonce="{client_nonce}"'
    )
