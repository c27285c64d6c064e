"""Which promises are given up together: those of a request, and those of a deadline.

A request's scope is kept at Flask's context of the request, so that every task and thread of
the request finds the same. Without carboy's server it ends when that context is gone.
"""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Self

from carboy._carboy import PromiseScope

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ClientDisconnected", "DeadlineExceeded", "deadline", "remaining_seconds"]

#: Where a context keeps the scope of its request.
ATTRIBUTE = "_carboy_promise_scope"

#: The scope of the innermost ``deadline`` block.
deadline_scope: ContextVar[PromiseScope | None] = ContextVar("deadline_scope", default=None)
#: The request's scope, for the server, which ends it. A weak reference: where there is no
#: server of carboy's, a context may last longer than the requests in it.
scope_of_request: ContextVar[weakref.ref[PromiseScope] | None] = ContextVar(
    "scope_of_request", default=None
)
#: When the time is up, by ``time.monotonic()``.
deadline_at: ContextVar[float | None] = ContextVar("deadline_at", default=None)


class DeadlineExceeded(TimeoutError):  # noqa: N818 - The field's own word for it.
    """The time that a ``deadline`` allows is up."""


class ClientDisconnected(BaseException):
    """The client has gone, and what was promised for its request is given up.

    Not an ``Exception``: code that mends errors has nobody to mend them for.
    """


def find_request_scope() -> PromiseScope | None:
    """Return the scope of the request that is served now, making it if need be."""
    flask_globals = sys.modules.get("flask.globals")
    if flask_globals is None:
        return None
    # Flask 3.1 has a context of its own for the request, 3.2 one for both.
    variable = getattr(flask_globals, "_cv_request", None) or flask_globals._cv_app
    context: Any = variable.get(None)
    if context is None or not getattr(context, "has_request", True):
        return None
    scope: PromiseScope | None = vars(context).get(ATTRIBUTE)
    if scope is None:
        scope = PromiseScope()
        setattr(context, ATTRIBUTE, scope)
        scope_of_request.set(weakref.ref(scope))
    return scope


def remaining_seconds() -> float | None:
    """Return how long it is to the nearest deadline, ``0.0`` if it is over, ``None`` if none."""
    at = deadline_at.get()
    return None if at is None else max(0.0, at - time.monotonic())


class deadline:  # noqa: N801 - It is used as a verb, as asyncio.timeout is.
    """Let what is done in a block take some seconds at most, and no longer than an outer one.

    Promises that begin in the block fail with ``DeadlineExceeded`` when the time is up, also
    those that outlive the block; ``result()`` raises it. ``async with`` raises it out of any
    ``await``, too. Clients ask ``remaining_seconds()`` how long they may take.

    ::

        with deadline(0.8):
            user = http.get(url).result()

    Args:
        seconds: The time there is.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(f"{seconds} is not a time to wait, in seconds")
        self._seconds = seconds
        self._at = 0.0
        self._scope: PromiseScope | None = None
        self._tokens: tuple[Token[Any], Token[Any]] | None = None
        self._timeout: asyncio.Timeout | None = None

    def _enter(self) -> PromiseScope:
        if self._scope is not None:
            raise RuntimeError("a deadline can be entered once only")
        at = time.monotonic() + self._seconds
        outer = deadline_at.get()
        self._at = at if outer is None else min(at, outer)
        scope = PromiseScope(deadline_scope.get() or find_request_scope())
        self._scope = scope
        self._tokens = (deadline_at.set(self._at), deadline_scope.set(scope))
        return scope

    def _leave(self) -> None:
        if self._tokens is not None:
            deadline_at.reset(self._tokens[0])
            deadline_scope.reset(self._tokens[1])

    def _left(self) -> float:
        return max(0.0, self._at - time.monotonic())

    def _exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the deadline of {self._seconds} seconds has passed")

    def __enter__(self) -> Self:
        scope = self._enter()
        scope.end_after(self._left(), self._exceeded())
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if self._scope is not None and not self._scope.unfinished():
            self._scope.end()

    async def __aenter__(self) -> Self:
        self._enter()
        self._timeout = asyncio.timeout(self._left())
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope, timeout = self._scope, self._timeout
        self._leave()
        if scope is None or timeout is None:
            return
        try:
            await timeout.__aexit__(error_type, error, traceback)
        except TimeoutError as expired:
            exceeded = self._exceeded()
            scope.end(exceeded)
            raise exceeded from expired.__cause__
        if scope.unfinished():
            scope.end_after(self._left(), self._exceeded())
        else:
            scope.end()
