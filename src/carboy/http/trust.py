"""Whom a session trusts, and as whom it appears: ``verify=`` and ``cert=``."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carboy.http.options import CertTypes, VerifyTypes


def trust_settings(verify: VerifyTypes, cert: CertTypes | None) -> dict[str, Any]:
    """Return arguments for ``HttpClient``.

    Raises:
        OSError: If a file can't be read.
        ValueError: If something is asked for that carboy can't do.
    """
    return {"identity": _identity(cert), **_trust(verify, cert)}


def _trust(verify: VerifyTypes, cert: CertTypes | None) -> dict[str, Any]:
    if verify is True:
        return {"trust": "platform"}
    if verify is False:
        return {"trust": "everybody"}
    if isinstance(verify, ssl.SSLContext):
        return _trust_of_context(verify, cert)
    if not isinstance(verify, (str, os.PathLike)):
        raise TypeError(
            "verify= is to be True, False, a PEM file or a folder of them, or an ssl.SSLContext, "
            f"not {verify!r}"
        )
    path = Path(verify)
    if path.is_dir():
        return {"trust": "authorities", "authorities": _authorities_in(path)}
    return {"trust": "authorities", "authorities": _pem(path, "verify", "CERTIFICATE")}


def _pem(path: Path, option: str, kind: str) -> bytes:
    """Read a PEM file that is to have something of a kind in it."""
    content = path.read_bytes()
    if not re.search(rb"-----BEGIN [A-Z ]*" + kind.encode(), content):
        raise ValueError(f"{option}={str(path)!r}: there is no PEM {kind.lower()} in this file")
    return content


def _authorities_in(folder: Path) -> bytes:
    """Return the certificates of a folder as OpenSSL and requests take it."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    found = [content for file in files if b"-----BEGIN" in (content := file.read_bytes())]
    if not found:
        raise ValueError(f"verify={str(folder)!r}: there is no certificate in this folder")
    return b"\n".join(found)


def _trust_of_context(context: ssl.SSLContext, cert: CertTypes | None) -> dict[str, Any]:
    # Needed by few, who then have imported ssl already.
    from carboy.compat.tls_context import authorities_of, what_is_not_covered

    missing = what_is_not_covered(context, None if cert is None else str(_chain(cert)))
    if missing is not None:
        raise ValueError(
            f"verify= is an SSLContext with settings that carboy.http can't keep to: {missing}. It "
            "can do authorities, check_hostname, verify_mode and TLS 1.2 and 1.3; "
            "for anything else use httpx or requests"
        )
    versions = {"tls_versions": _versions(context)}
    if context.verify_mode == ssl.CERT_NONE:
        return {"trust": "everybody", **versions}
    authorities = authorities_of(context)
    if not authorities:
        raise ValueError(
            "verify= is an SSLContext in which no authorities can be seen: name a file of them by "
            "load_verify_locations(cafile=…), or use verify=True for those of the platform"
        )
    kind = "authorities" if context.check_hostname else "any-name"
    return {"trust": kind, "authorities": authorities, **versions}


def _versions(context: ssl.SSLContext) -> str:
    if context.minimum_version == ssl.TLSVersion.TLSv1_3:
        return "1.3"
    return "1.2" if context.maximum_version == ssl.TLSVersion.TLSv1_2 else "1.2 and 1.3"


def _chain(cert: CertTypes) -> Any:
    return cert[0] if isinstance(cert, tuple) else cert


def _identity(cert: CertTypes | None) -> tuple[bytes, bytes] | None:
    if cert is None:
        return None
    if isinstance(cert, tuple) and len(cert) != 2:
        raise ValueError(
            "cert= is to be a PEM file or a pair of certificate and key; keys with a password "
            "can't be read"
        )
    chain, key = cert if isinstance(cert, tuple) else (cert, cert)
    return (_pem(Path(chain), "cert", "CERTIFICATE"), _pem(Path(key), "cert", "PRIVATE KEY"))
