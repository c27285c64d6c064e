"""What keeps a connection from being there: each has its exception, within its time, and the pool
is whole afterwards."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING

import pytest
from support.pool import is_whole, serves_to_its_limit
from support.raw_upstream import Peer, RawUpstream

from carboy import http

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT_SECONDS = 0.4
PLACES = 2


def trickle(peer: Peer, *data: bytes) -> None:
    """Send byte after byte, the last one for ever, until the client goes."""
    peer.socket.settimeout(0.01)
    for byte in itertools.chain(b"".join(data), itertools.repeat(data[-1][-1])):
        peer.send(bytes([byte]))
        with contextlib.suppress(TimeoutError):
            peer.wait_for_end()
        if peer.has_ended.is_set():
            return


def trickling_tls(peer: Peer) -> None:
    # The largest record, with a server's first message in it.
    trickle(peer, b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03", b"\x00")


def http_proxy_that_trickles(peer: Peer) -> None:
    assert peer.read_request().startswith(b"CONNECT ")
    trickle(peer, b"HTTP/1.1 200 OK\r\nX-Slow: a")


def http_proxy_to_silence(peer: Peer) -> None:
    assert peer.read_request().startswith(b"CONNECT ")
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    peer.wait_for_end()


def http_proxy_with_interim_answers(peer: Peer) -> None:
    assert peer.read_request().startswith(b"CONNECT ")
    trickle(peer, b"HTTP/1.1 200 OK\r\n", b"\r")


def socks_proxy_that_trickles(peer: Peer) -> None:
    peer.read_some()
    peer.send(b"\x05\x00")
    peer.read_some()
    # The address that it has bound is a long name.
    trickle(peer, b"\x05\x00\x00\x03\xff", b"a")


def socks_proxy_that_stops(peer: Peer) -> None:
    peer.read_some()
    peer.send(b"\x05")
    peer.wait_for_end()


#: What the other side does, and the scheme of the proxy if it is one.
STALLS: dict[str, tuple[Callable[[Peer], object], str | None]] = {
    "TLS that is never spoken": (Peer.wait_for_end, None),
    "TLS that trickles": (trickling_tls, None),
    "a proxy without an answer": (Peer.wait_for_end, "http"),
    "a proxy that trickles": (http_proxy_that_trickles, "http"),
    "a proxy whose head never ends": (http_proxy_with_interim_answers, "http"),
    "a proxy that leads to silence": (http_proxy_to_silence, "http"),
    "a proxy without TLS": (Peer.wait_for_end, "https"),
    "a proxy with TLS that trickles": (trickling_tls, "https"),
    "SOCKS without an answer": (Peer.wait_for_end, "socks5h"),
    "SOCKS that stops": (socks_proxy_that_stops, "socks5h"),
    "SOCKS that trickles": (socks_proxy_that_trickles, "socks5h"),
}


@pytest.mark.parametrize(("stalls", "proxy_scheme"), STALLS.values(), ids=STALLS)
def test_what_stalls(stalls: Callable[[Peer], object], proxy_scheme: str | None) -> None:
    with RawUpstream(stalls) as upstream:
        if proxy_scheme is None:
            proxy, url = None, f"https://127.0.0.1:{upstream.port}/"
        else:
            proxy = {"https": f"{proxy_scheme}://127.0.0.1:{upstream.port}"}
            url = "https://upstream.example/"
        with http.Session(
            proxy=proxy,
            timeout=http.Timeout(connect=CONNECT_SECONDS, pool=8, total=10),
            limits=http.Limits(connections=PLACES, connections_per_host=PLACES),
            trust_env=False,
        ) as session:
            began = time.monotonic()
            # More than there are places: each has its own time, from when it has a place.
            for call in [session.get(url) for _ in range(2 * PLACES)]:
                with pytest.raises(
                    http.ConnectTimeout, match=f"within {CONNECT_SECONDS} s"
                ) as raised:
                    call.result()
                assert isinstance(raised.value, TimeoutError)
                assert raised.value.request is not None
                assert raised.value.request.url == url
            assert time.monotonic() - began < 8
            is_whole(session, 0)
            for peer in upstream.peers:
                assert peer.has_ended.wait(5), "the connection was closed"
            serves_to_its_limit(session, PLACES)


def test_calls_that_are_cancelled_while_they_connect() -> None:
    with (
        RawUpstream(Peer.wait_for_end) as upstream,
        http.Session(
            timeout=http.Timeout(connect=20, pool=20),
            limits=http.Limits(connections=PLACES, connections_per_host=PLACES),
            trust_env=False,
        ) as session,
    ):
        calls = [session.get(f"https://127.0.0.1:{upstream.port}/") for _ in range(3 * PLACES)]
        for call in calls[1::2] + calls[::2]:
            call.cancel()
        is_whole(session, 0)
        serves_to_its_limit(session, PLACES)


def test_a_total_time_that_is_shorter_than_that_for_connecting() -> None:
    with RawUpstream(Peer.wait_for_end) as upstream:
        limits = http.Timeout(connect=20, total=0.3)
        with http.Session(timeout=limits, trust_env=False) as session:
            with pytest.raises(http.TotalTimeout, match=r"0\.3 s"):
                session.get(f"https://127.0.0.1:{upstream.port}/").result()
            is_whole(session, 0)
