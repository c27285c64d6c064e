"""Handlers of promises that run on threads: ``then(f, on="thread")``.

They run on the threads of their event loop's executor, which are few. One that waits in
``result()`` for another one, which is queued behind it, would wait for ever once all threads do
so. Therefore a handler goes to the executor as a ticket, and a spare thread takes tickets up as
long as every thread that is known to run one waits. The Java library's ``ForkJoinPool`` does the
same (``ManagedBlocker``).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from carboy._carboy import call_on_own_stack

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

__all__: list[str] = []

#: So many threads an event loop may have beyond those of its executor.
MOST_SPARE_THREADS = 256

_logger = logging.getLogger("carboy")
_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Handlers] = (
    weakref.WeakKeyDictionary()
)
#: Loops come while threads look through them.
_of_loops_lock = threading.Lock()
#: Where a thread notes which loop's handler it runs.
_here = threading.local()


class _Ticket:
    """A handler that is to run on a thread, whichever comes first."""

    def __init__(self, call: Callable[[], Any], handlers: _Handlers) -> None:
        self.result: Future[Any] = Future()
        self._call = call
        self._handlers = handlers

    def run(self) -> None:
        """Run it, unless a spare thread has taken it up."""
        if self._handlers.claim(self):
            self.run_claimed()

    def run_claimed(self) -> None:
        before = getattr(_here, "handlers", None)
        _here.handlers = self._handlers
        try:
            if self.result.set_running_or_notify_cancel():
                self._settle()
        finally:
            _here.handlers = before
            self._handlers.note_end()

    def _settle(self) -> None:
        try:
            result = self._call()
        except StopIteration as error:
            # asyncio's futures don't take it, and whoever awaits them would wait for ever.
            wrapped = RuntimeError("a handler on a thread has raised StopIteration")
            wrapped.__cause__ = error
            self.result.set_exception(wrapped)
        except BaseException as error:  # noqa: BLE001 - It is the handler's outcome.
            self.result.set_exception(error)
        else:
            self.result.set_result(result)

    def note_executor(self, done: asyncio.Future[Any]) -> None:
        """Give up if the executor has dropped it: nobody else will run it."""
        if done.cancelled() and self._handlers.claim(self):
            self._handlers.note_end()
            self.result.cancel()


class _Handlers:
    """The handlers of one event loop that run on threads, and those that are to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queued: dict[_Ticket, None] = {}
        #: How many threads run one, and how many of them wait in ``result()``.
        self._running = self._waiting = 0
        self._spare = 0
        self._is_limit_told = False
        self.executor_of: Callable[[], Any] = lambda: None

    async def run(self, call: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        ticket = _Ticket(call, self)
        with self._lock:
            self._queued[ticket] = None
        try:
            executed = loop.run_in_executor(None, ticket.run)
        except BaseException:
            if self.claim(ticket):
                self.note_end()
            raise
        executed.add_done_callback(ticket.note_executor)
        self.start_spare(has_waited=False)
        return await asyncio.wrap_future(ticket.result)

    def claim(self, ticket: _Ticket) -> bool:
        with self._lock:
            if ticket not in self._queued:
                return False
            del self._queued[ticket]
            self._running += 1
            return True

    def note_end(self) -> None:
        with self._lock:
            self._running -= 1

    def begin_wait(self) -> None:
        with self._lock:
            self._waiting += 1

    def end_wait(self) -> None:
        with self._lock:
            self._waiting -= 1

    def start_spare(self, *, has_waited: bool) -> None:
        """Start a thread if all wait and there is something to run.

        The first one is started for a thread that has waited for a while only: as a rule the
        executor has threads, and is just about to take the handler up.
        """
        with self._lock:
            if not self._is_starved() or not (has_waited or self._spare):
                return
            if self._spare >= MOST_SPARE_THREADS:
                is_told, self._is_limit_told = self._is_limit_told, True
                if not is_told:
                    _logger.warning(
                        "%d handlers on threads wait in result() for others, which have no thread"
                        " to run on: return promises from handlers instead of waiting for them",
                        self._waiting,
                    )
                return
            self._spare += 1
        threading.Thread(target=self._run_spare, name="carboy-spare").start()

    def _is_starved(self) -> bool:
        return bool(self._queued) and 0 < self._waiting == self._running

    def _run_spare(self) -> None:
        while True:
            with self._lock:
                if not self._is_starved():
                    self._spare -= 1
                    return
                ticket = next(iter(self._queued))
                del self._queued[ticket]
                self._running += 1
            ticket.run_claimed()

    def owns(self, thread: threading.Thread) -> bool:
        """Whether it is a thread of the loop's executor, which runs something else."""
        return thread in getattr(self.executor_of(), "_threads", ())

    def borrow(self) -> None:
        """Count a thread that runs something else, while it waits."""
        with self._lock:
            self._running += 1
            self._waiting += 1

    def give_back(self) -> None:
        with self._lock:
            self._running -= 1
            self._waiting -= 1


def _handlers_of(loop: asyncio.AbstractEventLoop) -> _Handlers:
    handlers = _of_loops.get(loop)
    if handlers is None:
        handlers = _Handlers()
        with _of_loops_lock:
            _of_loops[loop] = handlers
        reference = weakref.ref(loop)
        handlers.executor_of = lambda: getattr(reference(), "_default_executor", None)
    return handlers


async def call_in_thread(
    context: contextvars.Context, function: Callable[[Any], Any], argument: Any
) -> Any:
    """Call a function on a thread of the running loop's executor, as a stack of its own."""
    handlers = _handlers_of(asyncio.get_running_loop())
    call = functools.partial(context.run, call_on_own_stack, function, argument)
    return await handlers.run(call)


def begin_wait(has_waited: bool) -> Callable[[], None] | None:  # noqa: FBT001 - For native code.
    """Note that this thread waits in ``result()``, or that it does so still.

    Returns what is to be called when the wait is over, if anything.
    """
    handlers: _Handlers | None = getattr(_here, "handlers", None)
    if handlers is not None:
        handlers.begin_wait()
        end = handlers.end_wait
    elif not has_waited or (handlers := _owner_of(threading.current_thread())) is None:
        return None
    else:
        handlers.borrow()
        end = handlers.give_back
    handlers.start_spare(has_waited=has_waited)
    return end


def _owner_of(thread: threading.Thread) -> _Handlers | None:
    with _of_loops_lock:
        known = list(_of_loops.values())
    for handlers in known:
        if handlers.owns(thread):
            return handlers
    return None
