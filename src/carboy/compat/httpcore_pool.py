"""httpcore's connection pools, and httpcore2's, over carboy's.

The pool objects stay what they are; only ``handle_request`` and ``handle_async_request`` are
carboy's. What carboy can't do as httpcore would, httpcore does: see ``_is_covered``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Any

from carboy._carboy import HttpClient, PlainResponse, Transport
from carboy.compat import exchange, pristine
from carboy.compat.httpcore_message import (
    VERSIONS,
    AsyncContent,
    Content,
    NetworkStream,
    arguments,
    content_of,
)
from carboy.compat.httpcore_settings import patch_contexts, proxy_of, trust_of_pool
from carboy.compat.httpx_content import patch_content
from carboy.compat.httpx_modules import Modules
from carboy.compat.httpx_send import patch_transports
from carboy.compat.httpx_shortcuts import patch_shortcuts
from carboy.compat.patching import Patches, demand_original
from carboy.compat.trust import certificate_error
from carboy.compat.upload import AsyncPump, Pump, SourceError
from carboy.http import exceptions
from carboy.scope import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carboy.compat.trust import Trust

_ATTRIBUTE = "_carboy_link"

_METHODS = frozenset({"handle_request", "handle_async_request"})

_UNLIMITED = 1_000_000_000


class _UseHttpcore(Exception):  # noqa: N818 - It is no error.
    """The request is to be made by httpcore after all; nothing of it was sent."""


class Link:
    """The way from one pool of httpcore's to carboy's."""

    __slots__ = ("is_refused", "proxy", "retries", "speaks_tls", "transport")

    def __init__(self, transport: Transport, proxy: str, retries: int) -> None:
        self.transport = transport
        self.proxy = proxy
        self.retries = retries
        #: Whether TLS is carboy's to do; unknown until the first request that needs it.
        self.speaks_tls: bool | None = None
        #: Hosts whose TLS handshake has failed, so that httpcore is to try or to say why.
        self.is_refused: set[bytes] = set()


class Library:
    """httpcore or httpcore2, as carboy sees it.

    Args:
        name: The package.
        client: The package that is built on it: httpx or httpx2.
    """

    def __init__(self, name: str, client: str) -> None:
        self.name = name
        self._client = client
        self.package: Any = importlib.import_module(name)
        connections = f"{name}._sync.connection"
        async_connections = f"{name}._async.connection"
        self._errors = self._error_classes()
        parts = [
            (socket, "socket", "socket"),
            (socket, "create_connection", "socket"),
            (socket, "getaddrinfo", "socket"),
        ]
        self.is_pristine = pristine.watch(
            [
                *parts,
                (self._module(connections).HTTPConnection, "handle_request", connections),
                *self._backend_parts("_backends.sync", "SyncBackend"),
            ]
        )
        self.is_async_pristine = pristine.watch(
            [
                *parts,
                (
                    self._module(async_connections).AsyncHTTPConnection,
                    "handle_async_request",
                    async_connections,
                ),
                *self._backend_parts("_backends.auto", "AutoBackend"),
            ]
        )
        self._backends = {
            self._module(f"{name}._backends.sync").SyncBackend,
            self._module(f"{name}._backends.auto").AutoBackend,
        }

    def _module(self, name: str) -> Any:
        return importlib.import_module(name)

    def _backend_parts(self, module: str, name: str) -> list[tuple[Any, str, str]]:
        module = f"{self.name}.{module}"
        backend = getattr(self._module(module), name)
        return [(backend, "connect_tcp", module), (backend, "connect_unix_socket", module)]

    def _error_classes(self) -> list[tuple[type[Exception], type[Exception]]]:
        package = self.package
        return [
            (exceptions.ConnectTimeout, package.ConnectTimeout),
            (exceptions.WriteTimeout, package.WriteTimeout),
            (exceptions.PoolTimeout, package.PoolTimeout),
            (exceptions.TimeoutException, package.ReadTimeout),
            (exceptions.ConnectError, package.ConnectError),
            (exceptions.WriteError, package.WriteError),
            (exceptions.ProxyError, package.ProxyError),
            (exceptions.LocalProtocolError, package.LocalProtocolError),
            (exceptions.RemoteProtocolError, package.RemoteProtocolError),
            (exceptions.NetworkError, package.ReadError),
        ]

    def translated(self, error: exceptions.HTTPError) -> Exception:
        """Return what httpcore raises where carboy raises this."""
        for ours, theirs in self._errors:
            if isinstance(error, ours):
                return theirs(_message_of(error))
        raise error

    # Requests.

    def handle_request(self, pool: Any, request: Any, original: Callable[..., Any]) -> Any:
        """Send a request for a pool, as its ``handle_request`` does."""
        link = self._link(pool, request)
        if link is None or not self.is_pristine():
            return original(pool, request)
        # What httpcore raises is not to be raised while something else is handled.
        with contextlib.suppress(_UseHttpcore):
            return self._exchange(link, request)
        return original(pool, request)

    def _exchange(self, link: Link, request: Any) -> Any:
        content, length = content_of(request)
        for wait in _waits(link.retries):
            if wait:
                time.sleep(wait)
            pump = None if content is None or isinstance(content, bytes) else Pump(content, length)
            try:
                call = arguments(request, content if pump is None else pump.upload, link.proxy)
                response = exchange.send(link.transport, call, pump)
            except SourceError as failed:
                raise failed.error from None
            except (exceptions.ConnectError, exceptions.ConnectTimeout) as error:
                unsent = None if pump is None else pump.unsent()
                if isinstance(error, exceptions.TLSError):
                    self._refuse(error, link, request, unsent)
                content = content if unsent is None else unsent
                failure = self.translated(error)
                continue
            except exceptions.HTTPError as error:
                raise self.translated(error) from error
            except DeadlineExceeded as error:
                raise self.package.ReadTimeout(str(error)) from error
            except ValueError as error:
                # httpcore says what is wrong with it.
                if pump is not None:
                    request.stream = pump.unsent()
                raise _UseHttpcore from error
            return self._response(response, Content(self.translated, response))
        raise failure

    async def handle_async_request(
        self, pool: Any, request: Any, original: Callable[..., Any]
    ) -> Any:
        """Send a request for a pool, as its ``handle_async_request`` does."""
        link = self._link(pool, request)
        if link is None or asyncio._get_running_loop() is None or not self.is_async_pristine():
            return await original(pool, request)
        with contextlib.suppress(_UseHttpcore):
            return await self._exchange_soon(link, request)
        return await original(pool, request)

    async def _exchange_soon(self, link: Link, request: Any) -> Any:
        content, length = content_of(request)
        for wait in _waits(link.retries):
            if wait:
                await asyncio.sleep(wait)
            pump = None
            if content is not None and not isinstance(content, bytes):
                pump = AsyncPump(content, length)
            try:
                call = arguments(request, content if pump is None else pump.upload, link.proxy)
                response = await exchange.send_soon(link.transport, call, pump)
            except SourceError as failed:
                raise failed.error from None
            except (exceptions.ConnectError, exceptions.ConnectTimeout) as error:
                unsent = None if pump is None else pump.unsent()
                if isinstance(error, exceptions.TLSError):
                    self._refuse(error, link, request, unsent)
                content = content if unsent is None else unsent
                failure = self.translated(error)
                continue
            except exceptions.HTTPError as error:
                raise self.translated(error) from error
            except DeadlineExceeded as error:
                raise self.package.ReadTimeout(str(error)) from error
            except ValueError as error:
                if pump is not None:
                    request.stream = pump.unsent()
                raise _UseHttpcore from error
            return self._response(response, AsyncContent(self.translated, response))
        raise failure

    def _response(self, response: PlainResponse, content: Any) -> Any:
        # Its constructor would check and copy what is known to be right.
        made = object.__new__(self.package.Response)
        made.status = response.status
        made.headers = response.pairs()
        made.stream = content
        made._stream_consumed = False
        made.extensions = {
            "http_version": VERSIONS[response.version],
            "network_stream": NetworkStream(),
        }
        if response.version != 20:
            # HTTP/2 has none, and httpx says the usual one then.
            made.extensions["reason_phrase"] = response.reason
        return made

    def _refuse(self, error: Exception, link: Link, request: Any, unsent: Any) -> None:
        """Let httpcore try, or say why not."""
        if (verdict := certificate_error(str(error))) is not None:
            raise self.package.ConnectError(str(verdict)) from error
        link.is_refused.add(request.url.host)
        if unsent is not None:
            request.stream = unsent
        raise _UseHttpcore

    # Pools.

    def _link(self, pool: Any, request: Any) -> Link | None:
        attributes = pool.__dict__
        link = attributes.get(_ATTRIBUTE)
        if link is None:
            link = attributes[_ATTRIBUTE] = self._make_link(pool) or False
        if link is False or request.method == b"CONNECT":
            return None
        url = request.url
        if url.scheme == b"https":
            if link.is_refused and url.host in link.is_refused:
                return None
            if link.speaks_tls is None:
                self._learn_tls(link, pool)
            if not link.speaks_tls:
                return None
        elif url.scheme != b"http":
            return None
        extensions = request.extensions
        if "trace" in extensions or "sni_hostname" in extensions:
            return None
        return link  # type: ignore[no-any-return]

    def known_link(self, pool: Any) -> Link | None:
        """Return the way from a pool to carboy's, if requests have found it already."""
        attributes = getattr(pool, "__dict__", None)
        # Mocks of one pool stand in it.
        if not attributes or not _METHODS.isdisjoint(attributes):
            return None
        return attributes.get(_ATTRIBUTE) or None

    def _learn_tls(self, link: Link, pool: Any) -> None:
        """Find out whether carboy can do a pool's TLS."""
        trust = trust_of_pool(pool, self.package)
        transport = None if trust is None else self._transport(pool, trust)
        if transport is not None:
            # Who has begun to use the other one ends with that.
            link.transport = transport
        link.speaks_tls = transport is not None

    def _make_link(self, pool: Any) -> Link | None:
        if type(pool._network_backend) not in self._backends:
            return None
        if pool._socket_options is not None or pool._local_address is not None:
            return None
        proxy = proxy_of(pool)
        transport = None if proxy is None else self._transport(pool)
        if proxy is None or transport is None:
            return None
        return Link(transport, proxy, pool._retries)

    def _transport(self, pool: Any, trust: Trust | None = None) -> Transport | None:
        versions = "1.1"
        if pool._http2:
            versions = "negotiated" if pool._http1 else "2"
        expiry = pool._keepalive_expiry
        limit = min(max(pool._max_connections, 1), _UNLIMITED)
        try:
            client = HttpClient(
                connections=limit,
                connections_per_host=limit,
                idle_timeout=3600.0 if expiry is None else max(expiry, 0.0),
                content_bytes=0,
                http_versions=versions,
                proxies=(None, None, ""),
                idle_connections=min(max(pool._max_keepalive_connections, 0), _UNLIMITED),
                **({} if trust is None else trust.settings()),
            )
        except (OSError, ValueError):
            return None
        return Transport(client)

    def close(self, pool: Any) -> None:
        """Close carboy's idle connections of a pool."""
        link = pool.__dict__.pop(_ATTRIBUTE, None)
        if link:
            link.transport.close()

    # Installation.

    def patch(self, patches: Patches) -> None:
        """Put carboy's pool below every pool of the library.

        Raises:
            RuntimeError: If a mock is in the way.
        """
        package = self.package
        pool_class, async_pool_class = package.ConnectionPool, package.AsyncConnectionPool
        demand_original(pool_class, "handle_request", self._client)
        demand_original(async_pool_class, "handle_async_request", self._client)

        def make_handle(original: Any) -> Any:
            def handle_request(pool: Any, request: Any) -> Any:
                if not patches.is_active:
                    return original(pool, request)
                return self.handle_request(pool, request, original)

            return handle_request

        def make_async_handle(original: Any) -> Any:
            async def handle_async_request(pool: Any, request: Any) -> Any:
                if not patches.is_active:
                    return await original(pool, request)
                return await self.handle_async_request(pool, request, original)

            return handle_async_request

        def make_close(original: Any) -> Any:
            def close(pool: Any) -> None:
                self.close(pool)
                original(pool)

            return close

        def make_async_close(original: Any) -> Any:
            async def aclose(pool: Any) -> None:
                self.close(pool)
                await original(pool)

            return aclose

        patches.replace(pool_class, "handle_request", make_handle)
        patches.replace(async_pool_class, "handle_async_request", make_async_handle)
        patches.replace(pool_class, "close", make_close)
        patches.replace(async_pool_class, "aclose", make_async_close)
        modules = Modules(self._client)
        patch_contexts(patches, modules.transports)
        patch_shortcuts(patches, modules)
        patch_content(patches, modules, self)
        patch_transports(patches, modules, self)


def _waits(retries: int) -> Iterator[float]:
    """Give the waits before each attempt: httpcore's 0, 0, 0.5, 1, 2 and so on."""
    yield 0.0
    for attempt in range(retries):
        yield 0.0 if attempt == 0 else 0.5 * 2 ** (attempt - 1)


_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def _message_of(error: Exception) -> str:
    found = _SYSTEM_ERROR.search(str(error))
    if found is None or not isinstance(error, exceptions.NetworkError):
        return str(error)
    number = int(found[1])
    return f"[Errno {number}] {os.strerror(number)}"
