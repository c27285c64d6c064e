"""The ways that calls of other libraries take: proxies, sockets of Unix, HTTP/2."""

from __future__ import annotations

import asyncio
import importlib
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from compat_servers import Upstream
from support.http2_upstream import Http2Upstream
from support.proxies import ConnectProxy, SocksProxy

import carboy
from carboy.compat import httpcore_message
from carboy.compat.urllib3_response import Response

if TYPE_CHECKING:
    from pathlib import Path

    import trustme
    from compat_servers import Received


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


def is_carboys(response: Any) -> bool:
    return isinstance(response.extensions["network_stream"], httpcore_message.NetworkStream)


def test_requests_through_socks(upstream: Upstream) -> None:
    with SocksProxy(upstream.port, (b"me", b"p@ss")) as proxy, requests.Session() as session:
        session.trust_env = False
        url = f"me:p%40ss@127.0.0.1:{proxy.port}"
        session.proxies = {"http": f"socks5h://{url}"}
        response = session.get("http://nowhere.example/far")
        assert isinstance(response.raw, Response)
        assert response.text == "ok"
        # The name is looked up here.
        session.proxies = {"http": f"socks5://{url}"}
        assert session.get("http://localhost/near").text == "ok"
        session.proxies = {"http": f"socks5h://me:wrong@127.0.0.1:{proxy.port}"}
        with pytest.raises(requests.ConnectionError, match="roxy"):
            session.get("http://nowhere.example/refused")
    assert proxy.addresses == [b"nowhere.example", b"127.0.0.1"]
    assert [received.line for received in upstream.received] == [
        "GET /far HTTP/1.1",
        "GET /near HTTP/1.1",
    ]


def test_httpx_through_socks(upstream: Upstream, library: Any) -> None:
    with SocksProxy(upstream.port, (b"me", b"p@ss")) as proxy:
        url = f"socks5://me:p%40ss@127.0.0.1:{proxy.port}"
        with library.Client(proxy=url, trust_env=False) as client:
            response = client.get("http://nowhere.example/far")
        assert is_carboys(response)
        assert response.text == "ok"
        wrong = url.replace("p%40ss", "wrong")
        with (
            library.Client(proxy=wrong, trust_env=False) as client,
            pytest.raises(library.ProxyError),
        ):
            client.get("http://nowhere.example/refused")
    assert proxy.addresses == [b"nowhere.example"]
    assert upstream.received[0].header("host") == "nowhere.example"


def test_httpx_through_a_tunnel(
    authority: trustme.CA, context: ssl.SSLContext, library: Any
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("upstream.example").configure_cert(server)
    with Upstream(server) as upstream, ConnectProxy(upstream.port) as proxy:
        options = {"proxy": f"http://me:pass@127.0.0.1:{proxy.port}", "verify": context}
        with library.Client(trust_env=False, **options) as client:
            assert is_carboys(client.get("https://upstream.example/"))
            client.get("https://upstream.example/")
    assert len(proxy.requests) == upstream.connections == 1


def test_httpx_over_a_socket_of_unix(library: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def get_soon() -> Any:
        transport = library.AsyncHTTPTransport(uds=path)
        async with library.AsyncClient(transport=transport) as client:
            return await client.get("http://service.example/soon")

    with Upstream(path=path) as upstream:
        with library.Client(transport=library.HTTPTransport(uds=path)) as client:
            responses = [client.get("http://service.example/now")]
        responses += [carboy.run(get_soon()), asyncio.run(get_soon())]
    assert [response.text for response in responses] == ["ok"] * 3
    assert all(map(is_carboys, responses))
    assert {received.header("host") for received in upstream.received} == {"service.example"}


def test_httpx_speaks_http2_if_it_is_to(
    authority: trustme.CA, context: ssl.SSLContext, library: Any
) -> None:
    async def get_three(url: str) -> list[Any]:
        async with library.AsyncClient(verify=context, http2=True, trust_env=False) as client:
            return await asyncio.gather(*(client.get(f"{url}/{number}") for number in range(3)))

    with Http2Upstream(authority.issue_cert("127.0.0.1")) as upstream:
        with library.Client(verify=context, http2=True, trust_env=False) as client:
            response = client.get(f"{upstream.url}/0")
        responses = carboy.run(get_three(upstream.url))
    assert len(upstream.peers) == 2
    assert [one.text for one in responses] == ["/0", "/1", "/2"]
    for one in (response, *responses):
        assert is_carboys(one)
        assert one.http_version == "HTTP/2"
        assert one.reason_phrase == "OK"


def test_httpx_takes_http1_where_the_server_knows_nothing_else(
    authority: trustme.CA, context: ssl.SSLContext, library: Any
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    with (
        Upstream(server) as upstream,
        library.Client(verify=context, http2=True, trust_env=False) as client,
    ):
        response = client.get(upstream.url)
    assert is_carboys(response)
    assert response.http_version == "HTTP/1.1"


@pytest.mark.parametrize(("kept", "expected"), [(1, 3), (0, 4), (None, 2)])
def test_no_more_idle_connections_of_httpx_are_kept_than_allowed(
    upstream: Upstream, library: Any, kept: int | None, expected: int
) -> None:
    together = threading.Barrier(2)

    def answer(_: Received, file: Any) -> None:
        together.wait(10)
        file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    upstream.answers["/"] = answer
    limits = library.Limits(max_connections=10, max_keepalive_connections=kept)

    async def get_twice() -> None:
        async with library.AsyncClient(limits=limits, trust_env=False) as client:
            for _ in range(2):
                await asyncio.gather(client.get(upstream.url), client.get(upstream.url))

    carboy.run(get_twice())
    assert upstream.connections == expected
