"""A server that does with each connection what a test says, on bare sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_SECONDS = 10.0

#: What ``SO_LINGER`` needs for a reset instead of an orderly end.
_NO_LINGER = b"\x01\x00\x00\x00\x00\x00\x00\x00"


class Peer:
    """The server's end of a connection.

    Attributes:
        number: Which connection it is, from 1.
        has_ended: Set when the client has closed the connection, or broken it off.
    """

    def __init__(self, connected: socket.socket, number: int) -> None:
        connected.settimeout(TIMEOUT_SECONDS)
        self.socket = connected
        self.number = number
        self.has_ended = threading.Event()
        self._buffer = bytearray()

    def read_request(self) -> bytes:
        """Return the next request, with its content if that has a length; empty at the end."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not self._receive():
                return b""
        length = end + 4
        for line in self._buffer[:end].split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length += int(value)
        while len(self._buffer) < length:
            if not self._receive():
                return b""
        request = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return request

    def read_some(self) -> bytes:
        """Return what has come, and wait for no more of it."""
        self._receive()
        received, self._buffer = bytes(self._buffer), bytearray()
        return received

    def _receive(self) -> bool:
        try:
            received = self.socket.recv(65536)
        except ConnectionError:
            received = b""
        self._buffer += received
        if not received:
            self.has_ended.set()
        return bool(received)

    def send(self, data: bytes) -> None:
        """Send bytes as they are. That the client has gone is not an error."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.socket.sendall(data)

    def reset(self) -> None:
        """Break the connection off."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()

    def wait_for_end(self) -> None:
        """Wait until the client closes the connection; what comes before is not looked at."""
        while self._receive():
            self._buffer.clear()


class RawUpstream:
    """Listens, and calls a function with each connection, on a thread of its own.

    Args:
        serve: What is done with a connection. It is closed afterwards.
        context: For TLS.
    """

    def __init__(
        self, serve: Callable[[Peer], object], context: ssl.SSLContext | None = None
    ) -> None:
        self._serve = serve
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads: list[threading.Thread] = []
        self.peers: list[Peer] = []
        self.requests: list[bytes] = []
        self.failures: list[BaseException] = []
        self.port: int = self._listener.getsockname()[1]
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._acceptor = threading.Thread(target=self._accept)

    @classmethod
    def answering(cls, answer: bytes) -> Self:
        """Return one that answers every request of every connection alike."""

        def serve(peer: Peer) -> None:
            while request := peer.read_request():
                upstream.requests.append(request)
                peer.send(answer)

        upstream = cls(serve)
        return upstream

    @classmethod
    def answering_once(cls, answer: bytes) -> Self:
        """Return one that answers the first request of a connection, and closes it."""

        def serve(peer: Peer) -> None:
            upstream.requests.append(peer.read_request())
            peer.send(answer)

        upstream = cls(serve)
        return upstream

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._run, args=(connected,))
            self._threads.append(thread)
            thread.start()

    def _run(self, connected: socket.socket) -> None:
        try:
            if self._context is not None:
                connected.settimeout(TIMEOUT_SECONDS)
                connected = self._context.wrap_socket(connected, server_side=True)
            peer = Peer(connected, len(self.peers) + 1)
            self.peers.append(peer)
            self._serve(peer)
        except (OSError, ssl.SSLError):
            # The client has gone; or it is what a test wants.
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            connected.close()

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake who waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.socket.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures


def ok(content: bytes = b"fine", *headers: str) -> bytes:
    """A whole response."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content
