"""httpx over carboy's pool.

::

    client = httpx.Client(transport=carboy.compat.httpx.Transport())
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import certifi
import httpx
from httpx._transports import default

from carboy.compat.httpcore_pool import Library, PoolView
from carboy.compat.httpcore_settings import patch_contexts, remember_context
from carboy.compat.trust import Trust

if TYPE_CHECKING:
    from carboy.compat.patching import Patches

_library = Library("httpcore")


def _trust_of(verify: Any = True, cert: Any = None, trust_env: bool = True) -> Trust | None:  # noqa: FBT001, FBT002 - the library's.
    if cert:
        return None
    if verify is False:
        return Trust(None)
    if verify is True:
        if trust_env and os.environ.get("SSL_CERT_FILE"):
            return Trust(os.environ["SSL_CERT_FILE"])
        if trust_env and os.environ.get("SSL_CERT_DIR"):
            return None
        return Trust(certifi.where())
    if isinstance(verify, str) and not os.path.isdir(verify):
        return Trust(verify)
    return None


class Transport(httpx.HTTPTransport):
    """A transport for ``httpx.Client`` that sends requests over carboy's pool.

    Args:
        options: Those of ``httpx.HTTPTransport``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        remember_context(self._pool, _trust_of, options)
        self._pool: Any = PoolView(_library, self._pool)


class AsyncTransport(httpx.AsyncHTTPTransport):
    """A transport for ``httpx.AsyncClient`` that sends requests over carboy's pool.

    Args:
        options: Those of ``httpx.AsyncHTTPTransport``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        remember_context(self._pool, _trust_of, options)
        self._pool: Any = PoolView(_library, self._pool)


def patch(patches: Patches) -> None:
    """Put carboy's pool below httpx."""
    _library.patch(patches, "httpx")
    patch_contexts(patches, default, _trust_of)
