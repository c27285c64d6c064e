"""When a request is given up before its answer: its client goes, or its time is up.

An application's settings are in ``app.config`` or, below that, in the environment. They are
read when the server starts.

``CARBOY_CANCEL_ON_DISCONNECT``
    ``safe``, ``always`` or ``never``: see ``cancel_on_disconnect``. Without it, ``safe`` for
    requests that make promises.
``CARBOY_CANCEL_GRACE``
    For how many seconds an ``async def`` view that is given up may wait for something else than
    promises before its task is cancelled: 3.
``CARBOY_REQUEST_DEADLINE``
    How many seconds a request may take. Without it, there is no limit.
``CARBOY_DEADLINE_HEADER``
    A header, ``X-Request-Timeout-Ms`` for one, in which clients say how many milliseconds they
    wait, and services are told. Without it, there is none.
``CARBOY_HALF_CLOSED_CLIENTS``
    ``answer`` or ``drop``: what becomes of clients that close their sending side after their
    request. Without it, they are answered.
"""

from __future__ import annotations

import functools
import inspect
import os
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from carboy._carboy import find_request_scope
from carboy.scope import remaining_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cancel_on_disconnect"]

#: When a request is given up because its client has gone.
Policy = Literal["safe", "always", "never"]

F = TypeVar("F", bound="Callable[..., Any]")

_POLICIES = ("safe", "always", "never")
_GRACE_SECONDS = 3.0


def cancel_on_disconnect(policy: Policy = "always") -> Callable[[F], F]:
    """Say for one view when it is given up because its client has gone.

    A view that is given up gets ``ClientDisconnected`` out of ``result()`` and ``await`` of its
    promises, and the work for them ends, down to the socket. If an ``async def`` view waits for
    something else, its task is cancelled after a grace period. Teardown functions run as always.

    ::

        @app.post("/report")
        @cancel_on_disconnect("always")
        def report(): ...

    Args:
        policy: ``"safe"``, as without the decorator: if the method is GET, HEAD or another that
            changes nothing; of other requests only promises stop that are ``cancellable()``.
            ``"always"``: whatever the method is. ``"never"``: the view runs to its end, with
            all of its promises.

    Raises:
        ValueError: If there is no such policy.
    """
    _check_policy("policy", policy)

    def decorate(view: F) -> F:
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def chosen(*arguments: Any, **keywords: Any) -> Any:
                _choose(policy)
                return await view(*arguments, **keywords)
        else:

            @functools.wraps(view)
            def chosen(*arguments: Any, **keywords: Any) -> Any:
                _choose(policy)
                return view(*arguments, **keywords)

        return chosen  # type: ignore[return-value]

    return decorate


def _choose(policy: Policy) -> None:
    scope = find_request_scope()
    if scope is not None:
        scope.cancel_on_disconnect(policy)


def settings_of(application: Any) -> tuple[str, bool, float, float | None, str | None, bool]:
    """Return what an application has set, for the server.

    Returns:
        The policy; whether the application has chosen it; the grace period in seconds; the
        deadline in seconds; the header; whether half-closed clients are answered.

    Raises:
        ValueError: If a setting is not one.
    """
    config = getattr(application, "config", None)
    known = config if isinstance(config, dict) else {}

    def setting(name: str) -> Any:
        value = known.get(name)
        return os.environ.get(name) or None if value is None else value

    policy = setting("CARBOY_CANCEL_ON_DISCONNECT")
    if policy is not None:
        _check_policy("CARBOY_CANCEL_ON_DISCONNECT", policy)
    grace = _seconds("CARBOY_CANCEL_GRACE", setting("CARBOY_CANCEL_GRACE"))
    half_closed = setting("CARBOY_HALF_CLOSED_CLIENTS") or "answer"
    if half_closed not in ("answer", "drop"):
        raise ValueError(f"CARBOY_HALF_CLOSED_CLIENTS is 'answer' or 'drop', not {half_closed!r}")
    return (
        policy or "safe",
        policy is not None,
        _GRACE_SECONDS if grace is None else grace,
        _seconds("CARBOY_REQUEST_DEADLINE", setting("CARBOY_REQUEST_DEADLINE")),
        setting("CARBOY_DEADLINE_HEADER"),
        half_closed == "answer",
    )


def _check_policy(name: str, policy: object) -> None:
    if policy not in _POLICIES:
        raise ValueError(f"{name} is one of {', '.join(_POLICIES)}, and not {policy!r}")


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} is a number of seconds, and not {value!r}")
    return seconds


def outgoing_deadline() -> list[tuple[str, str]]:
    """Return the header that tells a service how long it may take, if there is to be one."""
    left = remaining_seconds()
    if left is None:
        return []
    scope = find_request_scope()
    name = None if scope is None else scope.deadline_header()
    return [] if name is None else [(name, str(int(left * 1000)))]
