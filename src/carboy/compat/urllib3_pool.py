"""A connection pool of urllib3's whose requests go through carboy's.

It is a view of the pool that urllib3 has made: it shares that pool's attributes, and all of
urllib3's own logic (retries, waits between them, redirects, which exception wraps which) with
it. Only the exchange of one request for one response is carboy's.

What carboy can't do as urllib3 would, urllib3 does: see ``view_of``.
"""

from __future__ import annotations

import http.client
import logging
import re
import socket
import warnings
from typing import TYPE_CHECKING, Any

import urllib3._version
import urllib3.connection
import urllib3.connectionpool
import urllib3.util.connection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    InsecureRequestWarning,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Retry, Timeout

from carboy.compat import exchange, pristine
from carboy.compat.trust import certificate_error
from carboy.compat.upload import Pump, SourceError
from carboy.compat.urllib3_errors import translated
from carboy.compat.urllib3_link import ATTRIBUTE, Link, make_link
from carboy.compat.urllib3_message import message, split_url
from carboy.compat.urllib3_response import ContentFile, Response, header_dict
from carboy.http import exceptions
from carboy.scope import DeadlineExceeded

if TYPE_CHECKING:
    from carboy._carboy import PlainResponse

is_pristine = pristine.watch(
    [
        (socket, "socket", "socket"),
        (socket, "create_connection", "socket"),
        (socket, "getaddrinfo", "socket"),
        (http.client.HTTPConnection, "request", "http.client"),
        (http.client.HTTPConnection, "putrequest", "http.client"),
        (http.client.HTTPConnection, "endheaders", "http.client"),
        (http.client.HTTPConnection, "getresponse", "http.client"),
        (urllib3.util.connection, "create_connection", "urllib3.util.connection"),
        (urllib3.util.connection, "allowed_gai_family", "urllib3.util.connection"),
        (urllib3.connection.HTTPConnection, "connect", "urllib3.connection"),
        (urllib3.connection.HTTPConnection, "request", "urllib3.connection"),
        (urllib3.connection.HTTPConnection, "_new_conn", "urllib3.connection"),
        (urllib3.connection.HTTPConnection, "getresponse", "urllib3.connection"),
        (urllib3.connection.HTTPSConnection, "connect", "urllib3.connection"),
        (HTTPConnectionPool, "ConnectionCls", "urllib3.connection"),
        (HTTPSConnectionPool, "ConnectionCls", "urllib3.connection"),
        (HTTPConnectionPool, "urlopen", "urllib3.connectionpool"),
        (HTTPConnectionPool, "_make_request", "urllib3.connectionpool"),
        (HTTPConnectionPool, "_get_conn", "urllib3.connectionpool"),
    ]
)
"""Whether everything between a pool of urllib3's and the network is urllib3's and Python's."""


class _UseUrllib3(BaseException):
    """The request is to be made by urllib3 after all; nothing of it was sent.

    Not an ``Exception``, because urllib3 is to pass it on.
    """


def view_of(pool: Any) -> Any:
    """Return the pool's view that goes through carboy, or the pool itself if that can't be.

    Args:
        pool: What urllib3 has made for the request.
    """
    link = pool.__dict__.get(ATTRIBUTE)
    if link is None:
        link = pool.__dict__[ATTRIBUTE] = make_link(pool)
    if link is False or link.is_refused or not is_pristine():
        return pool
    view_class = _View if pool.scheme == "http" else _TLSView
    view = object.__new__(view_class)
    view.__dict__ = pool.__dict__
    return view


#: As requests calls `urlopen`.
_USUAL_OPTIONS = {
    *("method", "url", "body", "headers", "retries", "timeout", "chunked"),
    *("redirect", "assert_same_host", "preload_content", "decode_content"),
}

#: A path and a query in which there is nothing to encode, nor dots to take out of the path.
_PLAIN_TARGET = re.compile(
    r"(?:/(?!\.)[\w\-~!$&'()*+,;=:@.]*)+(?:\?[\w\-.~!$&'()*+,;=:@/?]*)?", re.ASCII
)

#: urllib3's: its messages are the usual way to see what goes out.
_log = logging.getLogger("urllib3.connectionpool")


class _Connection:
    """Stands for a connection while urllib3's logic runs; carboy keeps the real ones."""

    is_closed = False
    is_verified = True
    proxy = None
    proxy_is_verified = None
    has_connected_to_proxy = True
    timeout: Any = None
    sock = None

    def __init__(self, pool: HTTPConnectionPool) -> None:
        self.host = pool.host
        self.port = pool.port

    def close(self) -> None:
        """Do nothing: the response has the connection."""

    def __repr__(self) -> str:
        return f"HTTPConnection(host={self.host!r}, port={self.port!r})"


class _Exchange:
    """What a pool's view does by itself. The names are urllib3's."""

    def urlopen(self, *arguments: Any, **options: Any) -> Any:
        """Send a request as urllib3 would, and return its response."""
        try:
            if not arguments and options.keys() == _USUAL_OPTIONS:
                outcome = self._exchange_at_once(**options)
                if type(outcome) is Response:
                    return outcome
                if outcome is not None:
                    options["_outcome"] = outcome
            return super().urlopen(*arguments, **options)  # type: ignore[misc]
        except _UseUrllib3 as reason:
            pool = object.__new__(self.__dict__[ATTRIBUTE].pool_class)
            pool.__dict__ = self.__dict__
            (body,) = reason.args
            if body is not None:
                options["body"] = body
            return pool.urlopen(*arguments, **options)

    def _exchange_at_once(
        self,
        method: Any,
        url: Any,
        body: Any,
        headers: Any,
        retries: Any,
        timeout: Any,
        *,
        chunked: bool,
        **flags: bool,
    ) -> Any:
        """Send a request of the usual kind without asking urllib3 about every case there is.

        Returns:
            The response; or, in a list, a response or an error of which urllib3 has to decide what
            is to be done; or nothing, if the request is of another kind and was not sent.
        """
        pool: Any = self
        if (
            any(flags.values())
            or pool.proxy is not None
            or pool.proxy_headers
            or not isinstance(retries, Retry)
            or not (body is None or type(body) in {bytes, str})
            # urllib3 would change others.
            or _PLAIN_TARGET.fullmatch(url) is None
        ):
            return None
        conn = _Connection(pool)
        try:
            response = self._make_request(
                conn,
                method,
                url,
                timeout,
                body,
                headers,
                chunked,
                retries,
                conn,
                preload_content=False,
                decode_content=False,
            )
        except Exception as error:  # noqa: BLE001 - Raised where urllib3 expects it.
            return [error]
        has_retry_after = bool(response.headers.get("Retry-After"))
        if retries.is_retry(method, response.status, has_retry_after):
            return [response]
        return response

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - urllib3's.
        return _Connection(self)  # type: ignore[arg-type]

    def _put_conn(self, conn: Any) -> None:
        pass

    def _make_request(
        self,
        conn: Any,
        method: str,
        url: str,
        timeout: Any = None,
        body: Any = None,
        headers: Any = None,
        chunked: bool = False,  # noqa: FBT001, FBT002 - the library's.
        retries: Any = None,
        response_conn: Any = None,
        preload_content: bool = True,  # noqa: FBT001, FBT002 - the library's.
        decode_content: bool = True,  # noqa: FBT001, FBT002 - the library's.
        enforce_content_length: bool = True,  # noqa: FBT001, FBT002 - the library's.
        _outcome: list[Any] | None = None,
    ) -> Any:
        if _outcome:
            # What `_exchange_at_once` has met with. The list is empty when urllib3 tries again.
            known = _outcome.pop()
            if isinstance(known, Exception):
                raise known
            return known
        pool: Any = self
        link: Link = pool.__dict__[ATTRIBUTE]
        pool.num_requests += 1
        limits = pool._get_timeout(timeout)
        limits.start_connect()
        connect = Timeout.resolve_default_timeout(limits.connect_timeout)
        read = limits.read_timeout
        if read is Timeout.DEFAULT_TIMEOUT:
            read = socket.getdefaulttimeout()
        if read == 0:
            raise ReadTimeoutError(pool, url, f"Read timed out. (read timeout={read})")
        # The URL is a whole one where a proxy passes the request on.
        origin, target = (link.origin, url) if url.startswith("/") else split_url(url)
        pairs, content = message(method, headers, body, chunked)
        pump = None if content is None or isinstance(content, bytes) else Pump(*content)
        try:
            transport = link.transport(pool)
        except (OSError, ValueError) as error:
            # urllib3 can read the certificates, or says why not.
            raise _UseUrllib3(None if pump is None else pump.unsent()) from error
        try:
            arguments: tuple[Any, ...] = (
                method,
                origin,
                target,
                pairs,
                content if pump is None else pump.upload,
                (connect, read, connect, None),
                link.proxy,
            )
            response = exchange.send(transport, arguments, pump)
        except SourceError as failed:
            raise failed.error from None
        except exceptions.TLSError as error:
            if (verdict := certificate_error(str(error))) is not None:
                raise SSLError(verdict) from error
            link.is_refused = True
            raise _UseUrllib3(None if pump is None else pump.unsent()) from error
        except exceptions.HTTPError as error:
            raise translated(error, pool, url, conn, connect, read) from error
        except DeadlineExceeded as error:
            raise ReadTimeoutError(pool, url, str(error)) from error
        except UnicodeError:
            # As http.client raises it.
            raise
        except ValueError as error:
            # It can't be sent like this: urllib3 says what is wrong, or sends it.
            raise _UseUrllib3(None if pump is None else pump.unsent()) from error
        if pool.scheme == "https" and pool.cert_reqs in {"CERT_NONE", 0}:
            _warn_of_insecurity(conn.host)
        made = _response_of(
            response,
            preload_content=preload_content,
            decode_content=decode_content,
            enforce_content_length=enforce_content_length,
            pool=pool,
            connection=response_conn,
            retries=retries,
            request_method=method,
            request_url=url,
        )
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                '%s://%s:%s "%s %s %s" %s %s',
                *(pool.scheme, pool.host, pool.port, method, url),
                *("HTTP/1.0" if made.version == 10 else "HTTP/1.1", made.status),
                made.length_remaining,
            )
        return made


class _View(_Exchange, HTTPConnectionPool):  # type: ignore[misc]
    """The view of a pool for ``http``."""


class _TLSView(_Exchange, HTTPSConnectionPool):  # type: ignore[misc]
    """The view of a pool for ``https``."""


# They appear in messages of errors, which say what kind of pool it is.
_View.__name__ = HTTPConnectionPool.__name__
_TLSView.__name__ = HTTPSConnectionPool.__name__


def _response_of(
    response: PlainResponse, *, request_method: str, connection: Any, **options: Any
) -> Response:
    headers = header_dict(response)
    file = ContentFile(
        response,
        is_head=request_method == "HEAD",
        is_chunked="transfer-encoding" in headers,
    )
    version = response.version
    made = Response(
        body=file,  # type: ignore[arg-type]
        headers=headers,
        status=response.status,
        version=version,
        reason=file.reason,
        # For cookies only, and reading those takes time.
        original_response=file if "set-cookie" in headers else None,  # type: ignore[arg-type]
        request_method=request_method,
        **_version_string(version),
        **options,
    )
    made._connection = connection
    return made


def _version_string(version: int) -> dict[str, Any]:
    if not _HAS_VERSION_STRING:
        return {}
    return {"version_string": "HTTP/1.0" if version == 10 else "HTTP/1.1"}


_HAS_VERSION_STRING = "version_string" in (
    urllib3.response.HTTPResponse.__init__.__code__.co_varnames
)


def _warn_of_insecurity(host: str) -> None:
    warnings.warn(
        f"Unverified HTTPS request is being made to host '{host}'. Adding certificate "
        "verification is strongly advised. See: "
        "https://urllib3.readthedocs.io/en/latest/advanced-usage.html#tls-warnings",
        InsecureRequestWarning,
        stacklevel=4,
    )
