"""TLS settings of other libraries in carboy's terms."""

from __future__ import annotations

import functools
import os
import ssl
from typing import Any, NamedTuple


class Trust(NamedTuple):
    """Whom to trust and as whom to appear.

    Attributes:
        authorities: The path of a PEM file, or the PEM text; ``None`` to trust everybody.
        certificate: The path of the client's certificate chain in PEM, perhaps with the key.
        key: The path of its key.
        checks_names: Whether a certificate has to be that of the host.
    """

    authorities: str | bytes | None
    certificate: str | None = None
    key: str | None = None
    checks_names: bool = True

    def settings(self) -> dict[str, Any]:
        """Return arguments for ``HttpClient``.

        Raises:
            OSError: If a file can't be read.
        """
        if self.authorities is None:
            settings: dict[str, Any] = {"trust": "everybody"}
        else:
            given = self.authorities
            settings = {
                "trust": "authorities" if self.checks_names else "any-name",
                "authorities": given if isinstance(given, bytes) else _content(given),
            }
        if self.certificate is not None:
            key = self.certificate if self.key is None else self.key
            settings["identity"] = (_content(self.certificate), _content(key))
        return settings


def _content(path: str) -> bytes:
    found = os.stat(path)
    return _read(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=32)
def _read(path: str, _modified: int, _size: int) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def certificate_error(message: str) -> ssl.SSLCertVerificationError | None:
    """Return OpenSSL's error for a failed handshake, if OpenSSL would fail for the same reason.

    Whom else it would trust is its own to say: it has other ideas of what a chain is.

    Args:
        message: What carboy's pool says.
    """
    for ours, theirs in _REASONS.items():
        if ours in message:
            return ssl.SSLCertVerificationError(
                1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {theirs}"
            )
    return None


_REASONS = {
    "invalid peer certificate: certificate expired": "certificate has expired",
    "invalid peer certificate: certificate not valid yet": "certificate is not yet valid",
}
