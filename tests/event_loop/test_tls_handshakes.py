"""Handshakes of TLS on carboy's loop: upgrades, refusals, and what takes too long.

The expectations are those of `asyncio.sslproto`, which each test that can be is run on, too.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from support.tls_connections import Recorder, client_context, connected, server_context

import carboy
from carboy._carboy import TlsProtocol


def test_streams_are_upgraded_to_tls(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> bytes:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            await writer.drain()
            await writer.start_tls(server_context())
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"plain\n")
            received = await reader.readline()
            await writer.start_tls(client_context(), server_hostname="localhost")
            writer.write(b"secret\n")
            received += await reader.read()
            assert writer.get_extra_info("ssl_object") is not None
            writer.close()
            await writer.wait_closed()
            return received

    assert run_on_both(main()) == b"plain\nSECRET\n"


def test_tls_within_tls(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected() as (server, client):
            inner_server, inner_client = Recorder(), Recorder()
            results = await asyncio.gather(
                loop.start_tls(server.transport, inner_server, server_context(), server_side=True),
                loop.start_tls(
                    client.transport, inner_client, client_context(), server_hostname="localhost"
                ),
            )
            for transport, one in zip(results, (inner_server, inner_client), strict=True):
                assert transport is not None
                transport.write(b"x" * 50_000 + str(id(one)).encode())
            for one, other in ((inner_server, inner_client), (inner_client, inner_server)):
                tail = str(id(other)).encode()
                await one.wait_for(lambda: one.received.endswith(tail))  # noqa: B023
                assert len(one.received) == 50_000 + len(tail)
            for transport in results:
                assert transport is not None
                transport.abort()
            await inner_server.ended
            await inner_client.ended
            server.ended.set_result(None)
            client.ended.set_result(None)

    run_on_both(main())


def test_start_tls_refuses_what_it_can_not_use(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match="sslcontext is expected to be"):
            await loop.start_tls(None, Recorder(), True)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not supported by start_tls"):
            await loop.start_tls(
                asyncio.WriteTransport(), Recorder(), client_context(), server_side=False
            )

    run_on_both(main())


def test_a_wrong_certificate_fails_on_the_client(
    run_on_both: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                Recorder,
                "127.0.0.1",
                port,
                ssl=ssl.create_default_context(),
                server_hostname="localhost",
            )
        server.close()

    with caplog.at_level(logging.CRITICAL):
        run_on_both(main())


def test_a_handshake_that_takes_too_long_is_given_up(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with pytest.raises(ConnectionAbortedError, match=r"longer than 0\.05 seconds"):
                await loop.create_connection(
                    Recorder,
                    "127.0.0.1",
                    port,
                    ssl=client_context(),
                    server_hostname="localhost",
                    ssl_handshake_timeout=0.05,
                )

    run_on_both(main())


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_are_positive(name: str) -> None:
    loop = carboy.new_event_loop()
    for value in (0, -1.5):
        settings: Any = {name: value}
        with pytest.raises(ValueError, match=f"{name} should be a positive number, got {value}"):
            TlsProtocol(loop, asyncio.Protocol(), client_context(), None, **settings)
    loop.close()


def test_a_peer_that_goes_during_the_handshake_is_an_error(
    run_on_both: Callable[[Any], Any],
) -> None:
    async def main() -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionResetError):
                await asyncio.open_connection(
                    "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
                )

    run_on_both(main())
