"""Which calls go through which proxy, and what the proxy is told."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from support.pool import is_whole
from support.proxies import ConnectProxy, SocksProxy
from support.raw_upstream import Peer, RawUpstream, ok

from carboy import http

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    import trustme

LIMITS = http.Timeout(connect=2, read=2, total=5)
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[RawUpstream]:
    """An upstream with TLS."""
    import ssl as ssl_module

    context: ssl.SSLContext = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "upstream.example").configure_cert(context)

    def answer(peer: Peer) -> None:
        while peer.read_request():
            peer.send(ok(b"secret"))

    with RawUpstream(answer, context) as upstream:
        yield upstream


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_http_urls_are_sent_to_the_proxy_whole() -> None:
    with RawUpstream.answering(ok(b"from the proxy")) as proxy:
        url = proxy.url.replace("//", "//me:p%40ss@")
        with http.Session(proxy=url, timeout=LIMITS) as session:
            response = session.get("http://nowhere.example/path?a=1").result()
            assert response.text == "from the proxy"
            is_whole(session, 1)
    head = proxy.requests[0].decode()
    assert head.startswith("GET http://nowhere.example/path?a=1 HTTP/1.1\r\n")
    assert f"proxy-authorization: {basic('me', 'p@ss')}".lower() in head.lower()
    assert "host: nowhere.example\r\n" in head.lower()


def test_https_urls_go_through_a_tunnel(
    authority: trustme.CA, secure: RawUpstream, tmp_path: Path
) -> None:
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with ConnectProxy(secure.port) as proxy:
        url = proxy.url.replace("//", "//me:pass@")
        with http.Session(
            proxy={"https": url}, verify=trusted, timeout=LIMITS, headers={"X-Secret": "1"}
        ) as session:
            response = session.get("https://upstream.example/path").result()
            assert response.text == "secret"
            # The tunnel is kept, for this host.
            assert session.get("https://upstream.example/2").result().timings["reused"]
            is_whole(session, 1)
    assert len(proxy.requests) == 1
    head = proxy.requests[0].decode()
    assert head.startswith("CONNECT upstream.example:443 HTTP/1.1\r\n")
    assert f"proxy-authorization: {basic('me', 'pass')}".lower() in head.lower()
    assert "x-secret" not in head.lower(), "what is meant for the server is not for the proxy"


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_socks(scheme: str) -> None:
    with (
        RawUpstream.answering(ok(b"behind socks")) as upstream,
        SocksProxy(upstream.port, (b"me", b"pass")) as proxy,
    ):
        # Only the proxy can look up a name that does not exist here.
        host = "nowhere.example" if scheme == "socks5h" else "localhost"
        url = f"{scheme}://me:pass@127.0.0.1:{proxy.port}"
        with http.Session(proxy=url, timeout=LIMITS) as session:
            assert session.get(f"http://{host}/path").result().text == "behind socks"
            is_whole(session, 1)
        assert proxy.addresses[0] in (b"nowhere.example", b"127.0.0.1")
        assert upstream.requests[0].startswith(b"GET /path HTTP/1.1\r\n")
        wrong = f"{scheme}://me:wrong@127.0.0.1:{proxy.port}"
        with http.Session(proxy=wrong, timeout=LIMITS) as session:
            with pytest.raises(http.ProxyError):
                session.get(f"http://{host}/").result()
            is_whole(session, 0)


def test_proxies_that_refuse_or_are_not_there() -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with (
        RawUpstream.answering(answer) as proxy,
        http.Session(proxy=proxy.url, timeout=LIMITS) as session,
    ):
        with pytest.raises(http.ProxyError, match="407") as raised:
            session.get("https://upstream.example/").result()
        assert isinstance(raised.value, ConnectionError)
        assert session.get("http://upstream.example/").result().status_code == 407
        is_whole(session)
    with http.Session(proxy=f"http://127.0.0.1:{proxy.port}", timeout=LIMITS) as session:
        with pytest.raises(http.ProxyError, match="can't be reached"):
            session.get("http://upstream.example/").result()
        is_whole(session, 0)
    with pytest.raises(ValueError, match="none of http, https, socks5"):
        http.Session(proxy="gopher://127.0.0.1/").get("http://upstream.example/")


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        RawUpstream.answering(ok(b"direct")) as upstream,
        RawUpstream.answering(ok(b"proxied")) as proxy,
    ):

        def text(url: str, **settings: object) -> str:
            with http.Session(timeout=LIMITS, **settings) as session:  # type: ignore[arg-type]
                return session.get(url).result().text

        monkeypatch.setenv("http_proxy", proxy.url)
        assert text(upstream.url) == "proxied"
        assert text(upstream.url, trust_env=False) == "direct"
        for excepted in ("127.0.0.1", "127.0.0.0/8", "example.org, 127.0.0.0/24", "*"):
            monkeypatch.setenv("NO_PROXY", excepted)
            assert text(upstream.url) == "direct", excepted
        for other in ("10.0.0.0/8", "example.org", "127.0.0.2"):
            monkeypatch.setenv("NO_PROXY", other)
            assert text(upstream.url) == "proxied", other
        address = upstream.url.removeprefix("http://")
        for excepted in (address, f"example.org {address}", "*:" + address.rpartition(":")[2]):
            monkeypatch.setenv("NO_PROXY", excepted)
            assert text(upstream.url) == "direct", excepted
        monkeypatch.setenv("NO_PROXY", "127.0.0.1:1,*.example.org")
        assert text("http://sub.nowhere.example/") == "proxied"
        assert text(upstream.url) == "proxied"
        with pytest.raises(http.ResolveError):
            text("http://sub.example.org/")
        for unusable in ("foo://proxy", "http://[::1", "socks4://proxy"):
            monkeypatch.setenv("http_proxy", unusable)
            with pytest.raises(
                http.ProxyError, match=r"^http_proxy: the proxy's URL can't be used"
            ):
                text(upstream.url)


def test_no_proxy_of_a_session() -> None:
    with (
        RawUpstream.answering(ok(b"direct")) as upstream,
        RawUpstream.answering(ok(b"proxied")) as proxy,
    ):
        for no_proxy, expected in (("127.0.0.0/8", "direct"), ("192.168.0.0/16", "proxied")):
            with http.Session(proxy=proxy.url, no_proxy=no_proxy, timeout=LIMITS) as session:
                assert session.get(upstream.url).result().text == expected
