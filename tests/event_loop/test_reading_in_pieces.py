"""Readers that stop and go on: nothing is lost, and nobody waits for what is there already."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import websockets

import carboy


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(30):
            return await main()

    return carboy.run(bounded())


@pytest.mark.parametrize("buffered", [False, True], ids=["Protocol", "BufferedProtocol"])
def test_a_protocol_that_pauses_at_each_piece_gets_everything(buffered: bool) -> None:
    content = random.Random(1).randbytes(300_000)

    class Pausing:
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.received = bytearray()
            self.ended = asyncio.get_running_loop().create_future()
            self.buffer = bytearray(700)

        def take(self, data: bytes) -> None:
            self.received += data
            self.transport.pause_reading()
            # At once, at the end of the turn, or later: all ways in which libraries do it.
            way = len(self.received) % 3
            loop = asyncio.get_running_loop()
            if way == 0:
                self.transport.resume_reading()
            elif way == 1:
                loop.call_soon(self.transport.resume_reading)
            else:
                loop.call_later(0.0001, self.transport.resume_reading)

        def data_received(self, data: bytes) -> None:
            self.take(data)

        def get_buffer(self, _hint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, count: int) -> None:
            self.take(bytes(self.buffer[:count]))

        def eof_received(self) -> None:
            pass

        def connection_lost(self, error: Exception | None) -> None:
            self.ended.set_result(error)

    kinds: dict[bool, type] = {False: asyncio.Protocol, True: asyncio.BufferedProtocol}
    # Either has methods that the other must not have.
    other = {"data_received"} if buffered else {"get_buffer", "buffer_updated"}
    members = {name: value for name, value in vars(Pausing).items() if name not in other}
    members.pop("__dict__", None)
    members.pop("__weakref__", None)
    protocol_class = type("PausingProtocol", (kinds[buffered],), members)

    async def main() -> tuple[bool, Any]:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        _, protocol = await loop.create_connection(protocol_class, sock=near)
        far.setblocking(False)
        sent = 0
        chance = random.Random(2)
        while sent < len(content):
            piece = content[sent : sent + chance.randrange(1, 9000)]
            await loop.sock_sendall(far, piece)
            sent += len(piece)
        far.close()
        error = await protocol.ended
        return bytes(protocol.received) == content, error

    assert run(main) == (True, None)


def test_frames_that_arrive_byte_by_byte_and_all_at_once() -> None:
    frames = [bytes([n % 251]) * (n * 37 % 2000) for n in range(200)]
    wire = b"".join(len(frame).to_bytes(2) + frame for frame in frames)

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=near, limit=256)
        far.setblocking(False)

        async def send() -> None:
            chance = random.Random(3)
            sent = 0
            while sent < len(wire):
                step = chance.choice([1, 1, 1, 2, 5000, 20000])
                await loop.sock_sendall(far, wire[sent : sent + step])
                sent += step
                if chance.random() < 0.5:
                    await asyncio.sleep(0)
            far.close()

        sending = asyncio.create_task(send())
        received = []
        for _ in frames:
            length = int.from_bytes(await reader.readexactly(2))
            received.append(await reader.readexactly(length))
        assert await reader.read() == b""
        await sending
        writer.close()
        await writer.wait_closed()
        return received == frames

    assert run(main)


def test_websockets_in_both_directions_with_slow_readers() -> None:
    async def main() -> list[int]:
        async def echo(connection: Any) -> None:
            async for message in connection:
                await asyncio.sleep(0)
                await connection.send(message)

        sizes = [0, 1, 125, 126, 65_535, 65_536, 500_000]
        received = []
        async with websockets.serve(echo, "127.0.0.1", 0, max_queue=1) as server:
            port = server.sockets[0].getsockname()[1]
            async with websockets.connect(f"ws://127.0.0.1:{port}", max_queue=1) as connection:

                async def send() -> None:
                    for size in sizes * 3:
                        await connection.send(b"x" * size)

                sending = asyncio.create_task(send())
                for _ in sizes * 3:
                    await asyncio.sleep(0.001)
                    received.append(len(await connection.recv()))
                await sending
        assert received == sizes * 3
        return received

    run(main)
