"""HTTP/2, where the server offers it: many calls share a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme
from support.http2_upstream import Http2Upstream
from support.pool import is_whole, numbers
from support.waiting import eventually

import carboy
from carboy import http

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def upstream() -> Iterator[Http2Upstream]:
    authority = trustme.CA()
    with Http2Upstream(authority.issue_cert("127.0.0.1")) as upstream:
        upstream.authority = authority  # type: ignore[attr-defined]
        yield upstream


@pytest.fixture
def session(upstream: Http2Upstream, tmp_path: Path) -> Iterator[http.Session]:
    trusted = tmp_path / "authority.pem"
    upstream.authority.cert_pem.write_to_path(str(trusted))  # type: ignore[attr-defined]
    with http.Session(base_url=upstream.url, verify=trusted, trust_env=False) as session:
        yield session


def test_many_calls_share_one_connection(upstream: Http2Upstream, session: http.Session) -> None:
    first = session.get("/first").result()
    assert first.http_version == "HTTP/2"
    promises = [session.get("/held") for _ in range(20)]
    eventually(lambda: upstream.most_at_once == 20, what="all calls are on their way at once")
    # One that comes later is answered earlier.
    assert session.get("/early").result().text == "/early"
    assert numbers(session) == (1, 0, 0)
    upstream.held.set()
    assert {promise.result().text for promise in promises} == {"/held"}
    assert len(upstream.peers) == 1
    is_whole(session, 1)


def test_who_gives_up_gives_up_its_stream_only(
    upstream: Http2Upstream, session: http.Session
) -> None:
    kept, given_up = session.get("/held"), session.get("/held")
    eventually(lambda: upstream.most_at_once == 2)
    given_up.cancel()
    eventually(lambda: upstream.reset_streams == 1, what="the server is told")
    upstream.held.set()
    assert kept.result().text == "/held"
    assert len(upstream.peers) == 1
    is_whole(session, 1)


def test_the_loop_calls_side_by_side(upstream: Http2Upstream, session: http.Session) -> None:
    async def main() -> list[str]:
        promises = [session.get(f"/{number}") for number in range(50)]
        return [(await promise).text for promise in promises]

    assert carboy.run(main()) == [f"/{number}" for number in range(50)]
    assert len(upstream.peers) == 1


def test_http1_can_be_asked_for(upstream: Http2Upstream, session: http.Session) -> None:
    old = http.Session(verify=session.verify, http_versions="1.1", trust_env=False)
    # This server knows HTTP/2 only, and closes.
    with old, pytest.raises(http.HTTPError):
        old.get(upstream.url).result()
    upstream.failures.clear()
    with pytest.raises(ValueError, match="none of negotiated"):
        http.Session(http_versions="3").get(upstream.url)
