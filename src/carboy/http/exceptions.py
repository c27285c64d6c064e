"""What can go wrong with a call. The names and their tree are those of httpx.

Each is also the built-in exception that it is a case of (``TimeoutError``,
``ConnectionError``, ``ValueError``), so that code which knows nothing of carboy understands it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carboy.http.request import Request
    from carboy.http.response import Response


class HTTPError(Exception):
    """Anything that a call may raise.

    Attributes:
        request: The request.
    """

    def __init__(self, message: str, request: Request | None = None) -> None:
        super().__init__(message)
        self.request = request
        if request is not None and request.call is not None:
            request.call.end(error=self)

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.request is None else f"{message} ({self.request})"


class RequestError(HTTPError):
    """There is no response."""


class TransportError(RequestError):
    """The way to the server or back has failed."""


class TimeoutException(TransportError, TimeoutError):
    """Something took too long."""


class ConnectTimeout(TimeoutException):
    """No connection was there in time."""


class ReadTimeout(TimeoutException):
    """The server sent nothing for too long."""


class WriteTimeout(TimeoutException):
    """The server took nothing of the request for too long."""


class PoolTimeout(TimeoutException):
    """All connections were in use for too long."""


class TotalTimeout(TimeoutException):
    """The call as a whole took too long."""


class NetworkError(TransportError, ConnectionError):
    """The network has failed."""


class ConnectError(NetworkError):
    """No connection could be made."""


class ResolveError(ConnectError):
    """The host's name has no address."""


class TLSError(ConnectError):
    """The TLS handshake failed: the certificate, the name, or the protocol."""


class ReadError(NetworkError):
    """The connection broke while the response was awaited or read."""


class WriteError(NetworkError):
    """The connection broke while the request was written."""


class ProxyError(TransportError, ConnectionError):
    """The proxy refuses, or can't be spoken to."""


class ProtocolError(TransportError):
    """Somebody breaks the rules of HTTP."""


class LocalProtocolError(ProtocolError, ValueError):
    """The request can't be sent as it is."""


class RemoteProtocolError(ProtocolError, ConnectionError):
    """What the server sent is not HTTP, or breaks off."""


class UnsupportedProtocol(TransportError, ValueError):
    """The URL's scheme is neither ``http`` nor ``https``."""


class InvalidURL(RequestError, ValueError):
    """The URL can't be parsed or has no host."""


class DecodingError(RequestError, ValueError):
    """The response's content coding is broken."""


class ContentTooLarge(RequestError, ValueError):
    """The content is larger than the limit, or a decompression bomb."""


class TooManyRedirects(RequestError):
    """More redirects than allowed."""


class UploadError(RequestError):
    """The content to upload could not be read. What that has raised is the ``__cause__``."""

    def __init__(self, message: str, request: Request | None = None) -> None:
        super().__init__(message, request)
        if request is not None and request.source is not None:
            self.__cause__ = request.source.error


class ClientClosed(RequestError, RuntimeError):
    """The session was closed before."""


class StreamConsumed(HTTPError, RuntimeError):
    """The content is a stream that was read or closed, or was not read yet."""


class HTTPStatusError(HTTPError):
    """``raise_for_status()`` met a status of 400 or more.

    Attributes:
        response: The response.
    """

    def __init__(self, message: str, request: Request | None, response: Response) -> None:
        super().__init__(message, request)
        self.response = response

    def __str__(self) -> str:
        return Exception.__str__(self)
