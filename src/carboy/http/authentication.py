"""Who makes a call: name and password, a token, or what ``.netrc`` says."""

from __future__ import annotations

import netrc
import os
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from carboy._carboy import HttpAuthentication


class _Auth:
    """What says who makes a call, and does not show it."""

    __slots__ = ("native",)

    native: HttpAuthentication

    def __repr__(self) -> str:
        # The name too: some services take a key for it.
        return f"{type(self).__name__}([secret])"


class BasicAuth(_Auth):
    """Name and password (RFC 7617). A pair as ``auth=`` means the same."""

    __slots__ = ()

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        self.native = HttpAuthentication.basic(_as_bytes(username), _as_bytes(password))


class BearerAuth(_Auth):
    """A token (RFC 6750)."""

    __slots__ = ()

    def __init__(self, token: str) -> None:
        self.native = HttpAuthentication.bearer(token)


class DigestAuth(_Auth):
    """Name and password, of which only digests are sent (RFC 7616).

    Keep the object for further calls: it remembers what the server has asked.
    """

    __slots__ = ()

    def __init__(self, username: str, password: str) -> None:
        self.native = HttpAuthentication.digest(username, password)


#: ``auth=``.
AuthTypes = tuple[str | bytes, str | bytes] | BasicAuth | BearerAuth | DigestAuth


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def native_authentication(auth: AuthTypes) -> HttpAuthentication:
    """Return what the native client takes."""
    if isinstance(auth, tuple):
        return BasicAuth(*auth).native
    if isinstance(auth, (BasicAuth, BearerAuth, DigestAuth)):
        return auth.native
    raise TypeError(
        "auth is to be a pair of name and password, BasicAuth, BearerAuth or DigestAuth, not "
        f"{type(auth).__name__}"
    )


def _netrc_file() -> Path:
    return Path(os.environ.get("NETRC") or "~/.netrc").expanduser()


def has_netrc() -> bool:
    """Say whether there is a ``.netrc``, or the file that ``NETRC`` names."""
    return _netrc_file().exists()


def netrc_authentication(url: str) -> HttpAuthentication | None:
    """Return what the user's ``.netrc`` (or the file that ``NETRC`` names) has for a URL."""
    file = _netrc_file()
    try:
        changed = file.stat().st_mtime_ns
    except OSError:
        return None
    entries = _read_netrc(str(file), changed)
    host = urlsplit(url).hostname
    if entries is None or host is None:
        return None
    found = entries.authenticators(host)
    if found is None:
        return None
    login, account, password = found
    return BasicAuth(login or account or "", password or "").native


@lru_cache(maxsize=4)
def _read_netrc(path: str, changed: int) -> netrc.netrc | None:
    del changed  # It is there for the cache.
    try:
        return netrc.netrc(path)
    except (OSError, netrc.NetrcParseError):
        return None
