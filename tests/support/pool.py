"""Whether a client's pool is whole: nothing is lost in it, and nothing waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.waiting import eventually

if TYPE_CHECKING:
    from carboy import http


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
