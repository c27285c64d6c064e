"""How records of TLS come to the application, however they are cut and put together.

The expectations are those of `asyncio.sslproto`, on whose loop each test runs, too.
"""

import asyncio
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.loop_turns import everything_was_looked_at


class Recorder(asyncio.Protocol):
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.changed = asyncio.Event()

    def note(self, event: Any) -> None:
        self.events.append(event)
        self.changed.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.note(data)

    def eof_received(self) -> None:
        self.note("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.note("lost")

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class Peer:
    """A client that decides which bytes of its records are sent together."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.loop = asyncio.get_running_loop()

    async def connect(self, address: Any) -> None:
        await self.loop.sock_connect(self.socket, address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send(self.outgoing.read())
                self.incoming.write(await self.loop.sock_recv(self.socket, 65536))
            else:
                break
        await self.send(self.outgoing.read())

    def record(self, message: bytes) -> bytes:
        self.tls.write(message)
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)


def with_peer(
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    test: Callable[[Recorder, Peer], Awaitable[None]],
) -> Awaitable[None]:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder()
        server = await loop.create_server(lambda: recorder, "127.0.0.1", 0, ssl=server_tls)
        peer = Peer(client_tls)
        await peer.connect(server.sockets[0].getsockname())
        with peer.socket:
            await test(recorder, peer)
        await recorder.wait_for(lambda: "lost" in recorder.events)
        server.close()
        await server.wait_closed()

    return main()


def test_records_that_come_together_are_one_piece(
    run_on_both: Callable[[Any], Any], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def test(recorder: Recorder, peer: Peer) -> None:
        messages = [b"a" * 10, b"b" * 1000, b"c"]
        await peer.send(b"".join(peer.record(message) for message in messages))
        await recorder.wait_for(lambda: bool(recorder.events))
        assert recorder.events == [b"".join(messages)]

    run_on_both(with_peer(server_tls, client_tls, test))


def test_a_goodbye_behind_a_record_ends_the_stream_after_it(
    run_on_both: Callable[[Any], Any], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def test(recorder: Recorder, peer: Peer) -> None:
        await peer.send(peer.record(b"the last words") + peer.goodbye())
        await recorder.wait_for(lambda: "eof" in recorder.events)
        assert recorder.events[:2] == [b"the last words", "eof"]

    run_on_both(with_peer(server_tls, client_tls, test))


def test_half_a_record_is_nothing_yet(
    run_on_both: Callable[[Any], Any], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def test(recorder: Recorder, peer: Peer) -> None:
        first, second = peer.record(b"first"), peer.record(b"second")
        # The head of a record is 5 bytes long.
        for cut in (3, 5, 12):
            await peer.send(first[:cut])
            await everything_was_looked_at()
            assert recorder.events == []
            await peer.send(first[cut:] + second[:cut])
            await recorder.wait_for(lambda: bool(recorder.events))
            assert recorder.events == [b"first"]
            await peer.send(second[cut:])
            await recorder.wait_for(lambda: len(recorder.events) == 2)
            assert recorder.events == [b"first", b"second"]
            recorder.events.clear()
            first, second = peer.record(b"first"), peer.record(b"second")

    run_on_both(with_peer(server_tls, client_tls, test))


@pytest.mark.parametrize("size", [16383, 16384, 16385, 40000, 300_000])
def test_records_of_all_sizes_arrive_whole(
    size: int,
    run_on_both: Callable[[Any], Any],
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    content = random.Random(size).randbytes(size)

    async def test(recorder: Recorder, peer: Peer) -> None:
        def received() -> bytes:
            return b"".join(event for event in recorder.events if isinstance(event, bytes))

        for times in (1, 2):
            await peer.send(peer.record(content))
            await recorder.wait_for(lambda times=times: len(received()) == times * size)
            assert received() == times * content

    run_on_both(with_peer(server_tls, client_tls, test))
