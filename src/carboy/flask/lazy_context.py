"""Flask's request context with the parts that few views look at made when they are asked for.

The native dispatch makes these objects without their constructors (``flask/context.rs``),
for requests on whose way nothing can tell the difference; their attributes are native
(``flask/lazy_context.rs``). Whether Flask and Werkzeug have
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

from carboy._carboy import AppContextBase, RequestContextBase

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.ctx import RequestContext
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


def _with_native_half(native_half: type, own: type) -> type:
    """Make a class whose attributes are native, and that looks like Flask's own."""
    names = {"__slots__": (), "__module__": own.__module__, "__doc__": own.__doc__}
    return type(own.__name__, (native_half, own), names)


def create_url_adapter(context: RequestContext) -> MapAdapter | None:
    """Make the adapter for building URLs as ``RequestContext.__init__`` does."""
    try:
        return context.app.create_url_adapter(context.request)
    except HTTPException as error:
        context.request.routing_exception = error
        return None


def open_session(
    context: RequestContext, opener: Callable[[Flask, Any], SessionMixin | None] | None
) -> SessionMixin:
    """Open the session as ``RequestContext.push`` does.

    Args:
        context: The request's context.
        opener: The session interface's method when the context was pushed; none for a context
            that was not pushed for a request.
    """
    interface = context.app.session_interface
    session = (opener or interface.open_session)(context.app, context.request)
    if session is None:
        session = interface.make_null_session(context.app)
    return session


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
        _with_native_half(RequestContextBase, flask_ctx.RequestContext),
        _with_native_half(AppContextBase, flask_ctx.AppContext),
        flask_globals._cv_app,
        request_variable,
        EnvironHeaders,
    )
