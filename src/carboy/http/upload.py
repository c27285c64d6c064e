"""Content that is made or read while it is sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Iterable
from typing import Any

from carboy._carboy import Upload

#: Tasks that pump, which nothing else refers to.
_tasks: set[asyncio.Task[None]] = set()


def _as_bytes(piece: Any) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"the pieces of an upload are to be bytes or str, not {type(piece).__name__}")


def upload(content: Iterable[Any] | AsyncIterable[Any], length: int | None) -> Upload:
    """Begin to put content into an upload, at the pace of the server.

    An iterable is run through on a thread of its own, because it may block; an async iterable
    by a task of the running loop.

    Raises:
        TypeError: If an async iterable is to be uploaded from sync code.
    """
    native = Upload(length)
    if isinstance(content, AsyncIterable):
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise TypeError(
                "an async iterable can be uploaded from async code only: there is no event loop "
                "here to run it"
            ) from None
        task = loop.create_task(_pump_async(native, content))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    else:
        threading.Thread(
            target=_pump, args=(native, content), name="carboy-upload", daemon=True
        ).start()
    return native


def _pump(native: Upload, content: Iterable[Any]) -> None:
    try:
        for piece in content:
            if not native.send(_as_bytes(piece)):
                return
    except BaseException as error:  # noqa: BLE001 - It breaks the request off, with this reason.
        native.fail(repr(error))
    else:
        native.finish()
    finally:
        close = getattr(content, "close", None)
        # A generator is closed, so that its own clean-up runs; a file is the caller's.
        if close is not None and hasattr(content, "gi_frame"):
            close()


async def _pump_async(native: Upload, content: AsyncIterable[Any]) -> None:
    try:
        async for piece in content:
            if not await native.send_soon(_as_bytes(piece)):
                return
    except Exception as error:  # noqa: BLE001 - As in _pump().
        await native.fail_soon(repr(error))
    else:
        await native.finish_soon()
