"""When each call of a request starts and ends, measured from the start of its view."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timeline:
    """Measures the calls that one request makes, from any number of threads or tasks."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._calls: list[dict[str, object]] = []

    @contextmanager
    def call(self, service: str) -> Iterator[None]:
        """Measure one call."""
        start_ms = self._elapsed_ms()
        try:
            yield
        finally:
            self._calls.append(
                {
                    "service": service,
                    "start_ms": start_ms,
                    "end_ms": self._elapsed_ms(),
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
            "duration_ms": self._elapsed_ms(),
            "calls": sorted(self._calls, key=lambda call: call["start_ms"]),
        }

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._started) * 1000, 2)
