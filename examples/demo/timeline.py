"""When each call of a request starts and ends, measured from the start of its view.

The views that use carboy's client need not measure: it keeps a timeline itself.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from services import SERVICES, url

from carboy import http


class Timeline:
    """Measures the calls that one request makes, from any number of threads or tasks."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._calls: list[dict[str, object]] = []

    @contextmanager
    def call(self, service: str) -> Iterator[None]:
        """Measure one call."""
        start_ms = self.elapsed_ms()
        try:
            yield
        finally:
            self._calls.append(
                {
                    "service": service,
                    "start_ms": start_ms,
                    "end_ms": self.elapsed_ms(),
                    "thread": threading.get_ident(),
                }
            )

    def finish(self, *, profile: object, orders: object, recommendations: object) -> dict:
        """Return what the view answers: the dashboard's data and the measurement."""
        return {
            "dashboard": {
                "profile": profile,
                "orders": orders,
                "recommendations": recommendations,
            },
            "duration_ms": self.elapsed_ms(),
            "calls": self.calls(),
        }

    def calls(self) -> list[dict[str, object]]:
        """Return what was measured, in the order of the calls' start."""
        return sorted(self._calls, key=lambda call: call["start_ms"])

    def elapsed_ms(self) -> float:
        """Return how long the view has taken so far."""
        return self._milliseconds(time.perf_counter())

    def _milliseconds(self, at: float) -> float:
        return round((at - self._started) * 1000, 2)


class KeptTimeline(Timeline):
    """The same of calls that `carboy.http` makes, as it has kept them.

    It does so in debug mode, or with `CARBOY_HTTP_TIMELINE=1` in the environment. Besides, it
    knows how long each phase of a call took, and which call needed which one's answer.
    """

    def calls(self) -> list[dict[str, object]]:
        """Return the calls of this request."""
        return [
            {
                "service": service_of(call.url),
                "start_ms": self._milliseconds(call.began),
                "end_ms": self._milliseconds(call.ended),
                # Where the view waited, or was told the answer. All calls are made by the server's
                # own thread.
                "thread": threading.get_ident(),
                "phases": [
                    [name, self._milliseconds(begin), self._milliseconds(end)]
                    for name, begin, end in call.phases
                ],
                "depends_on": [service_of(before.url) for before in call.depends_on],
            }
            for call in http.timeline()
            if call.ended is not None
        ]


def service_of(address: str) -> str:
    """Return the name of the service that has this address."""
    host = urlsplit(address).netloc
    return next(s.name for s in SERVICES if urlsplit(url(s.name, "")).netloc == host)
