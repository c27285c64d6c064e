"""A service that the application calls: it answers when the test says so, and tells who leaves."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from support.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class UpstreamCall:
    """One request that the service has got."""

    method: str
    target: str
    headers: dict[str, str]
    _connection: _Connection
    closed: threading.Event = field(default_factory=threading.Event)
    #: When its connection was closed, by ``time.perf_counter()``.
    closed_at: float = 0.0

    def answer(self, body: bytes = b"done") -> None:
        """Answer with 200."""
        self.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.loop.call_soon_threadsafe(self._connection.send, data)

    def wait_closed(self) -> float:
        """Wait until the connection is closed, and return when that was."""
        assert self.closed.wait(TIMEOUT_SECONDS), "the connection is open still"
        return self.closed_at


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.loop = upstream._loop
        self._received = b""
        self._calls: list[UpstreamCall] = []
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._upstream._transports.add(transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").split("\r\n")
            method, target, _ = line.split(" ")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (field.partition(":") for field in fields)
            }
            call = UpstreamCall(method, target, headers, self)
            self._calls.append(call)
            self._upstream._handle(call)

    def connection_lost(self, error: Exception | None) -> None:
        self._upstream._transports.discard(self._transport)
        now = time.perf_counter()
        for call in self._calls:
            call.closed_at = now
            call.closed.set()

    def send(self, data: bytes) -> None:
        self._transport.write(data)


class Upstream:
    """The service, on a thread of its own, while it is entered.

    Args:
        handle: What is done with each call, on the service's thread. Without it calls wait for
            the test, which takes them by ``next_call``.
    """

    def __init__(self, handle: Callable[[UpstreamCall], None] | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._handle = handle or (lambda call: self._calls.put(call))
        self._calls: queue.Queue[UpstreamCall] = queue.Queue()
        self._transports: set[asyncio.BaseTransport] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self.url = ""

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()

        async def listen() -> asyncio.Server:
            make = lambda: _Connection(self)  # noqa: E731
            return await self._loop.create_server(make, "127.0.0.1", 0, backlog=2048)

        self._server = self._run(listen())
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        async def close() -> None:
            assert self._server is not None
            self._server.close()
            for transport in list(self._transports):
                transport.abort()  # type: ignore[attr-defined]
            while self._transports:
                await asyncio.sleep(0)

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._transports)

    def has_call(self) -> bool:
        """Whether a call has come that nobody has asked for yet."""
        return not self._calls.empty()

    def next_call(self) -> UpstreamCall:
        """Wait for the next call that comes."""
        return self._calls.get(timeout=TIMEOUT_SECONDS)
