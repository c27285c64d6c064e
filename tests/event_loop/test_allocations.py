"""What is done again and again leaves no object behind, also none that no collector knows."""

import asyncio
import gc
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable

import pytest

import carboy

#: How often a thing is done in a round.
TIMES = 150
#: Lists of freed objects, and timers that were cancelled, go up and down between the rounds, and
#: what is kept for later goes up until there is enough of it: a leak goes up in each of them.
ROUNDS = 12


async def blocks_left_by(work: Callable[[], Awaitable[None]]) -> int:
    """Return by how many objects a round makes the process grow at least.

    No further round is made when one has left less than half an object for each time.
    """
    least, before = sys.maxsize, 0
    for _ in range(1 + ROUNDS):
        for _ in range(TIMES):
            await work()
        await asyncio.sleep(0)
        gc.collect()
        now = sys.getallocatedblocks()
        if before:
            least = min(least, now - before)
        if least < TIMES / 2:
            break
        before = now
    return least


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


# Small integers are shared, so a count of bytes that is lost would be seen from 257 on only.
@pytest.mark.parametrize("size", [1000, 100_000])
def test_messages_over_tls_leave_nothing(
    size: int, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def main() -> int:
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_tls, server_hostname="localhost"
            )

            async def message() -> None:
                writer.write(b"x" * size)
                assert len(await reader.readexactly(size)) == size

            left = await blocks_left_by(message)
            writer.close()
            await writer.wait_closed()
            return left

    assert carboy.run(main()) < TIMES / 2


def test_tls_connections_leave_nothing(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def main() -> int:
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls) as server:
            port = server.sockets[0].getsockname()[1]

            async def connection() -> None:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=client_tls, server_hostname="localhost"
                )
                writer.write(b"x" * 1000)
                assert len(await reader.readexactly(1000)) == 1000
                writer.close()
                await writer.wait_closed()

            return await blocks_left_by(connection)

    assert carboy.run(main()) < TIMES / 2


class SubclassOfSocket(socket.socket):
    """Its own methods may be other ones, so they are called."""


@pytest.mark.parametrize("kind", [socket.socket, SubclassOfSocket])
def test_bytes_sent_in_parts_leave_nothing(kind: type[socket.socket]) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        plain, receiver = socket.socketpair()
        sender = kind(fileno=plain.detach())
        with sender, receiver:
            sender.setblocking(False)
            receiver.setblocking(False)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            content = b"x" * 100_000

            async def message() -> None:
                sending = asyncio.ensure_future(loop.sock_sendall(sender, content))
                received = 0
                while received < len(content):
                    received += len(await loop.sock_recv(receiver, 10_000))
                await sending

            return await blocks_left_by(message)

    assert carboy.run(main()) < TIMES / 2
