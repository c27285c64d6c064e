"""requests over carboy's pool.

::

    session = requests.Session()
    session.mount("https://", carboy.compat.requests.Adapter())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import urllib3._version
from requests.adapters import HTTPAdapter

from carboy.compat.requests_shortcuts import known_pool, patch_shortcuts
from carboy.compat.urllib3_link import close_links
from carboy.compat.urllib3_pool import view_of

if TYPE_CHECKING:
    from carboy.compat.patching import Patches

_VERSION = urllib3._version.__version__
if int(_VERSION.partition(".")[0]) < 2:
    raise ImportError(f"carboy's pool for requests needs urllib3 2, and this is {_VERSION}")

_METHOD = (
    "get_connection_with_tls_context"
    if hasattr(HTTPAdapter, "get_connection_with_tls_context")
    # Until requests 2.32.2.
    else "get_connection"
)


class Adapter(HTTPAdapter):
    """An adapter for ``Session.mount`` that sends requests over carboy's pool.

    Args:
        pool_connections: See ``requests.adapters.HTTPAdapter``.
        pool_maxsize: How many connections to one host there are, if ``pool_block``.
        max_retries: A number, or a ``Retry`` of urllib3's.
        pool_block: Whether there is a limit to the connections.
    """

    def get_connection_with_tls_context(self, request: Any, *arguments: Any, **options: Any) -> Any:
        """Return the pool for a request."""
        pool = super().get_connection_with_tls_context(request, *arguments, **options)
        return view_of(pool)

    def close(self) -> None:
        """Close idle connections."""
        _close(self)
        super().close()


def _close(adapter: HTTPAdapter) -> None:
    close_links(adapter.poolmanager)
    for manager in adapter.proxy_manager.values():
        close_links(manager)


def patch(patches: Patches) -> None:
    """Put carboy's pool below every ``HTTPAdapter``."""

    def make_connection(original: Any) -> Any:
        def get_connection(self: HTTPAdapter, request: Any, *arguments: Any, **options: Any) -> Any:
            if not patches.is_active:
                return original(self, request, *arguments, **options)
            return view_of(known_pool(original, self, request, *arguments, **options))

        return get_connection

    def make_close(original: Any) -> Any:
        def close(self: HTTPAdapter) -> None:
            _close(self)
            original(self)

        return close

    patches.replace(HTTPAdapter, _METHOD, make_connection)
    patch_shortcuts(patches)
    patches.replace(HTTPAdapter, "close", make_close)
