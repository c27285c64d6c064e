"""Flask's request context with the parts that few views look at made when they are asked for.

The native dispatch makes these objects without their constructors (``flask/context.rs``),
for requests on whose way nothing can tell the difference. Whether Flask and Werkzeug have
the attributes that it fills in is looked at once, against objects that their own
constructors have made; if not, the constructors are called for each request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask
from flask import Flask
from flask import ctx as flask_ctx
from flask import globals as flask_globals
from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.sessions import SessionMixin
    from werkzeug.routing import MapAdapter

_REQUEST_ATTRIBUTES = {
    "environ",
    "headers",
    "method",
    "path",
    "query_string",
    "remote_addr",
    "root_path",
    "scheme",
    "server",
    "shallow",
}
_HEADERS_ATTRIBUTES = {"_list", "environ"}
_APP_CONTEXT_ATTRIBUTES = {"_cv_tokens", "app", "g", "url_adapter"}
_REQUEST_CONTEXT_ATTRIBUTES = {
    "_after_request_functions",
    "_cv_tokens",
    "_session",
    "app",
    "flashes",
    "request",
    "url_adapter",
}

_ABSENT = object()


def _lazy_request_context() -> type:
    """Make the class; only Flask 3.1 has a context of its own for the request."""

    class LazyRequestContext(flask_ctx.RequestContext):
        """``flask.ctx.RequestContext``, whose URL adapter and session are made when asked for."""

        _adapter: Any = _ABSENT
        #: The session interface's method when the context was pushed.
        _open_session: Callable[[Flask, Any], SessionMixin | None] | None = None
        _opened_session: SessionMixin | None = None

        @property
        def url_adapter(self) -> MapAdapter | None:
            """The adapter for building URLs, as ``Flask.create_url_adapter`` makes it."""
            if self._adapter is _ABSENT:
                try:
                    self._adapter = self.app.create_url_adapter(self.request)
                except HTTPException as error:
                    self._adapter = None
                    self.request.routing_exception = error
            return self._adapter  # type: ignore[no-any-return]

        @url_adapter.setter
        def url_adapter(self, adapter: MapAdapter | None) -> None:
            self._adapter = adapter

        @property
        def _session(self) -> SessionMixin:
            """The session, opened as ``RequestContext.push`` does."""
            if self._opened_session is None:
                open_session = self._open_session or self.app.session_interface.open_session
                session = open_session(self.app, self.request)
                if session is None:
                    session = self.app.session_interface.make_null_session(self.app)
                self._opened_session = session
            return self._opened_session

        @_session.setter
        def _session(self, session: SessionMixin | None) -> None:
            self._opened_session = session

    LazyRequestContext.__qualname__ = "LazyRequestContext"
    return LazyRequestContext


def parts() -> tuple[object, ...] | None:
    """Give the native dispatch what it makes contexts of.

    Returns:
        The request context's class, the app context's class, the two context variables, the
        class of request headers; ``None`` where the installed Flask or Werkzeug has other
        attributes than those that the dispatch fills in.
    """
    request_variable = getattr(flask_globals, "_cv_request", None)
    if request_variable is None:
        return None
    app = Flask("carboy_probe", static_folder=None)
    environ = EnvironBuilder().get_environ()
    request = Request(environ)
    own = flask_ctx.RequestContext(app, environ)
    looks_as_known = (
        set(vars(request)) == _REQUEST_ATTRIBUTES
        and set(vars(request.headers)) == _HEADERS_ATTRIBUTES
        and set(vars(flask.ctx.AppContext(app))) == _APP_CONTEXT_ATTRIBUTES
        and set(vars(own)) == _REQUEST_CONTEXT_ATTRIBUTES
    )
    if not looks_as_known:
        return None
    return (
        _lazy_request_context(),
        flask_ctx.AppContext,
        flask_globals._cv_app,
        request_variable,
        EnvironHeaders,
    )
