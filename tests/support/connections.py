"""Connections for tests of stream transports."""

import asyncio
import socket
from typing import Any


async def connect(protocol: asyncio.BaseProtocol) -> tuple[Any, socket.socket]:
    """Give a transport with this protocol, and the socket at the other end."""
    near, far = socket.socketpair()
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    return transport, far


async def read_exactly(far: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await asyncio.get_running_loop().sock_recv(far, count - len(data))
        assert part, "the connection ended too early"
        data += part
    return data
