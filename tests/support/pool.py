"""Whether a client's pool is whole: nothing is lost in it, and nothing waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from carboy import http
from support.raw_upstream import RawUpstream, ok
from support.waiting import eventually

if TYPE_CHECKING:
    from support.raw_upstream import Peer


def numbers(session: http.Session) -> tuple[int, int, int]:
    """Return how many connections there are, idle ones, and calls that wait, from sync code."""
    return session.statistics().result(10)


def is_whole(session: http.Session, connections: int | None = None) -> None:
    """Wait until each connection is idle and no call waits.

    Args:
        session: Whose pool.
        connections: How many connections there are to be then.
    """

    def settled() -> bool:
        open_now, idle, waiting = numbers(session)
        return open_now == idle and not waiting and connections in (None, open_now)

    eventually(settled, what=f"the pool is whole: {numbers(session)}")


def serves_to_its_limit(session: http.Session, places: int) -> None:
    """Use all places of a pool at once, and each of them again.

    Args:
        session: Whose pool. It has no other connection.
        places: How many connections there may be to one host.
    """

    def serve(peer: Peer) -> None:
        while peer.read_request():
            # Nobody is answered before so many have come.
            all_there.wait(10)
            peer.send(ok())

    all_there = threading.Barrier(places)
    limits = http.Timeout(connect=10, read=10, pool=10, total=20)
    with RawUpstream(serve) as upstream:
        calls = [session.get(upstream.url, timeout=limits) for _ in range(2 * places)]
        assert [call.result().text for call in calls] == ["fine"] * len(calls)
        assert len(upstream.peers) == places
        is_whole(session, places)
