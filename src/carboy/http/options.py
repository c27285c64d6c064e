"""What a call can be told, for type checkers."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from carboy.http.authentication import AuthTypes
    from carboy.http.headers import HeaderTypes
    from carboy.http.multipart import FilesTypes
    from carboy.http.request import ContentTypes, DataTypes, ParamsTypes
    from carboy.http.settings import Retries, TimeoutTypes

#: ``verify=``: the platform's roots, nobody's, those of a PEM file, or those of a context.
VerifyTypes = bool | str | Path | ssl.SSLContext
#: ``cert=``: a PEM file with certificate and key, or one for each.
CertTypes = str | Path | tuple[str | Path, str | Path]
#: ``proxy=``: one for all, or one for ``http`` and one for ``https``.
ProxyTypes = str | Mapping[str, str]


class StreamOptions(TypedDict, total=False):
    """The options of a call whose content is read piece by piece; see ``Session.request``."""

    params: ParamsTypes | None
    headers: HeaderTypes | None
    cookies: Mapping[str, str] | None
    content: ContentTypes | None
    data: DataTypes | None
    files: FilesTypes | None
    json: Any
    auth: AuthTypes | None
    timeout: TimeoutTypes
    allow_redirects: bool | None
    retries: Retries | int | None


class CallOptions(StreamOptions, total=False):
    """The options of a call; see ``Session.request``."""

    stream: bool
