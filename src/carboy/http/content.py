"""Content in pieces: put together, cut to size, and split into lines of text."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING

from carboy.http.exceptions import ContentTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carboy.http.request import Request

__all__: list[str] = []

#: Codecs of Python's that are no encodings of text in HTTP: they refuse to replace what is broken.
_NO_ENCODINGS = {"idna", "punycode", "undefined"}


def encoding_of(charset: str | None) -> str:
    """Return the codec for what a server calls the encoding: UTF-8 if it is none of text."""
    try:
        found = codecs.lookup(charset or "utf-8")
    except (LookupError, ValueError):
        return "utf-8"
    # What bytes.decode() itself goes by.
    is_text = getattr(found, "_is_text_encoding", True) and found.incrementaldecoder is not None
    return found.name if is_text and found.name not in _NO_ENCODINGS else "utf-8"


def check_size(size: int | None) -> None:
    """Refuse a size that pieces can't have.

    Raises:
        ValueError: If it is less than 1.
    """
    if size is not None and size < 1:
        raise ValueError(
            f"chunk_size={size}: pieces have 1 byte at least; None takes them as they come"
        )


def slices(content: bytes, size: int | None) -> Iterator[bytes]:
    """Give content that is there in pieces of a size, or as a whole."""
    if size is None:
        size = max(len(content), 1)
    for start in range(0, len(content), size):
        yield content[start : start + size]


def parts(buffer: bytearray, piece: bytes, size: int | None) -> Iterator[bytes]:
    """Give a piece as it is, or what there is now in pieces of a size; the buffer has the rest."""
    if size is None:
        yield piece
        return
    buffer += piece
    while len(buffer) >= size:
        part = bytes(buffer[:size])
        del buffer[:size]
        yield part


class WholeContent:
    """Puts pieces together, up to a limit."""

    def __init__(self, limit: int, request: Request) -> None:
        self._pieces: list[bytes] = []
        self._left = limit
        self._limit = limit
        self._request = request

    def add(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise ContentTooLarge(
                f"the response's content is larger than {self._limit} bytes", self._request
            )
        self._pieces.append(piece)

    def content(self) -> bytes:
        return b"".join(self._pieces)


class LineSplitter:
    """Finds the lines of text that comes in pieces. Lines end as in ``str.splitlines``."""

    def __init__(
        self, encoding: str, limit: int = sys.maxsize, request: Request | None = None
    ) -> None:
        self._limit = self._left = limit
        self._request = request
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        #: What there is of a line whose end has not come.
        self._parts: list[str] = []
        #: A CR at the end of a piece, which may be the first half of a line's end.
        self._held = ""

    def feed(self, piece: bytes) -> list[str]:
        try:
            text = self._decoder.decode(piece)
        except UnicodeError:
            # UTF-16 or UTF-32 without a mark of its order: that of this machine, as bytes.decode().
            piece = self._decoder.getstate()[0] + piece
            order = "le" if sys.byteorder == "little" else "be"
            make = codecs.getincrementaldecoder(f"{self._encoding}-{order}")
            self._decoder = make(errors="replace")
            text = self._decoder.decode(piece)
        return self._split(text)

    def _split(self, text: str) -> list[str]:
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        lines = text[: len(text) - len(self._held)].splitlines(keepends=True)
        found = []
        for line in lines:
            whole = line.splitlines()[0]
            self._parts.append(whole)
            self._left -= len(whole)
            if self._left < 0:
                raise ContentTooLarge(
                    f"a line of the response is longer than {self._limit} characters",
                    self._request,
                )
            if len(whole) < len(line):
                found.append("".join(self._parts))
                self._parts.clear()
                self._left = self._limit
        return found

    def end(self) -> list[str]:
        found = self._split(self._decoder.decode(b"", final=True))
        if self._parts or self._held:
            found.append("".join(self._parts))
            self._parts.clear()
        return found
