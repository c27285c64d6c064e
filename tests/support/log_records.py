"""Waiting for what is logged, and acting on it while it is being logged."""

from __future__ import annotations

import contextlib
import logging
import queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_SECONDS = 20.0


class Records(logging.Handler):
    """Keeps the messages of a logger, and calls a function with each of them."""

    def __init__(self, react: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self._react = react
        self._queue: queue.Queue[str] = queue.Queue()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        message = record.getMessage()
        self.messages.append(message)
        self._queue.put(message)
        if self._react is not None:
            self._react(message)

    def next(self) -> str:
        """Wait for the next message."""
        return self._queue.get(timeout=TIMEOUT_SECONDS)


@contextlib.contextmanager
def records_of(name: str, react: Callable[[str], object] | None = None) -> Iterator[Records]:
    """Take what a logger logs during the block."""
    logger = logging.getLogger(name)
    records = Records(react)
    logger.addHandler(records)
    try:
        yield records
    finally:
        logger.removeHandler(records)
