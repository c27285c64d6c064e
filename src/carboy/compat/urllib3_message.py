"""What a request over urllib3 consists of on its way, as ``http.client`` would write it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import urllib3._version
from urllib3.util import SKIP_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


#: How to have all pairs of mappings quickly, by their types.
pairs_of_headers: dict[type, Callable[[Any], Iterable[tuple[Any, Any]]]] = {}


def split_url(url: str) -> tuple[str, str]:
    """Return the origin of a URL, and its path and query."""
    scheme, _, rest = url.partition("://")
    start = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    target = rest[start:]
    return f"{scheme}://{rest[:start]}", target if target.startswith("/") else f"/{target}"


def message(
    method: str,
    headers: Any,
    body: Any,
    chunked: bool,  # noqa: FBT001 - the library's.
) -> tuple[list[tuple[Any, Any]], bytes | tuple[Iterable[bytes], int | None] | None]:
    """Return the headers to send and the content, as ``HTTPConnection.request`` makes them.

    The content is bytes, or pieces with their length.
    """
    names = set()
    pairs = []
    skipped = set()
    quickly = pairs_of_headers.get(type(headers))
    for name, value in headers.items() if quickly is None else quickly(headers):
        key = name.decode("latin-1").lower() if isinstance(name, bytes) else name.lower()
        if value == SKIP_HEADER:
            skipped.add(key)
            continue
        names.add(key)
        if not isinstance(value, (str, bytes)):
            value = str(value)
        pairs.append((name, value))
    if "accept-encoding" not in names and "accept-encoding" not in skipped:
        pairs.append(("Accept-Encoding", "identity"))
    if "user-agent" not in names and "user-agent" not in skipped:
        pairs.append(("User-Agent", _USER_AGENT))
    if body is None:
        if method.upper() in _METHODS_WITH_CONTENT and "content-length" not in names:
            pairs.append(("Content-Length", "0"))
        return pairs, None
    if isinstance(body, str):
        body = body.encode("utf-8")
    is_chunked = chunked or "transfer-encoding" in names
    if isinstance(body, bytes):
        if not is_chunked:
            return pairs, body or None
        return pairs, ([body], None)
    length = None
    if not is_chunked:
        for name, value in pairs:
            if (name if isinstance(name, str) else name.decode("latin-1")).lower() == (
                "content-length"
            ):
                length = int(value)
    if isinstance(body, (bytearray, memoryview)):
        return pairs, ([bytes(body)], length) if is_chunked else bytes(body)
    return pairs, (_pieces(body), length)


_METHODS_WITH_CONTENT = {"POST", "PUT", "PATCH"}

_USER_AGENT = f"python-urllib3/{urllib3._version.__version__}"


def _pieces(body: Any) -> Iterator[bytes]:
    """Give what a file or an iterable holds."""
    if hasattr(body, "read"):
        is_text = isinstance(body, io.TextIOBase)
        while piece := body.read(16384):
            yield piece.encode("utf-8") if is_text or isinstance(piece, str) else piece
        return
    for piece in body:
        yield piece.encode("utf-8") if isinstance(piece, str) else bytes(piece)
