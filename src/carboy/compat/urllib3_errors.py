"""Errors of carboy's as urllib3 raises them from a connection."""

from __future__ import annotations

import errno
import os
import re
import socket
from http.client import BadStatusLine, RemoteDisconnected
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    EmptyPoolError,
    InvalidHeader,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
)

from carboy.http import exceptions

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

_SYSTEM_ERROR = re.compile(r"([^:]*) \(os error (\d+)\)")


def _reason(error: Exception) -> str:
    """Return why a connection failed, in Python's words."""
    found = _SYSTEM_ERROR.search(str(error))
    if found is None:
        return str(error)
    number = int(found[2])
    return f"[Errno {number}] {os.strerror(number)}"


def translated(
    error: exceptions.HTTPError,
    pool: HTTPConnectionPool,
    url: str,
    connection: Any,
    connect: float | None,
    read: float | None,
) -> Exception:
    """Return what urllib3 raises from a connection where carboy raises this."""
    match error:
        case exceptions.ConnectTimeout():
            return ConnectTimeoutError(
                connection,
                f"Connection to {pool.host} timed out. (connect timeout={connect})",
            )
        case exceptions.PoolTimeout():
            message = "Pool reached maximum size and no more connections are allowed."
            return EmptyPoolError(pool, message)
        case exceptions.WriteTimeout():
            return TimeoutError("The write operation timed out")
        case exceptions.TimeoutException():
            return ReadTimeoutError(pool, url, f"Read timed out. (read timeout={read})")
        case exceptions.ResolveError():
            reason = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return NameResolutionError(pool.host, connection, reason)
        case exceptions.ConnectError():
            message = f"Failed to establish a new connection: {_reason(error)}"
            return NewConnectionError(connection, message)
        case exceptions.ProxyError():
            cause = OSError(str(error))
            return ProxyError("Unable to connect to proxy", cause)
        case exceptions.WriteError():
            return BrokenPipeError(errno.EPIPE, "Broken pipe")
        case exceptions.RemoteProtocolError():
            if "closed the connection" in str(error):
                return RemoteDisconnected("Remote end closed connection without response")
            if "content-length" in str(error):
                return InvalidHeader("Content-Length contained multiple unmatching values")
            return BadStatusLine(str(error))
        case exceptions.ClientClosed():
            return ClosedPoolError(pool, "Pool is closed.")
        case exceptions.NetworkError():
            return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        case _:
            return ConnectionError(str(error))
