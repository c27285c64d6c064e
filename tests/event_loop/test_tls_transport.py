"""TLS on carboy's loop: the way of the bytes, the states, and the end of connections.

The expectations are those of `asyncio.sslproto`, which each test that can be is run on, too.
"""

import asyncio
import gc
import logging
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

import carboy
from carboy._carboy import TlsProtocol

authority = trustme.CA()


@pytest.fixture(params=["carboy", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Run a coroutine on carboy's loop, and on asyncio's, which says what is right."""

    def run(main: Any) -> Any:
        is_ours = request.param == "carboy"
        factory: Any = carboy.new_event_loop if is_ours else asyncio.SelectorEventLoop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(main, 20))

    return run


def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Recorder(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.data = bytearray()
        self.changed = asyncio.Event()
        self.ended = asyncio.get_running_loop().create_future()

    def note(self, event: Any) -> None:
        self.events.append(event)
        self.changed.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.note("data")

    def eof_received(self) -> None:
        self.note("eof")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.note("lost")
        self.ended.set_result(error)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same with a buffer of its own, a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return memoryview(self.buffer)  # type: ignore[return-value]

    def buffer_updated(self, count: int) -> None:
        self.data += self.buffer[:count]
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


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_data_arrive_whole_in_both_directions(
    run: Callable[[Any], Any], kind: Callable[[], Any]
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
            await server.wait_for(lambda: len(server.data) >= len(sent[client]))
            await client.wait_for(lambda: len(client.data) >= len(sent[server]))
            assert server.data == sent[client]
            assert client.data == sent[server]

    run(main())


def test_a_small_message_is_one_call(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected() as (server, client):
            for count in range(1, 20):
                client.transport.write(b"x" * 1000)
                await server.wait_for(lambda: len(server.data) == 1000 * count)  # noqa: B023
            assert server.events == ["made"] + ["data"] * 19

    run(main())


def test_a_connection_says_what_it_is(run: Callable[[Any], Any]) -> None:
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

    run(main())


def test_closing_writes_everything_and_tells_both_sides_once(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected() as (server, client):
            client.transport.write(b"x" * 3_000_000)
            client.transport.close()
            assert client.transport.is_closing()
            client.transport.write(b"too late")
            assert await server.ended is None
            assert await client.ended is None
            assert len(server.data) == 3_000_000
            assert server.events[0] == "made"
            assert server.events[-2:] == ["eof", "lost"]
            assert client.events[-1] == "lost"
            assert client.transport.get_protocol() is None

    run(main())


def test_an_abort_ends_both_sides(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected() as (server, client):
            client.transport.abort()
            assert client.transport.is_closing()
            assert await client.ended is None
            await server.ended
            assert server.events[-1] == "lost"

    run(main())


def test_writing_is_paused_and_resumed(run: Callable[[Any], Any]) -> None:
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
            await server.wait_for(lambda: len(server.data) == written)
            await client.wait_for(lambda: "resume" in client.events)
            assert client.transport.get_write_buffer_size() == 0

    run(main())


def test_limits(run: Callable[[Any], Any]) -> None:
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

    run(main())


def test_streams_are_upgraded_to_tls(run: Callable[[Any], Any]) -> None:
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

    assert run(main()) == b"plain\nSECRET\n"


def test_tls_within_tls(run: Callable[[Any], Any]) -> None:
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
                await one.wait_for(lambda: one.data.endswith(tail))  # noqa: B023
                assert len(one.data) == 50_000 + len(tail)
            for transport in results:
                assert transport is not None
                transport.abort()
            await inner_server.ended
            await inner_client.ended
            server.ended.set_result(None)
            client.ended.set_result(None)

    run(main())


def test_start_tls_refuses_what_it_can_not_use(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match="sslcontext is expected to be"):
            await loop.start_tls(None, Recorder(), True)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not supported by start_tls"):
            await loop.start_tls(
                asyncio.WriteTransport(), Recorder(), client_context(), server_side=False
            )

    run(main())


def test_a_wrong_certificate_fails_on_the_client(
    run: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
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
        run(main())


def test_a_handshake_that_takes_too_long_is_given_up(run: Callable[[Any], Any]) -> None:
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

    run(main())


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_timeouts_are_positive(name: str) -> None:
    loop = carboy.new_event_loop()
    for value in (0, -1.5):
        settings: Any = {name: value}
        with pytest.raises(ValueError, match=f"{name} should be a positive number, got {value}"):
            TlsProtocol(loop, asyncio.Protocol(), client_context(), None, **settings)
    loop.close()


def test_a_peer_that_goes_during_the_handshake_is_an_error(run: Callable[[Any], Any]) -> None:
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

    run(main())


def test_a_peer_that_does_not_say_goodbye_is_not_waited_for(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with connected(ssl_shutdown_timeout=0.05) as (server, client):
            # The client no longer reads, so it never answers.
            client.transport._ssl_protocol._transport.pause_reading()
            server.transport.close()
            error = await server.ended
            assert isinstance(error, TimeoutError)
            assert "SSL shutdown timed out" in str(error)

    run(main())


def test_garbage_ends_the_connection(run: Callable[[Any], Any]) -> None:
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

    run(main())


class Failing(Recorder):
    def data_received(self, data: bytes) -> None:
        raise ZeroDivisionError


def test_an_error_of_the_protocol_is_reported_and_ends_the_connection(
    run: Callable[[Any], Any],
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

    run(main())


def test_nothing_is_left_of_a_connection_that_was_closed(run: Callable[[Any], Any]) -> None:
    async def main() -> list[Any]:
        async with connected() as (server, client):
            client.transport.write(b"x" * 100_000)
            await server.wait_for(lambda: len(server.data) == 100_000)
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

    references = run(main())
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
