"""What promises need of Python: the coroutine that awaits for them, and their reports.

``Promise`` itself is native (``carboy._carboy.Promise``).
"""

from __future__ import annotations

import atexit
import contextvars
import functools
import logging
import os
import reprlib
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from carboy._carboy import Promise, holds_promises
from carboy.thread_handlers import call_in_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable
    from types import CodeType

    from carboy._carboy import PromiseResolver

__all__ = ["Fulfilled", "Promise", "Rejected"]

T_co = TypeVar("T_co", covariant=True)

#: Frames of code in here are passed over when it is said where a promise was made.
OWN_FOLDER = os.path.dirname(__file__) + os.sep

#: Who runs the handlers of promises on which event loop.
owners_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = (
    weakref.WeakKeyDictionary()
)

#: Gives the HTTP calls that this context knows the outcome of, once they are kept.
known_calls: Callable[[], list[Any]] | None = None

_logger = logging.getLogger("carboy")


_representation = reprlib.Repr()
_representation.maxstring = _representation.maxother = 200


def short_representation(value: object) -> str:
    """Return what a value is, for the representation of its promise: shortened, if it is long."""
    return _representation.repr(value)


@dataclass(frozen=True, slots=True)
class Fulfilled(Generic[T_co]):
    """The outcome of a promise that has a value."""

    value: T_co


@dataclass(frozen=True, slots=True)
class Rejected:
    """The outcome of a promise that has failed, or was cancelled."""

    error: BaseException


def call_with_values(
    function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> Promise[Any]:
    """Call a function with the values of the promises among its arguments."""
    dependencies = [
        value for value in (*arguments, *keywords.values()) if isinstance(value, Promise)
    ]
    if not dependencies:
        try:
            return Promise.resolve(function(*arguments, **keywords))
        except Exception as error:  # noqa: BLE001 - It becomes the promise's.
            return Promise.reject(error)

    def call(values: list[Any]) -> Any:
        left = iter(values)

        def value_of(argument: Any) -> Any:
            return next(left) if isinstance(argument, Promise) else argument

        positional = [value_of(argument) for argument in arguments]
        named = {name: value_of(argument) for name, argument in keywords.items()}
        return function(*positional, **named)

    return Promise.all(dependencies).then(call)


def map_items(
    items: Iterable[Any], function: Callable[[Any], Any], concurrency: int | None
) -> Promise[list[Any]]:
    """Call a function for each item, and wait for so many results at a time."""
    if concurrency is None:
        each = iter(items)
        # One by one: if the items end with an error, what was begun for them is given up.
        return Promise.all(Promise.call(function, item) for item in each)
    if concurrency < 1:
        raise ValueError(f"concurrency={concurrency} would never begin: it is to be 1 at least")
    left = enumerate(items)
    results: dict[int, Any] = {}

    def next_of_lane(_: object = None) -> Promise[Any] | None:
        for index, item in left:
            store = functools.partial(results.__setitem__, index)
            return Promise.call(function, item).then(store).then(next_of_lane)
        return None

    lanes = [Promise.call(next_of_lane) for _ in range(concurrency)]
    return Promise.all(lanes).then(lambda _: [results[index] for index in range(len(results))])


def join_promises(*promises_and_function: Any) -> Promise[Any]:
    """Call the last argument with the values of the others."""
    *promises, function = promises_and_function or (None,)
    if not callable(function):
        raise TypeError(f"join() needs a function as its last argument, not {type(function)}")
    return Promise.all(promises).then(lambda values: function(*values))


class _EndOfThread:
    """Goes with the thread that it is a local variable of."""

    __slots__ = ("_run",)

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run

    def __del__(self) -> None:
        self._run()


_of_thread = threading.local()
_of_process: Callable[[], object] | None = None


def note_end_of_thread(end: Callable[[], object], run_queued: Callable[[], object]) -> None:
    """Call ``end`` at the end of this thread, or ``run_queued`` at that of the process.

    The process ends with its main thread, whose code may make further promises then.
    """
    global _of_process
    if threading.current_thread() is threading.main_thread():
        _of_process = run_queued
    else:
        _of_thread.end = _EndOfThread(end)


def _end_process() -> None:
    if _of_process is not None:
        _of_process()


# What is registered with atexit later runs before.
atexit.register(_end_process)


def in_thread(function: Callable[[Any], Any]) -> Callable[[Any], Promise[Any]]:
    """Return a function that calls another one on a thread, in a copy of its own context."""

    @functools.wraps(function)
    def begin(argument: Any) -> Promise[Any]:
        return Promise(call_in_thread(contextvars.copy_context(), function, argument))

    return begin


def promise_of_all_within(value: Any) -> Promise[Any]:
    """Return the promise of a value, with the promises in its dicts, lists and tuples fulfilled."""
    if isinstance(value, Promise):
        return value
    if isinstance(value, dict):
        pending = {key: item for key, item in value.items() if holds_promises(item)}
        of_items = Promise.all({key: promise_of_all_within(item) for key, item in pending.items()})
        return of_items.then(lambda items: {**value, **items})
    if not holds_promises(value):
        return Promise.resolve(value)
    # Of classes of others it is known only how named tuples are made.
    make = getattr(value, "_make", tuple) if isinstance(value, tuple) else list
    return Promise.all([promise_of_all_within(item) for item in value]).then(make)


def _leave_out_first_frame(error: BaseException) -> None:
    # Not within the frame that is left out: it would refer to itself by the traceback, and be
    # the garbage collector's to find, with all that it holds.
    traceback = error.__traceback__
    if traceback is not None and traceback.tb_next is not None:
        error.__traceback__ = traceback.tb_next


async def settle(awaitable: Awaitable[Any], resolver: PromiseResolver) -> None:
    """Await something for a promise.

    Its exception is the promise's, with a traceback that begins where it was awaited. What
    ends a program ends the event loop, too.
    """
    try:
        value = await awaitable
    except (KeyboardInterrupt, SystemExit) as error:
        resolver.reject(error)
        raise
    except BaseException as error:  # noqa: BLE001 - Passed on whole, to where it belongs.
        _leave_out_first_frame(error)
        resolver.reject(error)
    else:
        if known_calls is not None:
            resolver.add_calls(known_calls())
        resolver.resolve(value)


def describe_place(code: CodeType, instruction: int) -> str:
    """Say which line an instruction belongs to: ``views.py:41 in home``."""
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{code.co_filename}:{line} in {code.co_qualname}"


class Unseen:
    """An error that nobody has looked at until now.

    It goes with its promise, and says so then.
    """

    __slots__ = ("_error", "_tell")

    def __init__(self, error: BaseException, tell: Callable[[BaseException], object]) -> None:
        self._error = error
        self._tell = tell

    def __del__(self) -> None:
        self._tell(self._error)


#: How the notes begin that say where a failed promise was made.
_NOTE = "The promise that failed: "


def add_origin(error: BaseException, description: str) -> None:
    """Note at an exception which promise has failed with it, unless that is noted already."""
    notes = getattr(error, "__notes__", ())
    if not any(isinstance(note, str) and note.startswith(_NOTE) for note in notes):
        error.add_note(_NOTE + description)


def report_detached(name: str, error: BaseException, description: str) -> None:
    """Log that detached work has failed."""
    if isinstance(error, Exception):
        _logger.error("%s failed (%s)", name, description, exc_info=error)


def report_unhandled(
    error: BaseException, description: str, logger: logging.Logger = _logger
) -> None:
    """Log that a promise failed and nobody looked at it."""
    if isinstance(error, Exception):
        logger.error(
            "A promise failed, and nobody awaited it, took its result or caught its error (%s)",
            description,
            exc_info=error,
        )
