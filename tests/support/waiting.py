"""Waiting for a state, with a bound."""

import time
from collections.abc import Callable

TIMEOUT_SECONDS = 10.0


def eventually(
    condition: Callable[[], object], *, timeout: float = TIMEOUT_SECONDS, what: str = ""
) -> None:
    """Wait until a condition holds, or fail and say what did not come about."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.002)
