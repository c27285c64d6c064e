"""The server's own log.

Flask logs what happens inside an app. What an application lets out of its WSGI callable,
and what goes wrong in the server, is logged here, on the logger ``carboy``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from carboy.scope import is_departure

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

logger = logging.getLogger("carboy")


def log_failure(environ: WSGIEnvironment, error: BaseException, has_client_gone: bool) -> None:  # noqa: FBT001 - For native code.
    """Log an exception that left the application, with the request it belongs to."""
    method = environ.get("REQUEST_METHOD", "?")
    path = environ.get("PATH_INFO", "?")
    if has_client_gone and is_departure(error):
        logger.debug("The client has gone during %s %r", method, path)
        return
    logger.error("Exception while serving %s %r", method, path, exc_info=error)
