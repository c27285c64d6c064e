"""The event loop policy, for code that takes its loop from ``asyncio.new_event_loop()``.

Policies are deprecated since CPython 3.14 and end with 3.16. ``asyncio.Runner`` and
``carboy.run`` take a loop factory instead, and need none.
"""

from __future__ import annotations

import asyncio.unix_events
from typing import TYPE_CHECKING, Any

from carboy.event_loop import EventLoop

__all__ = ["EventLoopPolicy"]

if TYPE_CHECKING:
    DefaultPolicy = asyncio.DefaultEventLoopPolicy
else:
    # CPython 3.14 warns whoever asks `asyncio` for the public name, so it is not asked there.
    DefaultPolicy: Any = getattr(asyncio.unix_events, "_DefaultEventLoopPolicy", None)
    if DefaultPolicy is None:
        DefaultPolicy = getattr(asyncio.unix_events, "DefaultEventLoopPolicy", object)


class EventLoopPolicy(DefaultPolicy):
    """Makes every loop that is asked for by ``asyncio.new_event_loop`` a loop of carboy.

    ``asyncio.set_event_loop_policy(carboy.EventLoopPolicy())`` puts it in force for the whole
    process; everything else is as with asyncio's own default policy. See
    ``asyncio.AbstractEventLoopPolicy`` for the interface.

    Raises:
        RuntimeError: If this Python has no policies any more.
    """

    _loop_factory = EventLoop

    def __init__(self) -> None:
        if DefaultPolicy is object:
            raise RuntimeError(
                "this Python has no event loop policies: pass carboy.new_event_loop to"
                " asyncio.Runner(loop_factory=...), or call carboy.run()"
            )
        super().__init__()
