"""One request of another library over carboy's pool, noted in the timeline of who makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carboy.compat.upload import SourceError
from carboy.http.timeline import begin_call, is_kept, note_known_calls

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from carboy._carboy import PlainResponse, Transport
    from carboy.compat.upload import AsyncPump, Pump
    from carboy.http.timeline import Call


def send(transport: Transport, arguments: tuple[Any, ...], pump: Pump | None) -> PlainResponse:
    """Send a request and wait for its response.

    Args:
        transport: What sends it.
        arguments: Those of ``Transport.send``.
        pump: Gives the content, if that comes piece by piece.

    Raises:
        SourceError: If the content can't be had.
        Exception: What ``Transport.send`` raises.
    """
    call = _begin(arguments)
    try:
        if pump is None:
            response = transport.send(*arguments)
        else:
            begun = transport.begin(*arguments)
            pump.run(begun)
            response = begun.wait()
    except BaseException as error:
        _end(call, error=error)
        raise
    _end(call, response=response)
    return response


async def send_soon(
    transport: Transport, arguments: tuple[Any, ...], pump: AsyncPump | None
) -> PlainResponse:
    """As ``send``, in async code."""
    call = _begin(arguments)
    try:
        promise = transport.send_soon(*arguments)
        if pump is not None:
            try:
                await pump.run()
            except BaseException:
                promise.cancel()
                raise
        awaitable: Awaitable[PlainResponse] = promise
        response = await awaitable
    except BaseException as error:
        _end(call, error=error)
        raise
    _end(call, response=response)
    return response


def _begin(arguments: tuple[Any, ...]) -> Call | None:
    if not is_kept():
        return None
    method, origin, target, *_ = arguments
    if isinstance(target, bytes):
        target = target.decode("latin-1")
    return begin_call(method, f"{origin}{target}")


def _end(
    call: Call | None,
    *,
    response: PlainResponse | None = None,
    error: BaseException | None = None,
) -> None:
    if call is None:
        return
    if response is not None:
        call.status_code = response.status
        call.timings = response.timings()
    call.end(error=error.error if isinstance(error, SourceError) else error)
    # Whoever waits for a response has it from here on.
    note_known_calls([call])
