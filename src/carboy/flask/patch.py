"""The two methods of Flask that are replaced while carboy serves.

``Flask.async_to_sync`` is Flask's own extension point for running coroutines; here it
sends them to the one persistent loop. ``Flask.make_response`` additionally takes
awaitables and async iterators, which are a ``TypeError`` in Flask, so that nothing that
is valid today changes its meaning. A subclass that overrides either keeps its own.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask

from carboy._carboy import await_on_loop, holds_promises
from carboy.flask.async_iteration import BridgedIterator
from carboy.flask.pipeline import handle_user_exception
from carboy.promise import promise_of_all_within

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flask.wrappers import Response

T = TypeVar("T")

#: What carboy's ``make_response`` ends with: what it found in place, which may be a tracer's.
_flask_make_response = Flask.make_response


def async_to_sync(_self: Flask, func: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
    """Return a function that runs ``func``'s coroutine on the loop and gives its result."""

    @functools.wraps(func)
    def bridged(*args: Any, **kwargs: Any) -> T:
        return await_on_loop(func(*args, **kwargs))

    return bridged


def make_response(self: Flask, rv: Any) -> Response:
    """As ``Flask.make_response``, for awaitables and async iterators too."""
    if holds_promises(rv):
        rv = _result(self, rv, sys._getframe(1).f_code)
    while _is_awaitable(rv):
        rv = await_on_loop(rv)
    if isinstance(rv, AsyncIterable):
        rv = BridgedIterator(rv)
    elif isinstance(rv, tuple) and rv:
        body = rv[0]
        if _is_awaitable(body):
            return make_response(self, (await_on_loop(body), *rv[1:]))
        if isinstance(body, AsyncIterable):
            rv = (BridgedIterator(body), *rv[1:])
    return _flask_make_response(self, rv)


def _result(self: Flask, rv: Any, caller: types.CodeType) -> Any:
    """Wait for the promises in a view's return value.

    Their errors are those of the view, and are handled so. Who calls ``make_response``
    in a view gets them raised.
    """
    try:
        while holds_promises(rv):
            rv = promise_of_all_within(rv).result()
    except Exception as error:
        if caller is not Flask.finalize_request.__code__:
            raise
        rv = handle_user_exception(self, error)
        while holds_promises(rv):
            rv = promise_of_all_within(rv).result()
    return rv


def _is_awaitable(value: object) -> bool:
    # The common return values first: inspect.isawaitable asks an abstract class.
    if isinstance(value, (str, bytes, dict, list, tuple)):
        return False
    if isinstance(value, types.GeneratorType):
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return inspect.isawaitable(value)


#: carboy's methods by name.
REPLACEMENTS = {"async_to_sync": async_to_sync, "make_response": make_response}

_replaced: dict[str, Any] = {}
_installed = 0


def install() -> None:
    """Replace Flask's methods. Each call needs one of ``uninstall``."""
    global _flask_make_response, _installed
    _installed += 1
    for name, method in REPLACEMENTS.items():
        if (found := getattr(Flask, name)) is not method:
            _replaced[name] = found
            setattr(Flask, name, method)
    _flask_make_response = _replaced["make_response"]


def replaced(name: str) -> Any:
    """Return the method that one of carboy's stands for, or will once it is installed."""
    found = getattr(Flask, name)
    return _replaced[name] if found is REPLACEMENTS[name] else found


def uninstall() -> None:
    """Put Flask's own methods back after the last server."""
    global _installed
    _installed -= 1
    if _installed == 0:
        for name, method in _replaced.items():
            setattr(Flask, name, method)
