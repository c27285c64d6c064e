"""Stands in for uvloop in suites that take their loop from there: all of it is carboy's.

The folder above is first on `PYTHONPATH`, so that programs which a test starts have it too.
uvloop's own suite finds its base classes, which are part of the package, in the sources that
`UVLOOP_SOURCE` names. With `STAND_IN=asyncio` all of it is asyncio's own: what fails with that
as well is uvloop's way and not asyncio's.
"""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

from loop_counter import count_loops

if os.environ.get("STAND_IN") == "asyncio":

    class EventLoop(asyncio.SelectorEventLoop):
        """asyncio's own, which the suite does not recognise by its module."""

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        _loop_factory: Any = EventLoop

    new_event_loop: Any = EventLoop
    run: Any = asyncio.run
else:
    from carboy import (  # type: ignore[assignment]
        EventLoop,
        EventLoopPolicy,
        new_event_loop,
        run,
    )

Loop = EventLoop
# AnyIO asks the class itself what it can do.
loop = SimpleNamespace(Loop=EventLoop)

if "UVLOOP_SOURCE" in os.environ:
    __path__.append(os.environ["UVLOOP_SOURCE"])

count_loops(EventLoop)

__all__ = ["EventLoopPolicy", "Loop", "new_event_loop", "run"]
