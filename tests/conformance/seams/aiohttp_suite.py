"""A pytest plugin for aiohttp's suite, which looks for garbage after each test.

Its fixtures make a full collection for each loop. With what pytest keeps of thousands of
collected tests that would take ten times as long as the tests do.
"""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Spare the collector what was there before the first test."""
    gc.collect()
    gc.freeze()
