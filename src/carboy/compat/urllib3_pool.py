"""A connection pool of urllib3's whose requests go through carboy's.

It is a view of the pool that urllib3 has made: it shares that pool's attributes, and all of
urllib3's own logic (retries, waits between them, redirects, which exception wraps which) with
it. Only the exchange of one request for one response is carboy's.

What carboy can't do as urllib3 would, urllib3 does: see ``view_of``.
"""

from __future__ import annotations

import http.client
import os
import socket
import warnings
from typing import Any
from urllib.parse import quote

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
from urllib3.poolmanager import PoolManager
from urllib3.util import Timeout

from carboy._carboy import HttpClient, PlainResponse, Transport
from carboy.compat import pristine
from carboy.compat.trust import Trust, certificate_error
from carboy.compat.upload import Pump, SourceError
from carboy.compat.urllib3_errors import translated
from carboy.compat.urllib3_message import message, split_url
from carboy.compat.urllib3_response import ContentFile, Response, header_dict
from carboy.http import exceptions
from carboy.scope import DeadlineExceeded

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

_ATTRIBUTE = "_carboy_link"

_UNLIMITED = 1_000_000_000


class _UseUrllib3(BaseException):
    """The request is to be made by urllib3 after all; nothing of it was sent.

    Not an ``Exception``, because urllib3 is to pass it on.
    """


class Link:
    """The way from one pool of urllib3's to carboy's.

    Attributes:
        origin: Scheme, host and port.
        proxy: The URL of the proxy on the way, or nothing.
        pool_class: What urllib3 has made the pool of.
    """

    def __init__(self, pool: HTTPConnectionPool, proxy: str) -> None:
        host = pool.host
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        port = "" if pool.port is None else f":{pool.port}"
        self.origin = f"{pool.scheme}://{host}{port}"
        self.proxy = proxy
        self.pool_class = type(pool)
        #: Whether a TLS handshake has failed, so that urllib3 is to try or to say why.
        self.is_refused = False
        blocks = pool.block
        self._connections = max(pool.pool.maxsize, 1) if blocks and pool.pool else _UNLIMITED
        self._transports: dict[Trust | None, Transport] = {}

    def transport(self, pool: HTTPConnectionPool) -> Transport:
        """Return what sends the requests of the pool.

        Raises:
            OSError: If a file of the TLS settings can't be read.
            ValueError: If carboy can't use what is in it.
        """
        trust = _trust_of(pool) if pool.scheme == "https" else None
        found = self._transports.get(trust)
        if found is None:
            client = HttpClient(
                connections=self._connections,
                connections_per_host=self._connections,
                idle_timeout=60.0,
                content_bytes=0,
                http_versions="1.1",
                proxies=(None, None, ""),
                **({} if trust is None else trust.settings()),
            )
            found = self._transports[trust] = Transport(client)
        return found

    def close(self) -> None:
        """Close idle connections."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            transport.close()


def view_of(pool: Any) -> Any:
    """Return the pool's view that goes through carboy, or the pool itself if that can't be.

    Args:
        pool: What urllib3 has made for the request.
    """
    link = pool.__dict__.get(_ATTRIBUTE)
    if link is None:
        link = pool.__dict__[_ATTRIBUTE] = _make_link(pool)
    if link is False or link.is_refused or not is_pristine():
        return pool
    view_class = _View if pool.scheme == "http" else _TLSView
    view = object.__new__(view_class)
    view.__dict__ = pool.__dict__
    return view


def close_links(manager: Any) -> None:
    """Close carboy's idle connections for the pools of a ``PoolManager``."""
    if not isinstance(manager, PoolManager):
        return
    pools = manager.pools
    for key in pools.keys():  # noqa: SIM118 - It is no dict, and can't be iterated over.
        pool = pools.get(key)
        link = None if pool is None else pool.__dict__.get(_ATTRIBUTE)
        if link:
            link.close()


#: What a pool may say of its connections: anything else is urllib3's to do.
_KNOWN_SETTINGS = {"blocksize", "proxy", "proxy_config", "_socks_options"}

_KNOWN_CLASSES = {
    ("urllib3.connectionpool", "HTTPConnectionPool"),
    ("urllib3.connectionpool", "HTTPSConnectionPool"),
    ("urllib3.contrib.socks", "SOCKSHTTPConnectionPool"),
    ("urllib3.contrib.socks", "SOCKSHTTPSConnectionPool"),
}


def _make_link(pool: HTTPConnectionPool) -> Link | bool:
    pool_class = type(pool)
    if (pool_class.__module__, pool_class.__name__) not in _KNOWN_CLASSES:
        return False
    settings = pool.conn_kw
    if any(settings[name] for name in settings.keys() - _KNOWN_SETTINGS):
        return False
    for name in (
        "ssl_version",
        "ssl_minimum_version",
        "ssl_maximum_version",
        "assert_hostname",
        "assert_fingerprint",
        "key_password",
    ):
        if getattr(pool, name, None) is not None:
            return False
    proxy = _proxy_of(pool)
    return False if proxy is None else Link(pool, proxy)


def _proxy_of(pool: HTTPConnectionPool) -> str | None:
    """Return the URL of the pool's proxy, nothing for none, ``None`` for one of urllib3's own."""
    socks = pool.conn_kw.get("_socks_options")
    if socks is not None:
        # PySocks numbers its kinds of proxies; 2 is SOCKS 5.
        if socks["socks_version"] != 2:
            return None
        scheme = "socks5h" if socks["rdns"] else "socks5"
        user = _credentials(socks["username"], socks["password"])
        return f"{scheme}://{user}{socks['proxy_host']}:{socks['proxy_port'] or 1080}"
    if pool.proxy is None:
        return ""
    config = pool.proxy_config
    if pool.proxy.scheme != "http" or (config is not None and any(config)):
        return None
    if any(name.lower() != "proxy-authorization" for name in pool.proxy_headers):
        return None
    auth = f"{pool.proxy.auth}@" if pool.proxy.auth else ""
    if bool(auth) != bool(pool.proxy_headers):
        return None
    return f"http://{auth}{pool.proxy.host}:{pool.proxy.port or 80}"


def _credentials(user: str | None, password: str | None) -> str:
    if not user:
        return ""
    return f"{quote(user, safe='')}:{quote(password or '', safe='')}@"


def _trust_of(pool: Any) -> Trust:
    certificate, key = pool.cert_file, pool.key_file
    if pool.cert_reqs in {"CERT_NONE", 0}:
        return Trust(None, certificate, key)
    if pool.ca_cert_dir or not pool.ca_certs or os.path.isdir(pool.ca_certs):
        raise ValueError("a folder of certificates is OpenSSL's to read")
    return Trust(os.fspath(pool.ca_certs), certificate, key)


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
            return super().urlopen(*arguments, **options)  # type: ignore[misc]
        except _UseUrllib3 as reason:
            pool = object.__new__(self.__dict__[_ATTRIBUTE].pool_class)
            pool.__dict__ = self.__dict__
            (body,) = reason.args
            if body is not None:
                options["body"] = body
            return pool.urlopen(*arguments, **options)

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
    ) -> Any:
        pool: Any = self
        link: Link = pool.__dict__[_ATTRIBUTE]
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
            if pump is None:
                response = transport.send(*arguments)
            else:
                promise = transport.send_soon(*arguments)
                pump.run(promise)
                response = transport.wait(promise)
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
        return _response_of(
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
