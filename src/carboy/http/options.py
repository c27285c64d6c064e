"""What a call can be told, for type checkers."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar

from carboy._carboy import Promise

if TYPE_CHECKING:
    from carboy.http.authentication import AuthTypes
    from carboy.http.headers import HeaderTypes
    from carboy.http.multipart import FilesTypes
    from carboy.http.request import ContentTypes, DataTypes, ParamsTypes
    from carboy.http.settings import Retries, TimeoutTypes

T = TypeVar("T")

#: A value, or the promise of one: then the call begins when it is fulfilled.
Dependency: TypeAlias = T | Promise[T]
#: ``verify=``: the platform's roots, nobody's, those of a PEM file or folder, or a context.
VerifyTypes = bool | str | Path | ssl.SSLContext
#: ``cert=``: a PEM file with certificate and key, or one for each.
CertTypes = str | Path | tuple[str | Path, str | Path]
#: ``proxy=``: one for all, or one for ``http`` and one for ``https``.
ProxyTypes = str | Mapping[str, str]


class StreamOptions(TypedDict, total=False):
    """The options of a call whose content is read piece by piece; see ``Session.request``."""

    params: Dependency[ParamsTypes] | None
    headers: Dependency[HeaderTypes] | Mapping[str, Dependency[str]] | None
    cookies: Dependency[Mapping[str, str]] | Mapping[str, Dependency[str]] | None
    content: Dependency[ContentTypes] | None
    data: Dependency[DataTypes] | None
    files: Dependency[FilesTypes] | None
    json: Any
    auth: AuthTypes | None
    timeout: TimeoutTypes
    allow_redirects: bool | None
    retries: Retries | int | None


class CallOptions(StreamOptions, total=False):
    """The options of a call; see ``Session.request``."""

    stream: bool


#: What is a setting of sessions, and what users of other clients call differently.
_OF_SESSIONS = frozenset(
    {"base_url", "cert", "hooks", "http_versions", "limits", "max_redirects", "no_proxy", "proxy"}
    | {"trust_env", "uds", "verify"}
)
_OTHER_NAMES = {"body": "content", "follow_redirects": "allow_redirects", "query": "params"}


def unknown_option(name: str) -> str:
    """Return the message for an option that calls don't have."""
    message = f"request() got an unexpected keyword argument {name!r}"
    if name == "proxies":
        return f"{message}: that is a setting of sessions, Session(proxy={{...}})"
    if name in _OF_SESSIONS:
        return f"{message}: that is a setting of sessions, Session({name}=...)"
    if name in _OTHER_NAMES:
        return f"{message}: it is {_OTHER_NAMES[name]!r} here"
    return message
