"""The two methods of Flask that are replaced while carboy serves, and one once there are promises.

``Flask.async_to_sync`` is Flask's own extension point for running coroutines; here it
sends them to the one persistent loop. ``Flask.make_response`` additionally takes
awaitables and async iterators, which are a ``TypeError`` in Flask, so that nothing that
is valid today changes its meaning. A subclass that overrides either keeps its own.

Where somebody else serves, as Flask's test client does, ``Flask.make_response`` takes promises
from the first one on that was made for a request.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import types
import weakref
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
    _refuse_response_of_call(rv)
    return _flask_make_response(self, rv)


def _refuse_response_of_call(rv: Any) -> None:
    """Say what to return instead of what another service has answered."""
    body = rv[0] if isinstance(rv, tuple) and rv else rv
    module = sys.modules.get("carboy.http.response")
    if module is not None and isinstance(body, module.Response):
        raise TypeError(
            f"the view has returned a carboy.http.Response, that of {body.request}: return what is "
            "to be passed on of it, such as response.json(), response.text, or "
            "(response.content, response.status_code)"
        )


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

#: Functions of ``_taking_promises``, and what each stands for.
_stood_for: weakref.WeakKeyDictionary[Callable[..., Any], Any] = weakref.WeakKeyDictionary()


def take_promises() -> None:
    """Let views return promises, whoever serves them."""
    found = Flask.make_response
    if found is not make_response and found not in _stood_for:
        Flask.make_response = _taking_promises(found)  # type: ignore[assignment, method-assign]


def _taking_promises(own: Callable[[Flask, Any], Response]) -> Callable[[Flask, Any], Response]:
    @functools.wraps(own)
    def make_response(self: Flask, rv: Any) -> Response:
        if holds_promises(rv):
            try:
                rv = _result(self, rv, sys._getframe(1).f_code)
            except asyncio.CancelledError as error:
                raise RuntimeError(
                    "a promise that the view has returned was cancelled. Where carboy does not "
                    "serve, each async view has an event loop of its own, which ends with it: "
                    "await the promise in the view, or test with pytest -p carboy.testing.takeover"
                ) from error
        _refuse_response_of_call(rv)
        return own(self, rv)

    _stood_for[make_response] = own
    return make_response


def _found(name: str) -> Any:
    """Return Flask's method as somebody else has left it."""
    found = getattr(Flask, name)
    return _stood_for.get(found, found)


def install() -> None:
    """Replace Flask's methods. Each call needs one of ``uninstall``."""
    global _flask_make_response, _installed
    _installed += 1
    for name, method in REPLACEMENTS.items():
        if (found := _found(name)) is not method:
            _replaced[name] = found
            setattr(Flask, name, method)
    _flask_make_response = _replaced["make_response"]


def replaced(name: str) -> Any:
    """Return the method that one of carboy's stands for, or will once it is installed."""
    found = _found(name)
    return _replaced[name] if found is REPLACEMENTS[name] else found


def uninstall() -> None:
    """Put Flask's own methods back after the last server."""
    global _installed
    _installed -= 1
    if _installed == 0:
        for name, method in _replaced.items():
            setattr(Flask, name, method)
