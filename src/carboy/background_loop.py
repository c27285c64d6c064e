"""One event loop on a thread of its own, for what has to run where no loop does.

Promises of programs without an event loop are kept by it, and the live servers of tests.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from carboy._carboy import note_end_of_process
from carboy.event_loop import EventLoop, new_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

#: For so long the end of a process waits for what runs on the loop.
EXIT_SECONDS = 2.0


class BackgroundLoop:
    """Runs a ``carboy.EventLoop`` on a daemon thread until the process ends or ``stop``."""

    def __init__(self) -> None:
        self.loop: EventLoop = new_event_loop()
        started = threading.Event()
        self.loop.call_soon(started.set)
        self._thread = threading.Thread(
            target=self.loop.run_forever, name="carboy-loop", daemon=True
        )
        self._thread.start()
        started.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the loop's thread and wait for its result."""
        result: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            try:
                result.set_result(function())
            except BaseException as error:  # noqa: BLE001 - Raised in the waiting thread.
                result.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return result.result()

    def stop(self, at_most_seconds: float | None = None) -> None:
        """Stop the loop and close it, unless it takes longer than ``at_most_seconds``."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(at_most_seconds)
        if not self._thread.is_alive():
            self.loop.close()


_shared: BackgroundLoop | None = None
_is_at_end = False
_lock = threading.Lock()


def shared_background_loop() -> BackgroundLoop:
    """Return the one of this process, which is started by the first call.

    Raises:
        RuntimeError: When the process ends.
    """
    global _shared
    with _lock:
        if _is_at_end:
            raise RuntimeError(
                "the process is ending: no HTTP call and no promise of a coroutine can begin "
                "(functions that are registered with atexit after carboy was imported run "
                "before, and may make calls still)"
            )
        if _shared is None:
            _shared = BackgroundLoop()
        return _shared


def _stop_at_exit() -> None:
    # CPython ends daemon threads where they ask for the GIL, in the middle of native code.
    global _shared, _is_at_end
    note_end_of_process()
    with _lock:
        loop, _shared = _shared, None
        _is_at_end = True
    if loop is not None:
        loop.stop(EXIT_SECONDS)


def _forget() -> None:
    # Of a thread, a fork leaves nothing but what it has locked.
    global _shared, _lock
    _shared = None
    _lock = threading.Lock()


# What is registered with atexit later runs before, and may make calls still.
atexit.register(_stop_at_exit)
os.register_at_fork(after_in_child=_forget)
