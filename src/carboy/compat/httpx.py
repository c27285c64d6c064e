"""httpx over carboy's pool.

::

    client = httpx.Client(transport=carboy.compat.httpx.Transport())
"""

from __future__ import annotations

import httpx

from carboy.compat.httpcore_pool import Library
from carboy.compat.httpx_transport import PooledTransport

_library = Library("httpcore", "httpx")

#: Puts carboy's pool below httpx.
patch = _library.patch


class Transport(PooledTransport, httpx.HTTPTransport):
    """A transport for ``httpx.Client`` that sends requests over carboy's pool.

    Args:
        options: Those of ``httpx.HTTPTransport``.
    """

    library = _library


class AsyncTransport(PooledTransport, httpx.AsyncHTTPTransport):
    """A transport for ``httpx.AsyncClient`` that sends requests over carboy's pool.

    Args:
        options: Those of ``httpx.AsyncHTTPTransport``.
    """

    library = _library
