"""Stands in for uvloop in suites that take their loop from there: all of it is carboy's.

The folder above is first on `PYTHONPATH`, so that programs which a test starts have it too.
uvloop's own suite finds its base classes, which are part of the package, in the sources that
`UVLOOP_SOURCE` names.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

from loop_counter import count_loops

from carboy import EventLoop, EventLoopPolicy, new_event_loop, run

Loop = EventLoop
# AnyIO asks the class itself what it can do.
loop = SimpleNamespace(Loop=EventLoop)

if "UVLOOP_SOURCE" in os.environ:
    __path__.append(os.environ["UVLOOP_SOURCE"])

count_loops(EventLoop)

__all__ = ["EventLoopPolicy", "Loop", "new_event_loop", "run"]
