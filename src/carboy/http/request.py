"""A request: what the arguments of a call mean."""

from __future__ import annotations

import json as json_module
import os
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode

from carboy._carboy import url_for_display
from carboy.http.headers import Headers
from carboy.http.multipart import (
    FilesTypes,
    Multipart,
    file_size,
    pieces_of_file,
    position_of,
)
from carboy.http.upload import Source, ThreadSource, source_of

if TYPE_CHECKING:
    from carboy.http.timeline import Call

ParamsTypes = Mapping[str, Any] | Iterable[tuple[str, Any]] | str | bytes
DataTypes = (
    Mapping[str, Any]
    | Iterable[tuple[str, Any]]
    | Iterable[bytes]
    | AsyncIterable[bytes]
    | IO[bytes]
    | str
    | bytes
)
ContentTypes = str | bytes | bytearray | Iterable[bytes] | AsyncIterable[bytes] | IO[bytes]

_FORM = "application/x-www-form-urlencoded"


class Request:
    """What was asked for.

    Attributes:
        method: The method.
        url: The URL, with the parameters.
        headers: The headers that the caller has set; the client adds what is missing.
    """

    __slots__ = ("_headers", "_pairs", "call", "method", "place", "source", "url")

    def __init__(self, method: str, url: str, pairs: list[tuple[str, str]]) -> None:
        self.method = method
        self.url = url
        self._pairs = pairs
        self._headers: Headers | None = None
        #: Its entry in the timeline, if there is one.
        self.call: Call | None = None
        #: What makes its content, if that comes piece by piece.
        self.source: Source | None = None
        #: The line that made the call, if the content is streamed.
        self.place: str | None = None

    @property
    def headers(self) -> Headers:
        """The headers that the caller has set."""
        if self._headers is None:
            self._headers = Headers(self._pairs)
        return self._headers

    def following(self, method: str, url: str, pairs: list[tuple[str, str]]) -> Request:
        """Return the request that a redirect has made of this one."""
        request = Request(method, url, pairs)
        request.call = self.call
        request.place = self.place
        return request

    def __repr__(self) -> str:
        return f"<Request {self}>"

    def __str__(self) -> str:
        return f"{self.method} {url_for_display(self.url)}"


def text_of_url(url: Any) -> str:
    """Return the text of a URL.

    Raises:
        TypeError: If it is none.
    """
    if isinstance(url, str):
        return str(url)
    # The classes of httpx, yarl, furl and Pydantic for URLs.
    if hasattr(url, "scheme") and hasattr(url, "host"):
        return str(url)
    raise TypeError(
        "the URL is to be a str, or an object for URLs whose text it is, as httpx.URL and yarl.URL,"
        f" not {url!r}"
    )


def joined_url(base_url: str, url: str) -> str:
    """Return a URL that is appended to a base URL, unless it is whole."""
    if not base_url or "://" in url.partition("?")[0]:
        return url
    base, mark, query = base_url.partition("?")
    if not mark:
        return f"{base.rstrip('/')}/{url.lstrip('/')}" if url else base
    url, hash_mark, fragment = url.partition("#")
    path, _, own_query = url.partition("?")
    joined = f"{base.rstrip('/')}/{path.lstrip('/')}" if path else base
    return f"{joined}?{'&'.join(filter(None, (query, own_query)))}{hash_mark}{fragment}"


def _pairs(items: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return names and values, one pair for each value of a list, none for ``None``."""
    pairs: list[tuple[str, Any]] = []
    for name, value in items.items() if isinstance(items, Mapping) else items:
        if isinstance(value, (list, tuple)):
            pairs += [(name, one) for one in value if one is not None]
        elif value is not None:
            pairs.append((name, value))
    return pairs


def _texts(pairs: list[tuple[str, Any]]) -> list[tuple[str, str | bytes]]:
    return [(name, _text(value)) for name, value in pairs]


def _text(value: Any) -> str | bytes:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, (str, bytes)) else str(value)


def with_params(url: str, params: ParamsTypes | None) -> str:
    """Return a URL with further parameters in its query."""
    if not params:
        return url
    if isinstance(params, bytes):
        params = params.decode()
    query = params if isinstance(params, str) else urlencode(_texts(_pairs(params)))
    if not query:
        return url
    url, hash_mark, fragment = url.partition("#")
    separator = "&" if "?" in url else "?"
    return f"{url}{separator}{query}{hash_mark}{fragment}"


def _file_source(file: Any, length: int | None) -> Source:
    start = position_of(file)
    size = file_size(file)
    return ThreadSource(
        lambda attempt: pieces_of_file(file, start if attempt > 1 else None),
        length if size is None else size,
        is_repeatable=start is not None,
    )


def _declared_length(headers: list[tuple[str, str]]) -> int | None:
    """Return what the caller says of the content's size."""
    for name, value in headers:
        if name.lower() == "content-length":
            if not (value.isascii() and value.isdigit()):
                raise ValueError(f"Content-Length is to be a number of bytes, not {value!r}")
            return int(value)
    return None


def encode_body(
    headers: list[tuple[str, str]],
    content: ContentTypes | None,
    data: DataTypes | None,
    files: FilesTypes | None,
    json: Any,
) -> bytes | Source | None:
    """Return the content that the arguments mean, and add the ``Content-Type`` that it needs.

    Raises:
        TypeError: If the arguments contradict each other.
    """
    given = [name for name, value in (("content", content), ("json", json)) if value is not None]
    if given and (len(given) > 1 or data is not None or files is not None):
        raise TypeError(f"{given[0]} can't be combined with other content")

    def set_type(value: str) -> None:
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", value))

    if json is not None:
        set_type("application/json")
        return json_module.dumps(
            json, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
    if files is not None:
        fields: list[tuple[str, str | bytes]] = []
        if data is not None:
            if isinstance(data, (str, bytes)) or not isinstance(data, (Mapping, Sequence)):
                raise TypeError("beside files, data is to be a mapping or pairs")
            form_data: Any = data
            fields = _texts(_pairs(form_data))
        form = Multipart(fields, files)
        set_type(form.content_type)
        if form.has_files_to_read():
            return ThreadSource(form.pieces, form.length, is_repeatable=form.is_repeatable())
        return b"".join(form.pieces())
    body: Any = content if content is not None else data
    if body is None:
        return None
    if isinstance(body, (str, bytes, bytearray, memoryview)):
        if isinstance(body, str):
            if content is None:
                set_type(_FORM)
            return body.encode()
        return bytes(body)
    if isinstance(body, Mapping) or _is_pairs(body):
        set_type(_FORM)
        return urlencode(_texts(_pairs(body))).encode()
    if hasattr(body, "read"):
        return _file_source(body, _declared_length(headers))
    if isinstance(body, (Iterable, AsyncIterable)):
        return source_of(body, _declared_length(headers))
    way_out = (
        "open it: open(path, 'rb')"
        if isinstance(body, os.PathLike)
        else (
            "that is bytes, text, an open file, an iterable or an async iterable of bytes; "
            "json= sends other values as JSON"
        )
    )
    raise TypeError(f"{type(body).__name__} can't be sent as content: {way_out}")


def _is_pairs(body: Any) -> bool:
    return isinstance(body, (list, tuple)) and all(
        isinstance(item, tuple) and len(item) == 2 for item in body
    )
