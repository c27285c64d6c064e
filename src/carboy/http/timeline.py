"""What calls a request has made, and when: for a look at what waits for what."""

from __future__ import annotations

import os
import sys
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from carboy import promise
from carboy._carboy import keep_causes, url_for_display

if TYPE_CHECKING:
    from carboy.http.response import Response

#: Calls of what is not in a Flask context, by ``contextvars.Context``.
_calls: ContextVar[list[Call] | None] = ContextVar("carboy_http_calls", default=None)
#: The calls whose outcome the code of this context has got.
_known: ContextVar[tuple[weakref.ref[Call], ...]] = ContextVar("carboy_known_calls", default=())
#: Calls of requests, by Flask's context.
_calls_of_requests: weakref.WeakKeyDictionary[Any, list[Call]] = weakref.WeakKeyDictionary()


class Call:
    """A call, from its start.

    Times are seconds of ``time.perf_counter()``.

    Attributes:
        depends_on: The calls whose outcome the code had when it began this one, and which
            were not themselves what another of them depends on. It is known of code that got
            them by ``then`` and its kin, by ``result()``, or by ``await``.
        method: The method.
        url: The URL.
        began: When it began.
        ended: When it ended; ``None`` while it goes on.
        status_code: The status of its response, if there is one.
        error: What it raised, if it has failed.
        timings: ``Response.timings``, empty without a response.
    """

    __slots__ = (
        *("__weakref__", "began", "depends_on", "ended", "error", "method", "status_code"),
        *("timings", "url"),
    )

    def __init__(self, method: str, url: str, depends_on: tuple[Call, ...] = ()) -> None:
        self.depends_on = depends_on
        self.method = method
        self.url = url
        self.began = time.perf_counter()
        self.ended: float | None = None
        self.status_code: int | None = None
        self.error: BaseException | None = None
        self.timings: dict[str, float | None] = {}

    def end(self, response: Response | None = None, error: BaseException | None = None) -> None:
        """Note how it ended. Only the first time counts."""
        if self.ended is not None:
            return
        self.ended = time.perf_counter()
        self.error = error
        if response is not None:
            self.status_code = response.status_code
            self.timings = response.timings

    @property
    def phases(self) -> list[tuple[str, float, float]]:
        """Name, begin and end of each phase that happened, in their order."""
        phases = []
        at = self.began + (self.timings.get("start") or 0.0)
        for name in ("pool", "resolve", "connect", "tls", "head", "content"):
            seconds = self.timings.get(name)
            if seconds is not None:
                phases.append((name, at, at + seconds))
                at += seconds
        return phases

    def __repr__(self) -> str:
        end = "pending" if self.ended is None else f"{(self.ended - self.began) * 1000:.1f} ms"
        url = url_for_display(self.url)
        return f"<Call {self.method} {url} {self.status_code or self.error or ''} {end}>"


def timeline() -> list[Call]:
    """Return the calls of this request so far, in the order of their start.

    They are kept while ``app.debug`` is on, or with ``CARBOY_HTTP_TIMELINE=1`` in the
    environment; then also those of code that serves no request, by its context.
    """
    context = _flask_context()
    calls = _calls.get() if context is None else _calls_of_requests.get(context)
    return list(calls or [])


def begin_call(method: str, url: str) -> Call | None:
    """Note the start of a call, if calls are kept."""
    context = _flask_context()
    if not _is_kept(context):
        return None
    keep_causes()
    promise.known_calls = _known_calls
    call = Call(method, url, _direct(_known_calls()))
    if context is not None:
        _calls_of_requests.setdefault(context, []).append(call)
        return call
    calls = _calls.get()
    if calls is None:
        calls = []
        _calls.set(calls)
    calls.append(call)
    return call


def is_kept() -> bool:
    """Say whether calls that begin here are kept."""
    return _is_kept(_flask_context())


def note_known_calls(calls: list[Call]) -> None:
    """Note that the code of this context has got the outcome of calls. Called by native code."""
    known = _known_calls()
    new = [call for call in calls if call not in known]
    if new:
        _known.set(tuple(weakref.ref(call) for call in (*known, *new)))


def _known_calls() -> list[Call]:
    return [call for reference in _known.get() if (call := reference()) is not None]


def _direct(calls: list[Call]) -> tuple[Call, ...]:
    """Leave out calls that others of them depend on."""
    indirect: set[int] = set()
    left = list(calls)
    while left:
        for before in left.pop().depends_on:
            if id(before) not in indirect:
                indirect.add(id(before))
                left.append(before)
    return tuple(call for call in calls if id(call) not in indirect)


def _flask_context() -> Any:
    # Who does not use Flask shall not have to import it.
    module = sys.modules.get("flask.globals")
    return None if module is None else module._cv_app.get(None)


def are_all_noted() -> bool:
    """Say whether the environment asks for the calls of all code."""
    # A mapping that would encode the name, and raise and catch an error, for every call.
    environment = getattr(os.environ, "_data", None)
    if type(environment) is dict and b"CARBOY_HTTP_TIMELINE" not in environment:
        return False
    return os.environ.get("CARBOY_HTTP_TIMELINE", "") not in {"", "0"}


def _is_kept(context: Any) -> bool:
    return (context is not None and context.app.debug) or are_all_noted()
