"""Settings of httpcore's pools in carboy's terms: proxies, and whom to trust."""

from __future__ import annotations

import base64
import os
import ssl
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from carboy.compat.patching import Patches
    from carboy.compat.trust import Trust

#: TLS contexts that a library has made by itself, and what they stand for.
trust_of_contexts: weakref.WeakKeyDictionary[ssl.SSLContext, Trust] = weakref.WeakKeyDictionary()


def proxy_of(pool: Any) -> str | None:
    """Return the proxy's URL, nothing for none, ``None`` for what carboy can't go through."""
    if pool._uds is not None:
        return f"unix:{os.fspath(pool._uds)}"
    attributes = vars(pool)
    proxy = attributes.get("_proxy")
    if proxy is not None:
        url, headers, auth = proxy.url, list(proxy.headers), proxy.auth
        own_context = proxy.ssl_context
    elif "_proxy_url" in attributes:
        url = attributes["_proxy_url"]
        headers = list(attributes.get("_proxy_headers", ()))
        auth = attributes.get("_proxy_auth")
        own_context = attributes.get("_proxy_ssl_context")
    else:
        return ""
    scheme = url.scheme.decode("ascii")
    if own_context is not None or scheme not in {"http", "socks5", "socks5h"}:
        return None
    for name, value in headers:
        if name.lower() != b"proxy-authorization":
            return None
        kind, _, encoded = value.partition(b" ")
        if kind.lower() != b"basic":
            return None
        user, _, password = base64.b64decode(encoded).partition(b":")
        auth = (user, password)
    if scheme == "socks5":
        # httpcore leaves the look-up of names to the proxy in either case.
        scheme = "socks5h"
    credentials = ""
    if auth:
        credentials = f"{quote(auth[0], safe='')}:{quote(auth[1], safe='')}@"
    host = url.host.decode("ascii")
    port = url.port or (80 if scheme == "http" else 1080)
    return f"{scheme}://{credentials}{f'[{host}]' if ':' in host else host}:{port}"


def patch_contexts(patches: Patches, transports: ModuleType, trust_of: Callable[..., Any]) -> None:
    """Note what the TLS contexts stand for that a library makes by itself.

    A context does not tell which certificate of a client it holds, so only those are known that
    were seen when they were made.

    Args:
        patches: Where to note the replacement.
        transports: The module that makes contexts by ``create_ssl_context``.
        trust_of: Returns the ``Trust`` for the arguments of that, or ``None``.
    """

    def make(original: Any) -> Any:
        def create_ssl_context(*arguments: Any, **options: Any) -> Any:
            context = original(*arguments, **options)
            trust = trust_of(*arguments, **options)
            if trust is not None and isinstance(context, ssl.SSLContext):
                trust_of_contexts[context] = trust
            return context

        return create_ssl_context

    patches.replace(transports, "create_ssl_context", make)


def remember_context(pool: Any, trust_of: Callable[..., Any], options: dict[str, Any]) -> None:
    """Note what the TLS context of a transport's new pool stands for.

    Args:
        pool: The pool.
        trust_of: As for ``patch_contexts``.
        options: The transport's arguments.
    """
    names = ("verify", "cert", "trust_env")
    trust = trust_of(**{name: options[name] for name in names if name in options})
    if trust is not None:
        trust_of_contexts[pool._ssl_context] = trust
