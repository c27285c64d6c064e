"""Says in the log what holds an event loop, while it is held.

The loop's thread only notes when it begins and ends something. Another thread looks at these
notes and attaches to the interpreter when one and the same thing has lasted for longer than
``EventLoop.blocking_threshold_seconds``. It then looks at the loop's thread as a debugger
would, and logs a warning on the logger ``carboy.watchdog``: what runs, for which request, and
where. Another warning says at the end how long it took.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import inspect
import linecache
import logging
import math
import os
import sys
import threading
import time
import traceback
import weakref
from asyncio import current_task
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

    from carboy.event_loop import EventLoop

__all__ = ["BlockingStatistics"]

logger = logging.getLogger("carboy.watchdog")

#: In debug mode: what asyncio's ``slow_callback_duration`` is.
DEBUG_THRESHOLD_SECONDS = 0.1

ENVIRONMENT_VARIABLE = "CARBOY_BLOCKING_THRESHOLD"

#: Innermost frames of a stack that are logged, and threads that may hold the GIL.
_FRAMES = 30
_THREADS = 10

#: Who waits this long for the GIL was kept waiting by code that does not give it up.
#: Python code does after ``sys.getswitchinterval()``, 5 ms.
_LONG_WAIT_SECONDS = 0.05

#: How long the end of a run waits for a report that is being logged.
_REPORT_TIMEOUT_SECONDS = 5.0

#: Stands for what was not reported because there was too much.
_LEFT_OUT = ""

_PACKAGE_FOLDER = os.path.dirname(__file__) + os.sep


class BlockingStatistics(NamedTuple):
    """How often and how long a loop was stuck since it was made, while it was watched.

    Attributes:
        stalls: Callbacks, steps of tasks and views that took longer than the threshold.
        stalled_seconds: How long these lasted together, those that have ended.
        longest_stall_seconds: The longest of them.
        gil_waits: Times that the loop had something to do and waited longer than the
            threshold for the GIL, which another thread held.
        gil_wait_seconds: How long these lasted together.
    """

    stalls: int
    stalled_seconds: float
    longest_stall_seconds: float
    gil_waits: int
    gil_wait_seconds: float


def threshold_of_environment() -> float | None:
    """Return what ``CARBOY_BLOCKING_THRESHOLD`` sets: seconds, 0 for never, ``None`` if unset.

    Raises:
        ValueError: If it is not a number of seconds.
    """
    text = None if sys.flags.ignore_environment else os.environ.get(ENVIRONMENT_VARIABLE)
    if not text:
        return None
    try:
        return checked_threshold(float(text))
    except ValueError:
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE}={text!r}: set it to a number of seconds, 0 for never"
        ) from None


def checked_threshold(seconds: float) -> float:
    """Return a threshold in seconds, 0 for never.

    Raises:
        ValueError: If it is negative or not a number.
    """
    if not seconds >= 0:
        raise ValueError(f"{seconds} is not a time in seconds, or 0 for never")
    return 0.0 if math.isinf(seconds) else float(seconds)


class RunWatch:
    """Watches one run of a loop: ``with RunWatch(loop): run it on this thread``."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop_thread = threading.get_ident()
        self._native_thread = threading.get_native_id()

    def __enter__(self) -> Self:
        self._loop._run_watch = self
        self.adjust()
        return self

    def adjust(self) -> None:
        """Watch by the loop's threshold as it is now, from any thread."""
        threshold = self._loop.blocking_threshold_seconds
        with self._lock:
            self._loop._set_stall_threshold(threshold or 0.0)
            if threshold is None:
                self._loop._end_watch()
                self._thread = None
            if threshold is None or self._thread is not None:
                return
            arguments = (self._loop._begin_watch(), self._loop_thread, self._native_thread)
            thread = threading.Thread(
                target=self._loop._watch, args=arguments, name="carboy-watchdog", daemon=True
            )
            # No thread is left, or the interpreter ends: then the loop runs unwatched.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread
                _running.add(self)

    def __exit__(self, *_: object) -> None:
        self._loop._run_watch = None
        self.end()

    def end(self) -> None:
        """End, after the report that is being logged."""
        self._loop._end_watch()
        if self._thread is not None:
            self._thread.join(_REPORT_TIMEOUT_SECONDS)
        _running.discard(self)


_running: weakref.WeakSet[RunWatch] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    # A thread that wants the interpreter while that is being torn down is ended in the midst
    # of native code, before CPython 3.14. Loops may still run on daemon threads.
    for watch in list(_running):
        watch.end()


os.register_at_fork(after_in_child=_running.clear)


class _ReportBudget:
    """So many reports at once, and then one every few seconds."""

    def __init__(self, burst: int, seconds_per_report: float) -> None:
        self._burst = burst
        self._seconds_per_report = seconds_per_report
        self._left = float(burst)
        self._filled_at = time.monotonic()
        self._suppressed = 0

    def take(self) -> bool:
        """Whether a report may be logged."""
        now = time.monotonic()
        gained = (now - self._filled_at) / self._seconds_per_report
        self._filled_at = now
        self._left = min(self._left + gained, self._burst)
        if self._left < 1:
            self._suppressed += 1
            return False
        self._left -= 1
        return True

    def take_suppressed(self) -> str:
        """What to say of the reports that were left out."""
        count, self._suppressed = self._suppressed, 0
        return f" ({count} more since the last report)" if count else ""


_budget = _ReportBudget(burst=10, seconds_per_report=6.0)


def report_stall(
    loop: EventLoop,
    thread: int,
    frame: FrameType | None,
    waits_for_gil: bool,  # noqa: FBT001 - Called by native code.
    seconds: float,
    attached_after_seconds: float,
    processor_share: float | None,
    is_stalled: bool,  # noqa: FBT001 - Called by native code.
) -> None:
    """Log what holds a loop. Called on the watching thread, as soon as it has the GIL.

    Args:
        loop: The loop.
        thread: The loop's thread.
        frame: Its innermost frame when the watching thread got the GIL.
        waits_for_gil: Whether the loop was waiting for the GIL and ran nothing.
        seconds: How long it had lasted when it was noticed.
        attached_after_seconds: How long the watching thread waited for the GIL after that.
        processor_share: Which part of the time the loop's thread was on a processor, without
            the time that it waited for one.
        is_stalled: Whether it still lasts.
    """
    loop._reported_stall = None
    if not (is_stalled or waits_for_gil):
        # What ran has held the GIL all the time. Its end says more.
        return
    if not _budget.take():
        loop._reported_stall = _LEFT_OUT
        return
    suppressed = _budget.take_suppressed()
    seconds += attached_after_seconds
    if waits_for_gil:
        loop._reported_stall = "waited for the GIL"
        logger.warning(
            "The event loop has events to handle, but has waited %.2f s for the GIL, which"
            " another thread holds%s.%s",
            seconds,
            suppressed,
            _describe_other_threads(thread),
        )
        return
    frames = _frames_from(frame)
    subject = _describe_subject(loop, frames)
    loop._reported_stall = f"was blocked by {subject}"
    logger.warning(
        "The event loop has been blocked for %.2f s by %s%s%s.%s%s",
        seconds,
        subject,
        _describe_place(frames),
        suppressed,
        _describe_waiting(thread, attached_after_seconds, processor_share),
        _describe_stack(frames),
    )


def report_end_of_stall(
    loop: EventLoop,
    waited_for_gil: bool,  # noqa: FBT001 - Called by native code.
    seconds: float,
    description: str | None,
) -> None:
    """Log for how long a loop was held in all.

    Args:
        loop: The loop.
        waited_for_gil: Whether the loop was waiting for the GIL and ran nothing.
        seconds: How long it lasted.
        description: What the loop's thread knows of what it ran.
    """
    reported, loop._reported_stall = loop._reported_stall, None
    if reported == _LEFT_OUT:
        return
    if reported is not None:
        logger.warning("The event loop %s for %.2f s in all", reported, seconds)
    elif not waited_for_gil and description and _budget.take():
        logger.warning(
            "The event loop was blocked for %.2f s by %s%s: native code that held the GIL, so"
            " that nobody could look where",
            seconds,
            description,
            _budget.take_suppressed(),
        )


def _frames_from(frame: FrameType | None) -> list[FrameType]:
    """Return the frames of what the loop runs, the outermost first."""
    from carboy.event_loop import EventLoop

    bottom = EventLoop._run_once.__code__
    frames = []
    while frame is not None and frame.f_code is not bottom:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    return [frame for frame in frames if not _is_own(frame)] or frames


def _is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PACKAGE_FOLDER)


def _describe_subject(loop: EventLoop, frames: list[FrameType]) -> str:
    """Name what the loop runs: a view, a coroutine or a callback."""
    task = current_task(loop)
    if frames:
        code = frames[0].f_code
        kind = "coroutine" if code.co_flags & inspect.CO_COROUTINE else "callback"
        subject = f"{kind} {code.co_qualname}()"
    elif task is not None:
        subject = f"coroutine {getattr(task.get_coro(), '__qualname__', '?')}()"
    else:
        subject = "a callback in native code"
    if task is None:
        return subject
    if (request := _request_of(task)) is not None:
        return f"{subject} in view {request.endpoint!r} ({request.method} {request.path})"
    return f"{subject} in task {task.get_name()!r}"


def _request_of(task: asyncio.Task[Any]) -> Any:
    """Return Flask's request in whose context a task runs, if there is one."""
    flask_globals: Any = sys.modules.get("flask.globals")
    if flask_globals is None:
        return None
    # Flask 3.1 has a context of its own for the request, 3.2 one for both.
    variable = getattr(flask_globals, "_cv_request", None) or flask_globals._cv_app
    try:
        context = _context_of(task).get(variable)
        return context.request if context is not None else None
    except (AttributeError, LookupError, RuntimeError):
        # No request's context, or not any more.
        return None


def _context_of(task: asyncio.Task[Any]) -> Context:
    if hasattr(task, "get_context"):
        context: Context = task.get_context()
        return context
    # Before CPython 3.12 only the garbage collector knows it.
    return next(held for held in gc.get_referents(task) if isinstance(held, Context))


def _describe_place(frames: list[FrameType]) -> str:
    if not frames:
        return ""
    frame = frames[-1]
    code = frame.f_code
    line = linecache.getline(code.co_filename, frame.f_lineno).strip()
    source = f": {line}" if line else ""
    return f", at {code.co_filename}:{frame.f_lineno} in {code.co_qualname}(){source}"


def _describe_stack(frames: list[FrameType]) -> str:
    places = ((frame, frame.f_lineno) for frame in frames[-_FRAMES:])
    summary = traceback.StackSummary.extract(places)
    lines = "".join(summary.format()).rstrip()
    return f" Its stack, most recent call last:\n{lines}" if lines else ""


def _describe_waiting(
    thread: int, attached_after_seconds: float, processor_share: float | None
) -> str:
    """Say whether the loop's thread computes, waits, or waits for the GIL."""
    computes = processor_share is not None and processor_share >= 0.5
    share = "" if processor_share is None else f" It computed {processor_share:.0%} of the time."
    if attached_after_seconds < _LONG_WAIT_SECONDS:
        return share
    if computes:
        return (
            f"{share} Native code that it called kept the GIL for the last"
            f" {attached_after_seconds:.2f} s; the place is where it gave the GIL back."
        )
    return (
        f"{share} Somebody kept the GIL for the last {attached_after_seconds:.2f} s: another"
        " thread, for which the loop waited, or native code that the loop called."
        f"{_describe_other_threads(thread)}"
    )


def _describe_other_threads(thread: int) -> str:
    """Say where the other threads are, of which one has just given the GIL back."""
    names = {other.ident: other.name for other in threading.enumerate()}
    places = []
    for ident, frame in sys._current_frames().items():
        if ident not in (thread, threading.get_ident()):
            places.append(f"\n  {names.get(ident, ident)}{_describe_place([frame])}")
    if not places:
        return ""
    return f" The other threads are now:{''.join(places[:_THREADS])}\n"
