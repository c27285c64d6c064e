"""TLS on carboy's loop: the way of the bytes, and what a transport tells and allows.

The expectations are those of `asyncio.sslproto`, which each test that can be is run on, too.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from support.tls_connections import BufferedRecorder, Recorder, connected


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_data_arrive_whole_in_both_directions(
    run_on_both: Callable[[Any], Any], kind: Callable[[], Any]
) -> None:
    async def main() -> None:
        async with connected(kind, kind) as (server, client):
            sent = {server: bytearray(), client: bytearray()}
            for number, size in enumerate([1, 100, 999, 1000, 16_384, 16_385, 100_000, 1_000_000]):
                for one in (server, client):
                    data = bytes([number + 1]) * size
                    sent[one] += data
                    shaped: Any = [data, bytearray(data), memoryview(data)][number % 3]
                    one.transport.write(shaped)
            client.transport.writelines([b"a", bytearray(b"b"), b"", memoryview(b"c")])
            sent[client] += b"abc"
            await server.wait_for(lambda: len(server.received) >= len(sent[client]))
            await client.wait_for(lambda: len(client.received) >= len(sent[server]))
            assert server.received == sent[client]
            assert client.received == sent[server]

    run_on_both(main())


def test_a_small_message_is_one_call(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected() as (server, client):
            for count in range(1, 20):
                client.transport.write(b"x" * 1000)
                await server.wait_for(lambda: len(server.received) == 1000 * count)  # noqa: B023
            assert server.events == ["made"] + ["data"] * 19

    run_on_both(main())


def test_a_connection_says_what_it_is(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected() as (server, client):
            for one in (server, client):
                info = one.transport.get_extra_info
                assert isinstance(one.transport, asyncio.Transport)
                assert isinstance(one.transport._ssl_protocol, asyncio.BufferedProtocol)
                assert "ssl" in one.transport.__class__.__name__.lower()
                assert isinstance(info("ssl_object"), ssl.SSLObject)
                assert isinstance(info("sslcontext"), ssl.SSLContext)
                # aiohttp looks for it there.
                assert one.transport._ssl_protocol._sslcontext is info("sslcontext")
                assert info("cipher") == info("ssl_object").cipher()
                assert info("compression") is None
                assert info("socket").family == socket.AF_INET
                assert info("unknown", 7) == 7
                assert one.transport.get_protocol() is one
                assert not one.transport.can_write_eof()
                with pytest.raises(NotImplementedError):
                    one.transport.write_eof()
                with pytest.raises(TypeError):
                    one.transport.write("text")
            assert client.transport.get_extra_info("peercert")["subjectAltName"]
            assert server.transport.get_extra_info("peername") == client.transport.get_extra_info(
                "sockname"
            )

    run_on_both(main())


def test_writing_is_paused_and_resumed(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected() as (server, client):
            server.transport.pause_reading()
            assert not server.transport.is_reading()
            written = 0
            while "pause" not in client.events:
                client.transport.write(b"x" * 100_000)
                written += 100_000
                await asyncio.sleep(0)
            assert client.transport.get_write_buffer_size() > 0
            server.transport.resume_reading()
            await server.wait_for(lambda: len(server.received) == written)
            await client.wait_for(lambda: "resume" in client.events)
            assert client.transport.get_write_buffer_size() == 0

    run_on_both(main())


def test_limits(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected() as (_, client):
            transport = client.transport
            assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
            assert transport.get_read_buffer_limits() == (64 * 1024, 256 * 1024)
            for set_limits, get_limits in (
                (transport.set_write_buffer_limits, transport.get_write_buffer_limits),
                (transport.set_read_buffer_limits, transport.get_read_buffer_limits),
            ):
                set_limits(high=400)
                assert get_limits() == (100, 400)
                set_limits(low=400)
                assert get_limits() == (400, 1600)
                with pytest.raises(ValueError, match="must be >= low"):
                    set_limits(high=1, low=2)

    run_on_both(main())
