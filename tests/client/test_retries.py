"""When a call is made again: never unasked if the server may have acted on it."""

from __future__ import annotations

import statistics
import time

import pytest
from support.pool import is_whole
from support.raw_upstream import Peer, RawUpstream, ok

from carboy import http

LIMITS = http.Timeout(connect=2, read=2, total=5)
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


def busy_times(count: int, answer: bytes = BUSY) -> RawUpstream:
    """An upstream that is busy so many times, and then well."""

    def serve(peer: Peer) -> None:
        while request := peer.read_request():
            upstream.requests.append(request)
            peer.send(answer if len(upstream.requests) <= count else ok())

    upstream = RawUpstream(serve)
    return upstream


def quick(attempts: int = 2, **settings: object) -> http.Retries:
    return http.Retries(attempts, backoff=0.01, **settings)  # type: ignore[arg-type]


def test_nothing_is_repeated_unasked() -> None:
    with busy_times(1) as upstream, http.Session(timeout=LIMITS, trust_env=False) as session:
        assert session.get(upstream.url).result().status_code == 503
        assert len(upstream.requests) == 1


def test_statuses_are_repeated_when_asked_for() -> None:
    with busy_times(2) as upstream, http.Session(timeout=LIMITS, trust_env=False) as session:
        assert session.get(upstream.url, retries=quick(2)).result().text == "fine"
        assert len(upstream.requests) == 3
        assert len(upstream.peers) == 1, "what is busy is read to its end, and its connection kept"
        is_whole(session, 1)
    with busy_times(9) as upstream, http.Session(retries=quick(2), trust_env=False) as session:
        # The last answer is the caller's.
        response = session.get(upstream.url).result()
        assert (response.status_code, response.text) == (503, "busy")
        assert len(upstream.requests) == 3
        # A number means so many further attempts.
        session.get(upstream.url, retries=1).result()
        assert len(upstream.requests) == 5
        session.get(upstream.url, retries=0).result()
        assert len(upstream.requests) == 6


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_may_have_had_an_effect_is_not_repeated(method: str) -> None:
    with busy_times(1) as upstream, http.Session(retries=quick(), trust_env=False) as session:
        assert session.request(method, upstream.url, content=b"order").result().status_code == 503
        assert len(upstream.requests) == 1
    with busy_times(1) as upstream, http.Session(trust_env=False) as session:
        again = quick(any_method=True)
        response = session.request(method, upstream.url, content=b"order", retries=again).result()
        assert response.text == "fine"
        assert [request.endswith(b"order") for request in upstream.requests] == [True, True]


def test_a_stream_is_not_repeated() -> None:
    with busy_times(1) as upstream, http.Session(retries=quick(), trust_env=False) as session:
        pieces = iter([b"once", b"only"])
        assert session.put(upstream.url, content=pieces).result().status_code == 503
        assert sum(request.startswith(b"PUT ") for request in upstream.requests) == 1


def test_retry_after_is_kept_to() -> None:
    later = BUSY.replace(b"\r\nContent", b"\r\nRetry-After: 1\r\nContent")
    with busy_times(1, later) as upstream, http.Session(trust_env=False) as session:
        began = time.monotonic()
        assert session.get(upstream.url, retries=quick()).result().text == "fine"
        assert 0.95 <= time.monotonic() - began < 3


def test_who_does_not_want_to_wait_so_long_gets_the_answer_at_once() -> None:
    later = BUSY.replace(b"\r\nContent", b"\r\nRetry-After: 60\r\nContent")
    with busy_times(9, later) as upstream, http.Session(trust_env=False) as session:
        impatient = quick(longest_wait=30)
        began = time.monotonic()
        assert session.get(upstream.url, retries=impatient).result().status_code == 503
        assert time.monotonic() - began < 30
        assert len(upstream.requests) == 1


def test_a_wait_that_cannot_end_before_the_deadline_is_not_begun() -> None:
    later = BUSY.replace(b"\r\nContent", b"\r\nRetry-After: 60\r\nContent")
    with busy_times(9, later) as upstream, http.Session(trust_env=False) as session:
        began = time.monotonic()
        patient = quick(longest_wait=90)
        response = session.get(upstream.url, retries=patient, timeout=30).result()
        assert response.status_code == 503
        assert time.monotonic() - began < 30
        assert len(upstream.requests) == 1


def test_waits_double_and_are_spread() -> None:
    waits = []
    for _ in range(6):
        with busy_times(3) as upstream, http.Session(trust_env=False) as session:
            began = time.monotonic()
            again = http.Retries(3, backoff=0.05)
            assert session.get(upstream.url, retries=again).result().text == "fine"
            waits.append(time.monotonic() - began)
    # Between nothing and 0.05 + 0.1 + 0.2 s, and not all alike. Some may have been disturbed
    # by what else the machine does.
    assert statistics.median(waits) < 0.35 + 0.3
    assert max(waits) - min(waits) > 0.01


def test_a_storm_of_retries_ends() -> None:
    with busy_times(10_000) as upstream, http.Session(trust_env=False) as session:
        instantly = http.Retries(3, backoff=0)
        for _ in range(100):
            assert session.get(upstream.url, retries=instantly).result().status_code == 503
        # Ten are free, and every call earns a fifth: not three times a hundred.
        assert 100 + 10 <= len(upstream.requests) <= 100 + 10 + 20 + 1


def test_a_connection_that_is_closed_instead_of_an_answer() -> None:
    def serve(peer: Peer) -> None:
        upstream.requests.append(peer.read_request())
        peer.send(ok())
        # The second request is read, and not answered: the server may have acted on it.
        upstream.requests.append(peer.read_request())

    with RawUpstream(serve) as upstream, http.Session(timeout=LIMITS, trust_env=False) as session:
        for method in ("GET", "PUT", "POST"):
            upstream.requests.clear()
            assert session.get(upstream.url).result().text == "fine"
            advice = "any_method=True" if method == "POST" else "Retries ask"
            with pytest.raises(http.RemoteProtocolError, match=advice):
                session.request(method, upstream.url).result()
            assert len(upstream.requests) == 2, f"{method} was not sent again"
            is_whole(session, 0)
        # Who wants it says so.
        upstream.requests.clear()
        assert session.get(upstream.url).result().text == "fine"
        assert session.get(upstream.url, retries=quick(1)).result().text == "fine"


def test_a_refused_connection_is_tried_again() -> None:
    with RawUpstream.answering(ok()) as upstream:
        url = upstream.url
    with http.Session(trust_env=False, timeout=LIMITS) as session:
        with pytest.raises(http.ConnectError):
            session.post(url, content=b"x", retries=quick(2)).result()
        is_whole(session, 0)
