"""Protocols and connections for tests of TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trustme

from support.recording import StreamRecorder

authority = trustme.CA()


def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Recorder(StreamRecorder):
    """Tells how it ended, too."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.ended.set_result(exc)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same with a buffer of its own, a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return memoryview(self.buffer)  # type: ignore[return-value]

    def buffer_updated(self, count: int) -> None:
        self.received += self.buffer[:count]
        self.note("data")


@asynccontextmanager
async def connected(
    make_server: Callable[[], Any] = Recorder,
    make_client: Callable[[], Any] = Recorder,
    **settings: Any,
) -> AsyncIterator[tuple[Any, Any]]:
    """Give the two protocols of a connection, the server's first."""
    loop = asyncio.get_running_loop()
    served: asyncio.Future[Any] = loop.create_future()

    def make() -> Any:
        protocol = make_server()
        served.set_result(protocol)
        return protocol

    server = await loop.create_server(make, "127.0.0.1", 0, ssl=server_context(), **settings)
    port = server.sockets[0].getsockname()[1]
    _, client = await loop.create_connection(
        make_client,
        "127.0.0.1",
        port,
        ssl=client_context(),
        server_hostname="localhost",
        **settings,
    )
    protocol = await served
    await protocol.wait_for(lambda: "made" in protocol.events)
    try:
        yield protocol, client
    finally:
        for one in (protocol, client):
            one.transport.abort()
            await one.ended
        server.close()
