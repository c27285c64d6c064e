"""Calls of HTTP services, from ``def`` and ``async def`` code alike.

Each function begins a call at once and returns the promise of its response: ``await`` it in
async code, take its ``.result()`` in sync code::

    user = http.get("https://users.example/7")
    cart = http.get("https://carts.example/7")  # Both are on their way.
    return {"user": user.result().json(), "cart": cart.result().json()}
"""

from carboy.http.authentication import BasicAuth, BearerAuth, DigestAuth
from carboy.http.calls import (
    delete,
    get,
    head,
    options,
    patch,
    post,
    put,
    request,
    stream,
)
from carboy.http.cookies import Cookies
from carboy.http.exceptions import (
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    ContentTooLarge,
    DecodingError,
    HTTPError,
    HTTPStatusError,
    InvalidURL,
    LocalProtocolError,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    ProxyError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    ResolveError,
    StreamConsumed,
    TimeoutException,
    TLSError,
    TooManyRedirects,
    TotalTimeout,
    TransportError,
    UnsupportedProtocol,
    UploadError,
    WriteError,
    WriteTimeout,
)
from carboy.http.headers import Headers
from carboy.http.request import Request
from carboy.http.response import Event, Response
from carboy.http.session import Session
from carboy.http.settings import Limits, Retries, Timeout
from carboy.http.timeline import Call, timeline

#: The name that users of httpx look for.
Client = Session

__all__ = [
    "BasicAuth",
    "BearerAuth",
    "Call",
    "Client",
    "ClientClosed",
    "ConnectError",
    "ConnectTimeout",
    "ContentTooLarge",
    "Cookies",
    "DecodingError",
    "DigestAuth",
    "Event",
    "HTTPError",
    "HTTPStatusError",
    "Headers",
    "InvalidURL",
    "Limits",
    "LocalProtocolError",
    "NetworkError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "ResolveError",
    "Response",
    "Retries",
    "Session",
    "StreamConsumed",
    "TLSError",
    "Timeout",
    "TimeoutException",
    "TooManyRedirects",
    "TotalTimeout",
    "TransportError",
    "UnsupportedProtocol",
    "UploadError",
    "WriteError",
    "WriteTimeout",
    "delete",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "request",
    "stream",
    "timeline",
]
