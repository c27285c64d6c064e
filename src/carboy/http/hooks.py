"""A session's hooks: what is called with each request and each response."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping

    from carboy.http.request import Request

    Hook = Callable[[Any], Any]
    #: ``hooks=``: by ``request`` and ``response``, one function or several.
    HookTypes = Mapping[str, Hook | Iterable[Hook]]


def hooks_of(hooks: HookTypes | None) -> dict[str, list[Hook]]:
    """Return the functions by what they are called with.

    Raises:
        TypeError: If one can't be called.
        ValueError: If they are for something else.
    """
    found = {
        name: [functions] if callable(functions) else list(functions)
        for name, functions in (hooks or {}).items()
    }
    unknown = set(found) - {"request", "response"}
    if unknown:
        raise ValueError(f"there are hooks 'request' and 'response', and not {sorted(unknown)}")
    for name, functions in found.items():
        for function in functions:
            if not callable(function):
                raise TypeError(f"a hook for each {name} is to be a function, not {function!r}")
    return found


def hooks_for(hooks: Mapping[str, Hook | Iterable[Hook]], name: str) -> Iterable[Hook]:
    """Return the functions for each request or response, of a session's hooks as they are now."""
    found = hooks.get(name, ())
    return (found,) if callable(found) else found


def call_hooks(hooks: Iterable[Hook], request: Request) -> Coroutine[Any, Any, None] | None:
    """Call functions with a request, one after the other.

    Returns:
        What is to be awaited before the request is sent, if one of them is async.
    """
    left = iter(hooks)
    for hook in left:
        outcome = hook(request)
        if inspect.isawaitable(outcome):
            return _go_on(outcome, left, request)
    return None


async def _go_on(outcome: Awaitable[Any], left: Iterator[Hook], request: Request) -> None:
    await outcome
    for hook in left:
        outcome = hook(request)
        if inspect.isawaitable(outcome):
            await outcome
