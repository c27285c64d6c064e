"""What a session's ``verify``, ``cert`` and ``proxy`` mean."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carboy.http.options import CertTypes, ProxyTypes, VerifyTypes


def trust_of(verify: VerifyTypes) -> dict[str, Any]:
    """Return whom to trust, as the native client takes it."""
    if verify is True:
        return {"trust": "platform"}
    if verify is False:
        return {"trust": "everybody"}
    if isinstance(verify, ssl.SSLContext):
        if verify.verify_mode == ssl.CERT_NONE:
            return {"trust": "everybody"}
        found = verify.get_ca_certs(binary_form=True)
        pem = "".join(ssl.DER_cert_to_PEM_cert(one) for one in found).encode()
        if not pem:
            return {"trust": "platform"}
        kind = "authorities" if verify.check_hostname else "any-name"
        return {"trust": kind, "authorities": pem}
    return {"trust": "authorities", "authorities": Path(verify).read_bytes()}


def identity_of(cert: CertTypes | None) -> tuple[bytes, bytes] | None:
    """Return the client's own certificates and its key, as PEM."""
    if cert is None:
        return None
    chain, key = cert if isinstance(cert, tuple) else (cert, cert)
    return (Path(chain).read_bytes(), Path(key).read_bytes())


def proxies_of(
    proxy: ProxyTypes | None, no_proxy: str, *, trust_env: bool
) -> tuple[str | None, str | None, str] | None:
    """Return those for ``http`` and ``https``, and who needs none; ``None``: see environment."""
    if proxy is None:
        return None if trust_env else (None, None, "")
    if isinstance(proxy, str):
        return (proxy, proxy, no_proxy)
    known = {name.removesuffix("://"): url for name, url in proxy.items()}
    fallback = known.get("all")
    return (known.get("http", fallback), known.get("https", fallback), no_proxy)
