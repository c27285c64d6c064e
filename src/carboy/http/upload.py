"""Content that is made or read while it is sent."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextvars import copy_context
from typing import Any

from carboy._carboy import Upload, UploadSource

#: Tasks that pump, which nothing else refers to.
_tasks: set[asyncio.Task[None]] = set()

#: How many seconds a further attempt waits until the one before has let go of the content.
_HAND_OVER_SECONDS = 5.0


def _as_bytes(piece: Any) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"the pieces of an upload are to be bytes or str, not {type(piece).__name__}")


class Source(ABC):
    """Content that is made when there is a connection for it, in the context of the call.

    Args:
        length: Its size in bytes, if that is known.
        is_repeatable: Whether it can be made again, for a redirect or a further attempt.

    Attributes:
        error: What making it has raised.
    """

    def __init__(self, length: int | None, *, is_repeatable: bool) -> None:
        self.error: BaseException | None = None
        self._length = length
        self._is_repeatable = is_repeatable
        self._context = copy_context()
        self._attempts = 0

    def native(self) -> UploadSource:
        """Return what the native client takes."""
        return UploadSource(self._length, self._begin, self._is_repeatable)

    def _begin(self, upload: Upload) -> Callable[[], object] | None:
        self._attempts += 1
        self.error = None
        return self.begin(upload, self._attempts)

    @abstractmethod
    def begin(self, upload: Upload, attempt: int) -> Callable[[], object] | None:
        """Begin to put the content into an upload; called on the thread of the connection.

        Args:
            upload: Where to put it.
            attempt: For which attempt, from 1.
        """


class ThreadSource(Source):
    """Content of an iterable, which may block: it is run through on a thread of its own.

    Args:
        make: Returns the iterable; told for which attempt, from 1.
        length: Its size in bytes, if that is known.
        is_repeatable: Whether there may be more than one.
    """

    def __init__(
        self, make: Callable[[int], Iterable[Any]], length: int | None, *, is_repeatable: bool
    ) -> None:
        super().__init__(length, is_repeatable=is_repeatable)
        self._make = make
        self._thread: threading.Thread | None = None

    def begin(self, upload: Upload, attempt: int) -> None:  # noqa: D102 - as above.
        before = self._thread
        # A context can be entered by one thread at a time.
        run = self._context.copy().run
        self._thread = threading.Thread(
            target=run,
            args=(self._pump, upload, attempt, before),
            name="carboy-upload",
            daemon=True,
        )
        self._thread.start()

    def _pump(self, upload: Upload, attempt: int, before: threading.Thread | None) -> None:
        content: Iterable[Any] = ()
        try:
            if before is not None:
                before.join(_HAND_OVER_SECONDS)
                if before.is_alive():
                    raise TimeoutError("the content is still being read for the attempt before")
            content = self._make(attempt)
            for piece in content:
                if not upload.send(_as_bytes(piece)):
                    return
        except BaseException as error:  # noqa: BLE001 - It breaks the request off, and is its cause.
            self.error = error
            upload.fail(repr(error))
        else:
            upload.finish()
        finally:
            # A generator is closed, so that its own clean-up runs; a file is the caller's.
            if isinstance(content, Generator):
                content.close()


class TaskSource(Source):
    """Content of an async iterable, which is run through by a task of the running loop.

    Args:
        content: The async iterable.
        length: Its size in bytes, if that is known.

    Raises:
        TypeError: If no loop is running.
    """

    def __init__(self, content: AsyncIterable[Any], length: int | None) -> None:
        super().__init__(length, is_repeatable=not isinstance(content, AsyncIterator))
        self._content = content
        self._task: asyncio.Task[None] | None = None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise TypeError(
                "an async iterable can be uploaded from async code only: there is no event loop "
                "here to run it"
            ) from None

    def begin(self, upload: Upload, attempt: int) -> Callable[[], object]:  # noqa: D102, ARG002 - as above.
        pump: asyncio.Task[None] | None = None

        def start() -> None:
            nonlocal pump
            coroutine = self._pump(upload, self._task)
            pump = self._loop.create_task(coroutine, context=self._context.copy())
            self._task = pump
            _tasks.add(pump)
            pump.add_done_callback(_tasks.discard)

        def stop() -> None:
            if pump is not None:
                pump.cancel()

        def stop_soon() -> None:
            # With a loop that was closed, its tasks have ended.
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(stop)

        self._loop.call_soon_threadsafe(start)
        return stop_soon

    async def _pump(self, upload: Upload, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                _, pending = await asyncio.wait([before], timeout=_HAND_OVER_SECONDS)
                if pending:
                    raise TimeoutError("the content is still being read for the attempt before")
            async for piece in self._content:
                if not await upload.send_soon(_as_bytes(piece)):
                    return
        except Exception as error:  # noqa: BLE001 - As in ThreadSource.
            self.error = error
            await upload.fail_soon(repr(error))
        except BaseException as error:
            self.error = error
            upload.fail_soon(repr(error))
            raise
        else:
            await upload.finish_soon()
        finally:
            if isinstance(self._content, AsyncGenerator):
                await self._content.aclose()


def source_of(content: Iterable[Any] | AsyncIterable[Any], length: int | None) -> Source:
    """Return the source for an iterable or an async iterable.

    Args:
        content: The pieces.
        length: Their size in bytes, if that is known.

    Raises:
        TypeError: If an async iterable is to be uploaded from sync code.
    """
    if isinstance(content, AsyncIterable):
        return TaskSource(content, length)
    is_repeatable = not isinstance(content, Iterator)
    return ThreadSource(lambda _: content, length, is_repeatable=is_repeatable)
