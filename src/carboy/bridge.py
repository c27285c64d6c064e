"""The coroutines that the native code makes tasks of.

They are Python on purpose: ``Task.get_stack()``, debuggers and tracebacks then show the
whole way from the task to the view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from carboy._carboy import Exchange, NativeEventLoop, Slot


async def deliver(loop: NativeEventLoop, awaitable: Awaitable[Any], slot: Slot) -> None:
    """Await something for a thread that waits at the bridge.

    Whatever it raises goes to that thread, ``SystemExit`` and ``KeyboardInterrupt`` too: in
    a task they would end the loop and with it everybody else's requests.
    """
    try:
        result = await awaitable
    except BaseException as error:  # noqa: BLE001 - Passed on whole, to where it belongs.
        slot.reject(loop, error)
    else:
        slot.resolve(loop, result)


async def serve_on_loop(exchange: Exchange) -> None:
    """Serve a request whose view is a coroutine and on whose way nothing is sync."""
    try:
        value = await exchange.begin()
        while (promise := exchange.finish(value)) is not None:
            value = await promise
    except BaseException as error:  # noqa: BLE001 - As in deliver().
        exchange.fail(error)
