"""An application on a real socket of this process, with what the server counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from carboy.testing import LiveServer
from support.raw_http import Connection, RawResponse, fetch
from support.waiting import eventually

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Live:
    """A live server and short ways to talk to it.

    Nothing watches for blocking views unless a test asks for it: on a busy machine any view can
    take a second, and tests of what is logged would find that.
    """

    def __init__(self, application: WSGIApplication, **settings: Any) -> None:
        settings.setdefault("blocking_threshold_seconds", 0)
        self.live_server = LiveServer(application, **settings)

    def __enter__(self) -> Self:
        self.live_server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live_server.stop()
        # Workers end when they have nothing left to do; then nothing of a test goes on.
        eventually(
            lambda: self.live_server.server.statistics()["worker_threads"] == 0,
            what="the workers have ended",
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.live_server.host, self.live_server.port

    @property
    def url(self) -> str:
        """The address without a path."""
        return self.live_server.url

    def connect(self, **settings: Any) -> Connection:
        """Open a connection."""
        return Connection(self.address, **settings)

    def get(self, target: str = "/", headers: list[tuple[str, str]] | None = None) -> RawResponse:
        """Make a GET request on a connection of its own."""
        return fetch(self.address, "GET", target, headers)

    def post(
        self, target: str, body: bytes, headers: list[tuple[str, str]] | None = None
    ) -> RawResponse:
        """Make a POST request on a connection of its own."""
        return fetch(self.address, "POST", target, headers, body)

    def statistics(self) -> dict[str, int]:
        """What the server counted."""
        return self.live_server.server.statistics()

    def paths_taken(self) -> dict[str, int]:
        """How many requests took which path: on the loop, or on a worker and why."""
        return paths_taken(self.statistics())


def paths_taken(statistics: dict[str, int]) -> dict[str, int]:
    """The path counters of statistics, by short names: ``loop``, or the reason."""
    paths = {}
    for name, count in statistics.items():
        if name == "served_on_loop" and count:
            paths["loop"] = count
        elif name.startswith("worker_because_") and count:
            paths[name.removeprefix("worker_because_")] = count
    return paths
