"""The loops that a suite is run on."""

from __future__ import annotations

from enum import Enum


class Loop(Enum):
    """What takes the place of the loop under test."""

    DEFAULT = "default"
    """What the suite was written for: asyncio's default loop, or uvloop."""
    CARBOY = "carboy"
    ASYNCIO = "asyncio"
    """asyncio's own, where the suite was written for another: what it does is right, too."""
