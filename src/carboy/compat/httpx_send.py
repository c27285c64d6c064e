"""The way of a usual request from a transport of httpx' or httpx2's to carboy's pool.

The transports make a request of httpcore's from that of httpx', and a response of httpx' from
that of httpcore's. A request of the usual kind, whose pool would give it to carboy, goes without
those in between. Mocks and tracers of transports stand above this, and those of pools are looked
for before every request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from carboy.compat import exchange
from carboy.compat.httpcore_message import VERSIONS, AsyncContent, Content, NetworkStream
from carboy.compat.httpx_known import is_known
from carboy.compat.trust import certificate_error
from carboy.http import exceptions
from carboy.scope import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from carboy._carboy import PlainResponse
    from carboy.compat.httpcore_pool import Library, Link
    from carboy.compat.httpx_modules import Modules
    from carboy.compat.patching import Patches


def patch_transports(patches: Patches, modules: Modules, library: Library) -> None:
    """Let usual requests go straight from the transports of a library to carboy's pool.

    Args:
        patches: Where to note the replacements. Pools have to be replaced before.
        modules: Those of httpx or httpx2.
        library: The library of connections below it.
    """
    transports = modules.transports
    way = _Way(modules, library)

    def make_handle(original: Callable[..., Any]) -> Callable[..., Any]:
        handle_request_of_pool = library.package.ConnectionPool.handle_request

        def handle_request(self: Any, request: Any) -> Any:
            pool = self._pool
            if (
                patches.is_active
                and type(pool).handle_request is handle_request_of_pool
                and (known := way.known(pool, request)) is not None
                and library.is_pristine()
            ):
                link, call = known
                try:
                    response = exchange.send(link.transport, call, None)
                except Exception as error:  # noqa: BLE001 - Raised, unless httpcore is to try.
                    way.fail(error, link, request)
                else:
                    return way.response(response, way.stream(Content(library.translated, response)))
            return original(self, request)

        return handle_request

    def make_async_handle(original: Callable[..., Any]) -> Callable[..., Any]:
        handle_request_of_pool = library.package.AsyncConnectionPool.handle_async_request

        async def handle_async_request(self: Any, request: Any) -> Any:
            pool = self._pool
            if (
                patches.is_active
                and type(pool).handle_async_request is handle_request_of_pool
                and (known := way.known(pool, request)) is not None
                and asyncio._get_running_loop() is not None
                and library.is_async_pristine()
            ):
                link, call = known
                try:
                    response = await exchange.send_soon(link.transport, call, None)
                except Exception as error:  # noqa: BLE001 - Raised, unless httpcore is to try.
                    way.fail(error, link, request)
                else:
                    stream = way.async_stream(AsyncContent(library.translated, response))
                    return way.response(response, stream)
            return await original(self, request)

        return handle_async_request

    if is_known(transports.HTTPTransport, "handle_request"):
        patches.replace(transports.HTTPTransport, "handle_request", make_handle)
    if is_known(transports.AsyncHTTPTransport, "handle_async_request"):
        patches.replace(transports.AsyncHTTPTransport, "handle_async_request", make_async_handle)


class _Way:
    """The way of a library's requests.

    Args:
        modules: Those of httpx or httpx2.
        library: The library of connections below it.
    """

    def __init__(self, modules: Modules, library: Library) -> None:
        self._library = library
        self._map_errors = modules.transports.map_httpcore_exceptions
        self._headers = modules.models.Headers
        self._response = modules.models.Response
        self._request = modules.models.Request
        self._url = modules.urls.URL
        self._bytes = modules.content.ByteStream
        self.stream = modules.transports.ResponseStream
        self.async_stream = modules.transports.AsyncResponseStream

    def known(self, pool: Any, request: Any) -> tuple[Link, tuple[Any, ...]] | None:
        """Return how carboy makes a request, or ``None`` if that is not plain to see.

        Returns:
            The way, and the arguments of ``Transport.send``.
        """
        link = self._library.known_link(pool)
        if link is None or link.retries or type(request) is not self._request:
            return None
        url, headers, stream = request.url, request.headers, request.stream
        extensions, method = request.extensions, request.method
        if (
            type(url) is not self._url
            or type(headers) is not self._headers
            or type(stream) is not self._bytes
            # Others ask for something that is httpcore's to do.
            or len(extensions) != 1
            or (timeouts := extensions.get("timeout")) is None
            or not method.isascii()
            or method == "CONNECT"
        ):
            return None
        scheme, _, host, port, path, query, _ = url._uri_reference
        if scheme == "https":
            if not link.speaks_tls or (link.is_refused and host.encode("ascii") in link.is_refused):
                return None
        elif scheme != "http":
            return None
        content = stream._stream
        length = None
        for _, name, value in headers._list:
            if name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                return None
        if content:
            if length != b"%d" % len(content):
                return None
        elif length is None or length == b"0":
            content = None
        else:
            return None
        if ":" in host:
            host = f"[{host}]"
        return link, (
            method,
            f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}",
            (path or "/") if query is None else f"{path or '/'}?{query}",
            headers.raw,
            content,
            (
                timeouts.get("connect"),
                timeouts.get("read"),
                timeouts.get("write"),
                timeouts.get("pool"),
            ),
            link.proxy,
        )

    def fail(self, error: Exception, link: Link, request: Any) -> None:
        """Raise what httpx raises where carboy raises this, unless httpcore is to try.

        Nothing was sent then. httpcore may do it, or says why not.
        """
        package = self._library.package
        if isinstance(error, exceptions.TLSError):
            verdict = certificate_error(str(error))
            if verdict is None:
                link.is_refused.add(request.url.raw_host)
                return
            with self._map_errors():
                raise package.ConnectError(str(verdict)) from error
        if isinstance(error, exceptions.HTTPError):
            with self._map_errors():
                raise self._library.translated(error) from error
        if isinstance(error, DeadlineExceeded):
            with self._map_errors():
                raise package.ReadTimeout(str(error)) from error
        if not isinstance(error, ValueError):
            raise error

    def response(self, response: PlainResponse, stream: Any) -> Any:
        """Make httpx' response.

        Args:
            response: What has come.
            stream: Its content.
        """
        headers = object.__new__(self._headers)
        headers._list = response.triples()
        headers._encoding = None
        version = response.version
        extensions = {"http_version": VERSIONS[version], "network_stream": NetworkStream()}
        if version != 20:
            # HTTP/2 has none, and httpx says the usual one then.
            extensions["reason_phrase"] = response.reason
        return self._response(
            response.status, headers=headers, stream=stream, extensions=extensions
        )
