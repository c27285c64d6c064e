"""httpx2 over carboy's pool.

::

    client = httpx2.Client(transport=carboy.compat.httpx2.Transport())
"""

from __future__ import annotations

import os
import platform
import ssl
from typing import TYPE_CHECKING, Any

import httpx2
from httpx2._transports import default

from carboy.compat.httpcore_pool import Library, PoolView
from carboy.compat.httpcore_settings import patch_contexts, remember_context
from carboy.compat.trust import Trust

if TYPE_CHECKING:
    from carboy.compat.patching import Patches

_library = Library("httpcore2")


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
        # Elsewhere the system's own verifier is asked.
        authorities = ssl.get_default_verify_paths().openssl_cafile
        if platform.system() == "Linux" and os.path.isfile(authorities):
            return Trust(authorities)
        return None
    if isinstance(verify, str) and not os.path.isdir(verify):
        return Trust(verify)
    return None


class Transport(httpx2.HTTPTransport):
    """A transport for ``httpx2.Client`` that sends requests over carboy's pool.

    Args:
        options: Those of ``httpx2.HTTPTransport``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        remember_context(self._pool, _trust_of, options)
        self._pool: Any = PoolView(_library, self._pool)


class AsyncTransport(httpx2.AsyncHTTPTransport):
    """A transport for ``httpx2.AsyncClient`` that sends requests over carboy's pool.

    Args:
        options: Those of ``httpx2.AsyncHTTPTransport``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        remember_context(self._pool, _trust_of, options)
        self._pool: Any = PoolView(_library, self._pool)


def patch(patches: Patches) -> None:
    """Put carboy's pool below httpx2."""
    _library.patch(patches, "httpx2")
    patch_contexts(patches, default, _trust_of)
