"""The steps of ``Flask.wsgi_app`` one by one, for requests that are served on the loop.

``Flask.wsgi_app`` is one synchronous call from the push of the context to its pop. A
request on the loop has to wait in the middle, so it takes the same steps, in the same
order, by Flask's own methods: ``enter``, then the view, then ``finalize`` and ``leave``;
or ``finish``, which does all that is left, on a worker.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask import globals as flask_globals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask.ctx import RequestContext
    from flask.wrappers import Response

#: Flask 3.2 passes the context to the methods of the pipeline, 3.1 finds it itself.
_PASSES_CONTEXT = "ctx" in inspect.signature(Flask.dispatch_request).parameters

#: Flask 3.1 has a context of its own for the request, 3.2 one for both.
_request_variable = getattr(flask_globals, "_cv_request", None)


def enter(app: Flask, environ: WSGIEnvironment) -> tuple[RequestContext, Exception | None]:
    """Push a new context for a request, up to the call of the view.

    Returns:
        The context, and the routing exception that stands in for the view, if any.
    """
    context = app.request_context(environ)
    context.push()
    app._got_first_request = True
    return context, context.request.routing_exception


def finalize(app: Flask, context: RequestContext, value: Any) -> Response:
    """Make the response of a view's return value, through ``Flask.finalize_request``."""
    if _PASSES_CONTEXT:
        return app.finalize_request(context, value)  # type: ignore[arg-type]
    return app.finalize_request(value)


def leave(
    app: Flask,
    context: RequestContext,
    environ: WSGIEnvironment,
    response: Any,
    start_response: StartResponse,
    error: BaseException | None = None,
) -> Iterable[bytes]:
    """Start the response and pop the context, as the end of ``Flask.wsgi_app`` does."""
    try:
        return response(environ, start_response)  # type: ignore[no-any-return]
    finally:
        _pop(app, context, environ, error)


def finish(
    app: Flask,
    context: RequestContext,
    environ: WSGIEnvironment,
    stage: str,
    value: Any,
    start_response: StartResponse,
) -> Iterable[bytes]:
    """Do what is left of a request.

    Args:
        app: The app.
        context: The context, which is pushed.
        environ: The request's environ.
        stage: What ``value`` is: ``"value"``, which the view returned; ``"error"``, which it
            raised; ``"unhandled"``, which Flask raised while it made the response; or
            ``"response"``, which only has to be started.
        value: See ``stage``.
        start_response: As in PEP 3333.
    """
    error: BaseException | None = None
    try:
        try:
            if stage == "unhandled":
                raise value
            if stage == "response":
                response = value
            elif stage == "error":
                response = finalize(app, context, _handle_user_exception(app, context, value))
            else:
                response = finalize(app, context, value)
        except Exception as exception:  # noqa: BLE001 - As in Flask.wsgi_app.
            error = exception
            response = _handle_exception(app, context, exception)
        except BaseException:
            error = sys.exc_info()[1]
            raise
        return response(environ, start_response)  # type: ignore[no-any-return]
    finally:
        _pop(app, context, environ, error)


def _handle_user_exception(app: Flask, context: RequestContext, error: BaseException) -> Any:
    # Flask's method ends in a bare ``raise``: the exception must be the one being handled.
    try:
        raise error
    except Exception as exception:  # noqa: BLE001 - The one that was just raised.
        if _PASSES_CONTEXT:
            return app.handle_user_exception(context, exception)  # type: ignore[call-arg, arg-type]
        return app.handle_user_exception(exception)


def handle_user_exception(app: Flask, error: Exception) -> Any:
    """Call ``Flask.handle_user_exception`` while ``error`` is being handled."""
    if _PASSES_CONTEXT:
        context: Any = flask_globals._cv_app.get()
        return app.handle_user_exception(context, error)  # type: ignore[call-arg]
    return app.handle_user_exception(error)


def _handle_exception(app: Flask, context: RequestContext, error: Exception) -> Response:
    if _PASSES_CONTEXT:
        return app.handle_exception(context, error)  # type: ignore[call-arg, arg-type]
    return app.handle_exception(error)


def _pop(
    app: Flask, context: RequestContext, environ: WSGIEnvironment, error: BaseException | None
) -> None:
    preserve = environ.get("werkzeug.debug.preserve_context")
    if preserve is not None:
        if _request_variable is not None:
            preserve(flask_globals._cv_app.get())
            preserve(_request_variable.get())
        else:
            preserve(context)
    # Flask 3.2 lets it be None.
    ignores = app.should_ignore_error
    if error is not None and ignores is not None and ignores(error):
        error = None
    context.pop(error)
