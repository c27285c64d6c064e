"""httpx and httpx2 over carboy's pool, sync and async, on carboy's loop and asyncio's."""

from __future__ import annotations

import asyncio
import gc
import gzip
import importlib
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from compat_servers import answer, chunked

import carboy
from carboy.compat import exchange
from carboy.compat.blocking import BlockingCallInAsyncView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from compat_servers import Received, Upstream


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


@pytest.fixture
def client(library: Any) -> Iterator[Any]:
    with library.Client(trust_env=False) as client:
        yield client


@pytest.fixture(params=["carboy", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return carboy.run if request.param == "carboy" else asyncio.run


def is_carboys(response: Any) -> bool:
    network = response.extensions["network_stream"]
    return type(network).__module__ == "carboy.compat.httpcore_message"


def test_a_request_goes_out_as_httpx_has_made_it(upstream: Upstream, client: Any) -> None:
    response = client.get(f"{upstream.url}/a%20b;x?q=%7C", headers={"X-Own": "1"})
    assert is_carboys(response)
    assert response.text == "ok"
    (received,) = upstream.received
    assert received.line == "GET /a%20b;x?q=%7C HTTP/1.1"
    assert received.headers[0] == ("Host", f"127.0.0.1:{upstream.port}")
    assert received.header("user-agent").startswith("python-httpx")


def test_the_head_of_a_response(upstream: Upstream, client: Any) -> None:
    upstream.answers["/"] = answer("X-FoO: 1", "Set-Cookie: a=b", status="203 Odd", body=b"x")
    response = client.get(upstream.url)
    assert (response.status_code, response.reason_phrase) == (203, "Odd")
    assert response.http_version == "HTTP/1.1"
    assert (b"X-FoO", b"1") in response.headers.raw
    assert client.cookies["a"] == "b"
    assert response.extensions["network_stream"].get_extra_info("server_addr") is None


def test_content(upstream: Upstream, client: Any) -> None:
    content = bytes(range(256)) * 4000
    upstream.answers["/gzip"] = answer("Content-Encoding: gzip", body=gzip.compress(content))
    upstream.answers["/chunked"] = chunked(b"one", b"two")
    assert client.get(f"{upstream.url}/gzip").content == content
    with client.stream("GET", f"{upstream.url}/gzip") as response:
        assert b"".join(response.iter_bytes(1000)) == content
    assert client.get(f"{upstream.url}/chunked").content == b"onetwo"
    assert {received.connection for received in upstream.received} == {1}


def test_uploads(upstream: Upstream, client: Any) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        yield b"two"

    client.post(upstream.url, content=b"bytes")
    client.post(upstream.url, content=pieces())
    client.post(upstream.url, files={"f": b"file"}, data={"a": "1"})
    client.post(upstream.url)
    first, generated, multipart, empty = upstream.received
    assert first.body == b"bytes"
    assert (generated.body, generated.header("transfer-encoding")) == (b"onetwo", "chunked")
    assert b"file" in multipart.body
    assert multipart.header("content-length") == str(len(multipart.body))
    assert empty.header("content-length") == "0"


def test_errors(upstream: Upstream, library: Any, client: Any) -> None:
    gone = threading.Event()
    upstream.answers["/nothing"] = lambda request, file: True
    upstream.answers["/noise"] = b"noise\r\n\r\n"
    upstream.answers["/never"] = lambda request, file: gone.wait(10)
    with pytest.raises(library.ConnectError, match=r"\[Errno 111\] Connection refused"):
        client.get("http://127.0.0.1:1/")
    with pytest.raises(library.ConnectError):
        client.get("http://nowhere.invalid/")
    for path in ("/nothing", "/noise"):
        with pytest.raises(library.RemoteProtocolError):
            client.get(upstream.url + path)
    with pytest.raises(library.ReadTimeout) as raised:
        client.get(f"{upstream.url}/never", timeout=library.Timeout(5, read=0.05))
    assert raised.value.request.url == f"{upstream.url}/never"
    gone.set()
    with pytest.raises(library.LocalProtocolError):
        client.get(upstream.url, headers={"bad name": "x"})
    with pytest.raises(library.UnsupportedProtocol):
        client.get("ftp://127.0.0.1/")


def test_a_full_pool(upstream: Upstream, library: Any) -> None:
    upstream.answers["/large"] = answer(body=b"x" * 5_000_000)
    limits = library.Limits(max_connections=1)
    timeout = library.Timeout(5, pool=0.05)
    with (
        library.Client(limits=limits, timeout=timeout, trust_env=False) as client,
        client.stream("GET", f"{upstream.url}/large"),
        pytest.raises(library.PoolTimeout),
    ):
        client.get(upstream.url)


def test_retries_of_connections(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    send = exchange.send

    def count(transport: Any, arguments: Any, pump: Any) -> Any:
        calls.append(arguments[1])
        return send(transport, arguments, pump)

    monkeypatch.setattr(exchange, "send", count)
    for retries in (0, 1):
        calls.clear()
        transport = library.HTTPTransport(retries=retries)
        with library.Client(transport=transport) as client, pytest.raises(library.ConnectError):
            client.get("http://127.0.0.1:1/")
        assert calls == ["http://127.0.0.1:1"] * (1 + retries)


def test_proxies(upstream: Upstream, library: Any) -> None:
    proxy = f"http://user:pass@127.0.0.1:{upstream.port}"
    with library.Client(proxy=proxy, trust_env=False) as client:
        assert is_carboys(client.get("http://elsewhere.test/path"))
    (received,) = upstream.received
    assert received.line == "GET http://elsewhere.test/path HTTP/1.1"
    assert received.header("proxy-authorization") == "Basic dXNlcjpwYXNz"


def test_traces_and_upgrades_go_the_old_way(upstream: Upstream, client: Any) -> None:
    events: list[str] = []
    extensions = {"trace": lambda name, info: events.append(name)}
    assert not is_carboys(client.get(upstream.url, extensions=extensions))
    assert "connection.connect_tcp.started" in events
    assert not is_carboys(client.get(upstream.url, headers={"Upgrade": "websocket"}))


def test_async_calls_side_by_side(
    upstream: Upstream, library: Any, run: Callable[[Any], Any]
) -> None:
    barrier = threading.Barrier(5)

    def together(request: Received, file: Any) -> None:
        barrier.wait(10)
        file.write(answer(body=b"together"))

    upstream.answers["/"] = together

    async def main() -> list[str]:
        async with library.AsyncClient(trust_env=False) as client:
            calls = [client.get(upstream.url) for _ in range(5)]
            responses = await asyncio.gather(*calls)
            assert all(is_carboys(response) for response in responses)
            return [response.text for response in responses]

    assert run(main()) == ["together"] * 5


def test_async_streams_and_uploads(
    upstream: Upstream, library: Any, run: Callable[[Any], Any]
) -> None:
    upstream.answers["/large"] = answer(body=b"x" * 3_000_000)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(0)
        yield b"two"

    async def failing() -> AsyncIterator[bytes]:
        yield b"one"
        raise ValueError("no more")

    async def main() -> None:
        async with library.AsyncClient(trust_env=False) as client:
            async with client.stream("GET", f"{upstream.url}/large") as response:
                size = 0
                async for piece in response.aiter_bytes():
                    size += len(piece)
            assert size == 3_000_000
            await client.post(upstream.url, content=pieces())
            with pytest.raises(ValueError, match="no more"):
                await client.post(upstream.url, content=failing())
            with pytest.raises(library.ConnectError):
                await client.get("http://127.0.0.1:1/")

    run(main())
    assert upstream.received[1].body == b"onetwo"


def test_a_cancelled_call_leaves_its_connection(
    upstream: Upstream, library: Any, run: Callable[[Any], Any]
) -> None:
    began, gone = threading.Event(), threading.Event()

    def never(request: Received, file: Any) -> bool:
        began.set()
        # The next read ends when the client has closed the connection.
        threading.Timer(0, gone.set).start()
        return False

    upstream.answers["/never"] = never

    async def main() -> None:
        limits = library.Limits(max_connections=1)
        async with library.AsyncClient(limits=limits, trust_env=False) as client:
            call = asyncio.ensure_future(client.get(f"{upstream.url}/never"))
            await asyncio.to_thread(began.wait, 10)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await client.get(upstream.url)).text == "ok"

    run(main())
    assert upstream.connections == 2


def test_a_client_outlives_loops(upstream: Upstream, library: Any) -> None:
    client = library.AsyncClient(trust_env=False)

    async def call() -> str:
        text: str = (await client.get(upstream.url)).text
        return text

    assert [carboy.run(call()), asyncio.run(call()), carboy.run(call())] == ["ok"] * 3
    asyncio.run(client.aclose())


def test_on_carboys_loop_a_blocking_call_says_where_it_is(upstream: Upstream, library: Any) -> None:
    async def view() -> None:
        library.get(upstream.url, trust_env=False)

    with pytest.raises(BlockingCallInAsyncView, match=r"test_installed_httpx\.py:\d+ would block"):
        carboy.run(view())
    asyncio.run(view())
    assert len(upstream.received) == 1


def test_transports_for_one_client(
    upstream: Upstream, library: Any, run: Callable[[Any], Any]
) -> None:
    carboy.uninstall(library.__name__)
    compat = importlib.import_module(f"carboy.compat.{library.__name__}")
    assert not is_carboys(library.get(upstream.url, trust_env=False))
    with library.Client(transport=compat.Transport()) as client:
        assert is_carboys(client.get(upstream.url))

    async def main() -> bool:
        async with library.AsyncClient(transport=compat.AsyncTransport()) as client:
            return is_carboys(await client.get(upstream.url))

    assert run(main())


def test_a_header_with_whitespace_around_it_is_refused_as_httpcore_does(
    upstream: Upstream, library: Any, client: Any
) -> None:
    client.get(upstream.url)
    for value in (" a", "a ", "\ta"):
        with pytest.raises(library.LocalProtocolError, match="Illegal header value"):
            client.get(upstream.url, headers={"X-A": value})
    assert len(upstream.received) == 1


def test_a_response_that_was_read_is_let_go_of_at_once(upstream: Upstream, client: Any) -> None:
    client.get(upstream.url)
    gc.disable()
    try:
        response = weakref.ref(client.get(upstream.url))
        assert response() is None
    finally:
        gc.enable()


def test_how_long_a_call_took_is_known_after_its_stream_was_closed_again(
    upstream: Upstream, client: Any
) -> None:
    client.get(upstream.url)
    response = client.get(upstream.url)
    before = response.elapsed
    response.stream.close()
    assert response.elapsed > before
