"""A pytest plugin: ``pytest -p carboy.testing.takeover``.

From then on every request of Flask's (and Werkzeug's) test clients in the process is
served by carboy's own dispatch: ``async def`` code on one persistent loop, on a thread of
its own; ``def`` code, from the push of the context to its pop, on one thread, which is the
test's own. So a project's tests run by the rules of production, and contexts that a test
preserves or pushes itself stay where they are.

``statistics`` holds how many requests were served, and how many coroutines (views, hooks,
handlers) ran on the loop for them; pytest prints both at the end. Without pytest, call
``install()``.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

import werkzeug.test
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from carboy._carboy import InProcessDispatcher, add_home_loop, awaits
from carboy.background_loop import shared_background_loop
from carboy.flask import patch, pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["install", "statistics"]


class _Statistics(dict[str, int]):
    """``requests`` is counted here, ``awaits`` and ``on_loop`` where they happen."""

    def __missing__(self, key: str) -> int:
        return 0


#: ``requests``: served by carboy's dispatch; ``on_loop``: those of them that ran whole on
#: the loop; ``awaits``: coroutines that ran on the loop, as such a request's view or for
#: sync code that waited for them.
statistics: dict[str, int] = _Statistics(requests=0, on_loop=0, awaits=0)

_dispatchers: weakref.WeakKeyDictionary[Any, InProcessDispatcher] = weakref.WeakKeyDictionary()
_run_wsgi_app = werkzeug.test.run_wsgi_app
_installed = False


def _serve(
    application: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Serve a request by carboy's dispatch; a WSGI callable but for the first argument."""
    statistics["requests"] += 1
    if not isinstance(application, Flask):
        return application(environ, start_response)
    dispatcher = _dispatchers.get(application)
    if dispatcher is None:
        dispatcher = _dispatchers[application] = InProcessDispatcher(application)
    outcome = dispatcher.dispatch(shared_background_loop().loop, environ)
    if outcome is None:
        return application(environ, start_response)
    was_on_loop, context, (stage, value) = outcome
    if was_on_loop:
        statistics["on_loop"] += 1
        statistics["awaits"] += 1
    return pipeline.finish(application, context, environ, stage, value, start_response)


@functools.wraps(_run_wsgi_app)
def run_wsgi_app(app: WSGIApplication, environ: WSGIEnvironment, buffered: bool = False) -> Any:  # noqa: FBT001, FBT002 - Werkzeug's signature.
    """As ``werkzeug.test.run_wsgi_app``, through carboy."""
    if isinstance(app, (HTTPException, Response)):
        # Flask makes its response of such an object with this function: that is no request.
        return _run_wsgi_app(app, environ, buffered)
    before = awaits()
    served = functools.partial(_serve, app)
    try:
        return _run_wsgi_app(served, environ, buffered)
    finally:
        statistics["awaits"] += awaits() - before


def install() -> None:
    """Take over the requests of this process's test clients."""
    global _installed
    if _installed:
        return
    _installed = True
    patch.install()
    add_home_loop(shared_background_loop().loop)
    werkzeug.test.run_wsgi_app = run_wsgi_app


def pytest_configure() -> None:
    """Take over when pytest starts."""
    install()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many requests were served."""
    terminalreporter.write_line(
        "carboy served {requests} requests of test clients: {on_loop} whole on the loop,"
        " {awaits} coroutines run".format(**statistics)
    )
