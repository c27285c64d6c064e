"""A pytest plugin for uvloop's suite: its tests for asyncio's own loop get carboy's too.

Most of that suite's tests exist twice, for uvloop and for asyncio, and expect what is right
for the one or the other where they differ.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

from uvloop import _testbase

import carboy

if TYPE_CHECKING:
    import asyncio

    import pytest

IN_A_PROGRAM = "asyncio.new_event_loop()"
"""How tests that start a program of their own say what loop it is to have."""


def new_loop(self: Any) -> asyncio.AbstractEventLoop:
    return carboy.new_event_loop()


def new_policy(self: Any) -> asyncio.AbstractEventLoopPolicy:
    return carboy.EventLoopPolicy()


def pytest_configure() -> None:
    if os.environ["STAND_IN"] == "asyncio":
        return
    _testbase.AIOTestCase.new_loop = new_loop
    _testbase.AIOTestCase.new_policy = new_policy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ["STAND_IN"] == "asyncio":
        return
    for item in items:
        test_class: Any = getattr(item, "cls", None)
        if getattr(test_class, "NEW_LOOP", None) == IN_A_PROGRAM:
            test_class.NEW_LOOP = "__import__('carboy').new_event_loop()"


def pytest_collection_finish() -> None:
    """Spare the collector, which each test calls three times, what was there before."""
    gc.collect()
    gc.freeze()
