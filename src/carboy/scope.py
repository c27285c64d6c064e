"""Which promises are given up together: those of a request, and those of a deadline.

A request's scope is kept at Flask's context of the request, so that every task and thread of
the request finds the same. Without carboy's server it ends when that context is gone. When the
server ends one early is said in ``carboy.cancellation``.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import sys
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self, TypeVar

from carboy._carboy import PromiseScope, find_request_scope
from carboy.promise import report_unhandled

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from flask import Response

__all__ = ["ClientDisconnected", "DeadlineExceeded", "deadline", "remaining_seconds"]

F = TypeVar("F", bound="Callable[..., Any]")

#: The scope of the innermost ``deadline`` block, or of the promise that the code works for.
inner_scope: ContextVar[PromiseScope] = ContextVar("inner_scope")
#: The request's scope, for the server, which ends it, and for code without a context of Flask's.
#: A weak reference where there is no server: then a context may last longer than requests in it.
scope_of_request: ContextVar[PromiseScope | weakref.ref[PromiseScope] | None] = ContextVar(
    "scope_of_request", default=None
)
#: When the time is up, by ``time.monotonic()``.
deadline_at: ContextVar[float | None] = ContextVar("deadline_at", default=None)
#: How long the deadline was that ends first, in seconds; ``None`` if it is the request's.
deadline_seconds: ContextVar[float | None] = ContextVar("deadline_seconds", default=None)


class DeadlineExceeded(TimeoutError):  # noqa: N818 - The field's own word for it.
    """The time that a ``deadline`` allows, or the request, is up.

    In programs with Flask it is ``werkzeug.exceptions.GatewayTimeout`` too: a view that lets it
    out is answered with 504, and has error handlers for it as for any status.
    """


class ClientDisconnected(BaseException):
    """The client has gone, and what was promised for its request is given up.

    Not an ``Exception``: code that mends errors has nobody to mend them for.
    """


def client_gone() -> ClientDisconnected:
    """Return the exception for code whose client has gone."""
    return ClientDisconnected("the client has gone")


def deadline_exceeded(message: str) -> DeadlineExceeded:
    """Return the exception for code whose time is up: one that Flask answers with 504."""
    # Who does not use Flask shall not have to import it.
    if "werkzeug.exceptions" not in sys.modules:
        return DeadlineExceeded(message)
    return _answered_class()(message)


def no_result_in_time(promise: str) -> DeadlineExceeded:
    """Return the exception for sync code whose time is up while it waits for a promise."""
    return deadline_exceeded(_naming(_passed(deadline_seconds.get()), [promise]))


def named_after(error: BaseException, promise: str) -> BaseException:
    """Return a copy of the reason for which promises are given up, for one that it names."""
    own = copy.copy(error)
    own.args = (_naming(str(error), [promise]),)
    return own


def _naming(message: str, promises: list[str]) -> str:
    return f"{message} (no result of: {'; '.join(promises)})" if promises else message


def _passed(seconds: float | None) -> str:
    if seconds is None:
        return "the time for the request is up"
    return f"the deadline of {seconds} seconds has passed"


@functools.cache
def _answered_class() -> type[DeadlineExceeded]:
    from werkzeug.exceptions import GatewayTimeout

    class AnsweredDeadlineExceeded(DeadlineExceeded, GatewayTimeout):
        def __init__(self, message: str) -> None:
            DeadlineExceeded.__init__(self, message)
            self.response = None

        def __str__(self) -> str:
            return OSError.__str__(self)

        def __repr__(self) -> str:
            return OSError.__repr__(self)

        def __reduce__(self) -> Any:
            return (deadline_exceeded, self.args)

    AnsweredDeadlineExceeded.__name__ = DeadlineExceeded.__name__
    AnsweredDeadlineExceeded.__qualname__ = DeadlineExceeded.__qualname__
    AnsweredDeadlineExceeded.__doc__ = DeadlineExceeded.__doc__
    return AnsweredDeadlineExceeded


def explain_end(error: BaseException, is_client_gone: bool) -> BaseException:  # noqa: FBT001 - For native code.
    """Return the error of a request that was given up: the reason, where it was cancelled only."""
    if isinstance(error, (ClientDisconnected, DeadlineExceeded)) or not _is_cancellation(error):
        return error
    reason: BaseException
    reason = client_gone() if is_client_gone else deadline_exceeded("the time for it is up")
    reason.__cause__ = error
    return reason


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancellation(part) for part in error.exceptions)
    return isinstance(error, (asyncio.CancelledError, ClientDisconnected, DeadlineExceeded))


def is_departure(error: BaseException) -> bool:
    """Say whether an exception means no more than that the client has gone."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_departure(part) for part in error.exceptions)
    return isinstance(error, ClientDisconnected)


class LonelyRequestScope(PromiseScope):
    """The promises of a request that no server of carboy's serves. It ends when it is gone.

    Here and not in a destructor of the native class: the garbage collector calls ``__del__``
    before it takes apart what it has found, and ending a scope runs code.
    """

    def __init__(self, _scope: PromiseScope) -> None:
        # There is a request, so Flask is there.
        from carboy.flask import patch

        patch.take_promises()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the interpreter nothing goes on, and nothing can be imported.
        if not is_finalizing():
            self.end()


def fail_with_unhandled(context: Any, scope: PromiseScope) -> None:
    """Let a request fail if a promise of it has and nobody looked; for tests and debug mode."""
    raise_unhandled = functools.partial(_raise_unhandled, weakref.ref(scope))
    context._after_request_functions.append(raise_unhandled)


def _raise_unhandled(reference: weakref.ref[PromiseScope], response: Response) -> Response:
    """Raise the first error that nobody has looked at, and log the others. Called by Flask."""
    scope = reference()
    unhandled = scope.take_unhandled() if scope is not None else []
    failures = [(error, text) for error, text in unhandled if isinstance(error, Exception)]
    for error, description in failures[1:]:
        report_unhandled(error, description)
    for error, _ in failures[:1]:
        error.add_note("Nobody awaited the promise, took its result or caught its error.")
        raise error
    return response


def remaining_seconds() -> float | None:
    """Return how long it is to the nearest deadline, ``0.0`` if it is over, ``None`` if none."""
    at = deadline_at.get()
    scope = inner_scope.get(None)
    if at is None or (scope is not None and scope.is_detached()):
        return None
    return max(0.0, at - time.monotonic())


class deadline:  # noqa: N801 - It is used as a verb, as asyncio.timeout is.
    """Let what is done in a block take some seconds at most, and no longer than an outer one.

    Promises that begin in the block fail with ``DeadlineExceeded`` when the time is up, also
    those that outlive the block; ``result()`` raises it. ``async with`` raises it out of any
    ``await``, too. A call by ``carboy.http`` ends with it, whatever its own timeouts say.

    ::

        with deadline(0.8):
            user = http.get(url).result()

    It decorates views and other functions, too; then each call has so many seconds. A view that
    is not over by then is answered with 504.

    ::

        @app.get("/")
        @deadline(0.8)
        async def index(): ...

    Args:
        seconds: The time there is.
    """

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            given = "a function" if callable(seconds) else repr(seconds)
            raise TypeError(
                f"deadline() needs a number of seconds, not {given}; as a decorator: @deadline(0.8)"
            )
        if not seconds >= 0:
            raise ValueError(f"{seconds} is not a time to wait, in seconds")
        self._seconds = seconds
        self._message = _passed(seconds)
        self._tokens: list[Callable[[], None]] | None = None
        self._timeout: asyncio.Timeout | None = None
        self._scope: PromiseScope | None = None

    def __call__(self, function: F) -> F:
        """Let each call of a function take so many seconds at most.

        Raises:
            TypeError: For a generator function, whose code runs after the call.
        """
        seconds = self._seconds
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__qualname__}() is a generator function, whose code runs when it is"
                " iterated and not when it is called: use a block in it, 'with deadline(...)' or"
                " 'async with deadline(...)', around what shall take no longer"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed(*arguments: Any, **keywords: Any) -> Any:
                _answer_within(seconds)
                async with deadline(seconds):
                    return await function(*arguments, **keywords)
        else:

            @functools.wraps(function)
            def timed(*arguments: Any, **keywords: Any) -> Any:
                _answer_within(seconds)
                with deadline(seconds):
                    return function(*arguments, **keywords)

        return timed  # type: ignore[return-value]

    def _enter(self) -> float:
        if self._tokens is not None:
            raise RuntimeError("a deadline can be entered once only")
        at, outer = time.monotonic() + self._seconds, deadline_at.get()
        seconds: float | None = self._seconds
        if outer is not None and remaining_seconds() is not None and outer <= at:
            # The outer one ends first, and this block with it.
            at, seconds = outer, deadline_seconds.get()
            self._message = _passed(seconds)
        scope = PromiseScope.within(inner_scope.get(None) or find_request_scope())
        self._tokens = [
            functools.partial(deadline_at.reset, deadline_at.set(at)),
            functools.partial(deadline_seconds.reset, deadline_seconds.set(seconds)),
            functools.partial(inner_scope.reset, inner_scope.set(scope)),
        ]
        left = max(0.0, at - time.monotonic())
        scope.end_after(left, deadline_exceeded(self._message))
        self._scope = scope
        return left

    def _leave(self) -> None:
        for reset in self._tokens or ():
            # A generator may be closed in another context than it ran in: there is nothing of
            # this block there.
            with contextlib.suppress(ValueError):
                reset()

    def __repr__(self) -> str:
        return f"<deadline of {self._seconds} seconds>"

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        self._timeout = asyncio.timeout(self._enter())
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if self._timeout is None:
            return
        try:
            await self._timeout.__aexit__(error_type, error, traceback)
        except TimeoutError as expired:
            unfinished = self._scope.unfinished() if self._scope else []
            message = _naming(self._message, unfinished)
            raise deadline_exceeded(message) from expired.__cause__


def _answer_within(seconds: float) -> None:
    """Have the server answer for a view that does not, if one is running."""
    scope = find_request_scope()
    if scope is not None:
        scope.answer_within(seconds)
