"""Promises among the arguments of a call: it begins when they are fulfilled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carboy._carboy import holds_promises
from carboy.promise import promise_of_all_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from carboy._carboy import Promise
    from carboy.http.response import Response


def begin_after(
    arguments: dict[str, Any], begin: Callable[..., Promise[Response]]
) -> Promise[Response]:
    """Begin a call with the values of the promises in its arguments, when they are there.

    If one of them fails, the call never begins, and its promise has that error. Arguments without
    promises are passed as they are.

    Args:
        arguments: By name. Promises may be within dicts, lists and tuples, too.
        begin: Begins the call.
    """
    pending = {name: value for name, value in arguments.items() if holds_promises(value)}

    def begin_with(values: dict[str, Any]) -> Promise[Response]:
        return begin(**(arguments | values))

    return promise_of_all_within(pending).then(begin_with)
