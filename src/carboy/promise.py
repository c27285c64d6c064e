"""What promises need of Python: the coroutine that awaits for them, and their reports.

``Promise`` itself is native (``carboy._carboy.Promise``).
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable
    from types import CodeType

    from carboy._carboy import PromiseResolver

#: Frames of code in here are passed over when it is said where a promise was made.
OWN_FOLDER = os.path.dirname(__file__) + os.sep

#: Who runs the handlers of promises on which event loop.
owners_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = (
    weakref.WeakKeyDictionary()
)

_logger = logging.getLogger("carboy")


async def settle(awaitable: Awaitable[Any], resolver: PromiseResolver) -> None:
    """Await something for a promise.

    Its exception is the promise's. What ends a program ends the event loop, too.
    """
    try:
        value = await awaitable
    except (KeyboardInterrupt, SystemExit) as error:
        resolver.reject(error)
        raise
    except BaseException as error:  # noqa: BLE001 - Passed on whole, to where it belongs.
        resolver.reject(error)
    else:
        resolver.resolve(value)


def describe_place(code: CodeType, instruction: int) -> str:
    """Say which line an instruction belongs to: ``views.py:41 in home``."""
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{code.co_filename}:{line} in {code.co_qualname}"


def report_unhandled(error: BaseException, description: str) -> None:
    """Log that a promise failed and nobody looked at it."""
    if isinstance(error, Exception):
        _logger.error(
            "A promise failed, and nobody awaited it, took its result or caught its error (%s)",
            description,
            exc_info=error,
        )
