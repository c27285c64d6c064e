"""Settings of httpcore's pools in carboy's terms: proxies, and whom to trust."""

from __future__ import annotations

import base64
import functools
import os
import ssl
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from carboy.compat.tls_context import Identity, trust_of_context

if TYPE_CHECKING:
    from types import ModuleType

    from carboy.compat.patching import Patches
    from carboy.compat.trust import Trust

#: TLS contexts into which a library has put a client's certificate, and the paths of that.
identity_of_contexts: weakref.WeakKeyDictionary[ssl.SSLContext, Identity] = (
    weakref.WeakKeyDictionary()
)


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


def patch_contexts(patches: Patches, transports: ModuleType) -> None:
    """Note which certificates of clients a library puts into TLS contexts.

    Args:
        patches: Where to note the replacement.
        transports: The module that makes contexts by ``create_ssl_context``.
    """

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def create_ssl_context(
            verify: Any = True,  # noqa: FBT002 - the library's.
            cert: Any = None,
            *arguments: Any,
            **options: Any,
        ) -> Any:
            context = original(verify, cert, *arguments, **options)
            remember_identity(context, cert)
            return context

        return create_ssl_context

    patches.replace(transports, "create_ssl_context", make)


def remember_identity(context: Any, certificate: Any) -> None:
    """Note which certificate of a client was put into a context.

    Args:
        context: The TLS context.
        certificate: As httpx takes it: the path of a PEM file, or a tuple of the chain's, of the
            key's, and perhaps a password.
    """
    if not certificate or not isinstance(context, ssl.SSLContext):
        return
    parts = (certificate,) if isinstance(certificate, str) else tuple(certificate)
    if len(parts) <= 2 or parts[2] is None:
        chain, key = (*parts, None)[:2]
        identity_of_contexts[context] = Identity(
            os.fspath(chain), None if key is None else os.fspath(key)
        )


def trust_of_pool(pool: Any, package: Any) -> Trust | None:
    """Return whom a pool's TLS context trusts, or ``None`` if it is to do the handshakes itself.

    Args:
        pool: The pool.
        package: httpcore or httpcore2.
    """
    context = pool._ssl_context
    if context is None:
        # The pool would make one like this for each connection.
        make = getattr(package, "default_ssl_context", None)
        return None if make is None else trust_of_context(make())
    return trust_of_context(context, identity_of_contexts.get(context))
