"""httpx2 over carboy's pool.

::

    client = httpx2.Client(transport=carboy.compat.httpx2.Transport())
"""

from __future__ import annotations

import httpx2

from carboy.compat.httpcore_pool import Library
from carboy.compat.httpx_transport import PooledTransport

_library = Library("httpcore2", "httpx2")

#: Puts carboy's pool below httpx2.
patch = _library.patch


class Transport(PooledTransport, httpx2.HTTPTransport):
    """A transport for ``httpx2.Client`` that sends requests over carboy's pool.

    Args:
        options: Those of ``httpx2.HTTPTransport``.
    """

    library = _library


class AsyncTransport(PooledTransport, httpx2.AsyncHTTPTransport):
    """A transport for ``httpx2.AsyncClient`` that sends requests over carboy's pool.

    Args:
        options: Those of ``httpx2.AsyncHTTPTransport``.
    """

    library = _library
