"""TLS connections on carboy's loop that are closed, aborted or broken.

The expectations are those of `asyncio.sslproto`, which each test that can be is run on, too.
"""

import asyncio
import gc
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.tls_connections import Recorder, client_context, connected

import carboy
from carboy._carboy import TlsProtocol


def test_closing_writes_everything_and_tells_both_sides_once(
    run_on_both: Callable[[Any], Any],
) -> None:
    async def main() -> None:
        async with connected() as (server, client):
            client.transport.write(b"x" * 3_000_000)
            client.transport.close()
            assert client.transport.is_closing()
            client.transport.write(b"too late")
            assert await server.ended is None
            assert await client.ended is None
            assert len(server.received) == 3_000_000
            assert server.events[0] == "made"
            assert server.events[-2:] == ["eof", ("lost", None)]
            assert client.events[-1] == ("lost", None)
            assert client.transport.get_protocol() is None

    run_on_both(main())


def test_an_abort_ends_both_sides(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected() as (server, client):
            client.transport.abort()
            assert client.transport.is_closing()
            assert await client.ended is None
            await server.ended
            assert server.events[-1][0] == "lost"

    run_on_both(main())


def test_a_peer_that_does_not_say_goodbye_is_not_waited_for(
    run_on_both: Callable[[Any], Any],
) -> None:
    async def main() -> None:
        async with connected(ssl_shutdown_timeout=0.05) as (server, client):
            # The client no longer reads, so it never answers.
            client.transport._ssl_protocol._transport.pause_reading()
            server.transport.close()
            error = await server.ended
            assert isinstance(error, TimeoutError)
            assert "SSL shutdown timed out" in str(error)

    run_on_both(main())


def test_garbage_ends_the_connection(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        contexts: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        async with connected() as (server, client):
            client.transport._ssl_protocol._transport.write(b"\xff" * 100)
            assert isinstance(await server.ended, ssl.SSLError)
            await client.ended
        # An SSLError is an OSError: the network's own doing.
        assert contexts == []

    run_on_both(main())


class Failing(Recorder):
    def data_received(self, data: bytes) -> None:
        raise ZeroDivisionError


def test_an_error_of_the_protocol_is_reported_and_ends_the_connection(
    run_on_both: Callable[[Any], Any],
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        contexts: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        async with connected(Failing) as (server, client):
            client.transport.write(b"x")
            assert isinstance(await server.ended, ZeroDivisionError)
        assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
        assert contexts[0]["message"] == "Fatal error on SSL protocol"

    run_on_both(main())


def test_nothing_is_left_of_a_connection_that_was_closed(run_on_both: Callable[[Any], Any]) -> None:
    async def main() -> list[Any]:
        async with connected() as (server, client):
            client.transport.write(b"x" * 100_000)
            await server.wait_for(lambda: len(server.received) == 100_000)
            references = [
                weakref.ref(thing)
                for one in (server, client)
                for thing in (
                    one,
                    one.transport,
                    one.transport._ssl_protocol,
                    one.transport._ssl_protocol._transport,
                )
            ]
            client.transport.close()
            await server.ended
            await client.ended
        return references

    references = run_on_both(main())
    gc.collect()
    assert [reference() for reference in references] == [None] * 8


def test_closing_twice_is_closing_once() -> None:
    # asyncio's transport is of no use any more after that.
    async def main() -> None:
        async with connected() as (server, client):
            client.transport.close()
            client.transport.close()
            client.transport.write(b"too late")
            assert await client.ended is None
            assert await server.ended is None
            client.transport.close()
            assert client.transport.get_extra_info("ssl_object") is not None
            assert client.transport.get_extra_info("peername") is None

    carboy.run(main())


def test_a_connection_that_nobody_closed_is_warned_of() -> None:
    loop = carboy.new_event_loop()
    # The two refer to each other.
    TlsProtocol(loop, asyncio.Protocol(), client_context(), None, False, "localhost")
    with pytest.warns(ResourceWarning, match="unclosed transport <TlsTransport unwrapped>"):
        gc.collect()
    loop.close()
