"""Servers that send back what they receive, one for each interface of a loop.

Each is an async context manager that gives the address for ``echo_client.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    Server = Callable[[Path], contextlib.AbstractAsyncContextManager[str]]


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(65536))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


def tcp_address(server: asyncio.AbstractServer) -> str:
    return f"tcp:{server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]


async def close(server: asyncio.AbstractServer) -> None:
    server.close()
    await server.wait_closed()


@contextlib.asynccontextmanager
async def tcp_protocol(directory: Path) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    yield tcp_address(server)
    await close(server)


@contextlib.asynccontextmanager
async def tcp_buffered(directory: Path) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(BufferedEcho, "127.0.0.1", 0)
    yield tcp_address(server)
    await close(server)


@contextlib.asynccontextmanager
async def tcp_streams(directory: Path) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(102_400):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield tcp_address(server)
    await close(server)


@contextlib.asynccontextmanager
async def tcp_sock(directory: Path) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    tasks = set()

    async def serve(connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := await loop.sock_recv(connection, 102_400):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            tasks.add(asyncio.create_task(serve(connection)))

    accepting = asyncio.create_task(accept())
    yield f"tcp:{listener.getsockname()[1]}"
    accepting.cancel()
    await asyncio.gather(accepting, *tasks, return_exceptions=True)
    listener.close()


@contextlib.asynccontextmanager
async def udp(directory: Path) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, ("127.0.0.1", 0))
    yield f"udp:{transport.get_extra_info('sockname')[1]}"
    transport.close()


@contextlib.asynccontextmanager
async def unix_protocol(directory: Path) -> AsyncIterator[str]:
    path = str(directory / "echo.sock")
    server = await asyncio.get_running_loop().create_unix_server(Echo, path)
    yield f"unix:{path}"
    await close(server)


@contextlib.asynccontextmanager
async def tls_protocol(directory: Path) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=context)
    yield tcp_address(server).replace("tcp:", "tls:")
    await close(server)


KINDS: dict[str, Server] = {
    function.__name__: function
    for function in (
        tcp_protocol,
        tcp_buffered,
        tcp_streams,
        tcp_sock,
        udp,
        unix_protocol,
        tls_protocol,
    )
}
KINDS["accept"] = tcp_protocol
