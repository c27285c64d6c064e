"""The error for a blocking call on the event loop's thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

#: Libraries whose frames are passed over when it is said where a call was made.
_LIBRARIES = frozenset(
    {"carboy", "requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2"}
)


class BlockingCallInAsyncView(RuntimeError):  # noqa: N818 - It says what is wrong by itself.
    """Sync code makes a blocking HTTP call where it would stop the event loop."""


def blocking_call_error(call: str) -> BlockingCallInAsyncView:
    """Make the error for a call that is about to block the loop.

    Args:
        call: What is called: ``GET http://example.org``.
    """
    return BlockingCallInAsyncView(
        f"{call} at {_caller()} would block the event loop, and with it every other request: use "
        "'await carboy.http.get(…)' or httpx.AsyncClient here, put the call into a 'def' view, or "
        "run it by 'await asyncio.to_thread(…)'"
    )


def _caller() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] not in _LIBRARIES:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown place"
