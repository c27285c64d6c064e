"""requests over carboy's pool.

::

    session = requests.Session()
    session.mount("https://", carboy.compat.requests.Adapter())
"""

from __future__ import annotations

import os
import urllib.request
from typing import TYPE_CHECKING, Any

import requests.utils
import urllib3._version
from requests.adapters import HTTPAdapter

from carboy._carboy import names_a_proxy
from carboy.compat.urllib3_pool import close_links, view_of

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
            pool = original(self, request, *arguments, **options)
            if not patches.is_active:
                return pool
            return view_of(pool)

        return get_connection

    def make_close(original: Any) -> Any:
        def close(self: HTTPAdapter) -> None:
            _close(self)
            original(self)

        return close

    patches.replace(HTTPAdapter, _METHOD, make_connection)
    _patch_environment(patches)
    patches.replace(HTTPAdapter, "close", make_close)


def _patch_environment(patches: Patches) -> None:
    """Let requests look at each variable of the environment once per call, and not thrice.

    Where no variable names a proxy, Python's own functions return nothing after a long search.
    """
    data = getattr(os.environ, "_data", None)
    if not isinstance(data, dict) or not all(isinstance(name, bytes) for name in data):
        return
    utils: Any = requests.utils
    if utils.getproxies is not urllib.request.getproxies_environment:
        return

    def make_proxies(original: Any) -> Any:
        def getproxies() -> Any:
            return original() if _names_a_proxy() else {}

        return getproxies

    def make_bypass(original: Any) -> Any:
        def proxy_bypass(host: str, *arguments: Any) -> Any:
            return original(host, *arguments) if arguments or _names_a_proxy() else False

        return proxy_bypass

    patches.replace(utils, "getproxies", make_proxies)
    if utils.proxy_bypass is getattr(urllib.request, "proxy_bypass_environment", None):
        patches.replace(utils, "proxy_bypass", make_bypass)


def _names_a_proxy() -> bool:
    data = getattr(os.environ, "_data", None)
    return names_a_proxy(data) if isinstance(data, dict) else True
