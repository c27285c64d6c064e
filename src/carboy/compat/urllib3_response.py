"""A response of carboy's in the shape of urllib3's."""

from __future__ import annotations

import errno
from http.client import HTTPMessage, IncompleteRead
from typing import TYPE_CHECKING, Any

from urllib3._collections import HTTPHeaderDict
from urllib3.exceptions import ResponseNotChunked
from urllib3.response import HTTPResponse

from carboy.http import exceptions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from carboy._carboy import PlainResponse


class ContentFile:
    """The content as urllib3 reads it from ``http.client.HTTPResponse``.

    It raises what that does: ``TimeoutError``, ``ConnectionResetError``, ``IncompleteRead``.
    """

    def __init__(self, response: PlainResponse, *, is_head: bool, is_chunked: bool) -> None:
        self._response = response
        self._buffer: bytes = b"" if is_head else response.ready
        self._has_rest = not is_head and not response.is_complete
        self._closed = not (self._buffer or self._has_rest)
        self._is_chunked = is_chunked
        self._msg: HTTPMessage | None = None
        self.version: int = response.version
        self.status: int = response.status
        self.reason = response.reason.decode("latin-1")
        #: What `read_chunked` looks for: there is somebody to read from.
        self.fp = self

    @property
    def msg(self) -> HTTPMessage:
        """The headers, as the cookie jar reads them."""
        if self._msg is None:
            self._msg = HTTPMessage()
            for name, value in self._response.pairs():
                self._msg[name.decode("latin-1")] = value.decode("latin-1")
        return self._msg

    headers = msg

    def next_piece(self) -> bytes:
        """Return what comes next, and nothing at the end."""
        piece, self._buffer = self._buffer, b""
        if not piece and self._has_rest:
            piece = self._receive()
        if not piece:
            self._closed = True
        return piece

    def take_all(self) -> bytes | None:
        """Return everything if it is here already, else ``None`` and leave it."""
        if self._has_rest or self._closed:
            return None
        piece, self._buffer = self._buffer, b""
        self._closed = True
        return piece

    def _receive(self) -> bytes:
        try:
            piece = self._response.read()
        except exceptions.TimeoutException as error:
            raise TimeoutError("The read operation timed out") from error
        except exceptions.RemoteProtocolError as error:
            raise IncompleteRead(b"") from error
        except exceptions.HTTPError as error:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer") from error
        if piece is None:
            self._has_rest = False
            return b""
        return piece

    def read(self, amt: int | None = None) -> bytes:
        """Return so many bytes, fewer at the end, or all."""
        if amt is None or amt < 0:
            return b"".join(iter(self.next_piece, b""))
        if len(self._buffer) < amt and self._has_rest:
            pieces = [self._buffer]
            size = len(self._buffer)
            try:
                while size < amt and (piece := self._receive()):
                    pieces.append(piece)
                    size += len(piece)
            except IncompleteRead:
                if self._is_chunked:
                    raise
                # As http.client does: urllib3 sees by the length that something is missing.
                self._has_rest = False
            self._buffer = b"".join(pieces)
        taken, self._buffer = self._buffer[:amt], self._buffer[amt:]
        if not self._buffer and not self._has_rest:
            self._closed = True
        return taken

    def read1(self, amt: int | None = None) -> bytes:
        """Return what is there, or what comes next, but not more than so many bytes."""
        if not self._buffer and self._has_rest:
            self._buffer = self._receive()
        if amt is None or amt < 0:
            amt = len(self._buffer)
        return self.read(min(amt, len(self._buffer)))

    def isclosed(self) -> bool:
        """Whether there is nothing more to read."""
        return self._closed

    @property
    def closed(self) -> bool:
        """Whether there is nothing more to read."""
        return self._closed

    def close(self) -> None:
        """Let go of what was not read."""
        self._closed = True
        self._buffer = b""
        if self._has_rest:
            self._has_rest = False
            self._response.close()

    def flush(self) -> None:
        """Do nothing, as files that are read do."""


def header_dict(response: PlainResponse) -> HTTPHeaderDict:
    """Return the headers as urllib3 keeps them, their names as they came."""
    headers = HTTPHeaderDict()
    if _KEEPS_LISTS:
        headers._container = response.lists_by_name()
    else:
        for name, value in response.pairs():
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
    return headers


def _keeps_lists() -> bool:
    headers = HTTPHeaderDict([("A-b", "1"), ("a-B", "2")])
    container = getattr(headers, "_container", None)
    return isinstance(container, dict) and container == {"a-b": ["A-b", "1", "2"]}


#: Whether this version of urllib3 keeps headers as `PlainResponse.lists_by_name` gives them.
_KEEPS_LISTS = _keeps_lists()


class Response(HTTPResponse):
    """A response of urllib3's whose content comes from carboy's pool."""

    def read_chunked(
        self,
        amt: int | None = None,
        decode_content: bool | None = None,  # noqa: FBT001 - urllib3's.
    ) -> Generator[bytes]:
        """Give the pieces of chunked content as they come; see urllib3.

        carboy's pool has undone the chunks, so this gives what came at a time.
        """
        file: Any = self._fp
        if not isinstance(file, ContentFile):
            yield from super().read_chunked(amt, decode_content)
            return
        self._init_decoder()
        if not self.chunked:
            raise ResponseNotChunked(
                "Response is not chunked. Header 'transfer-encoding: chunked' is missing."
            )
        if amt == 0:
            return
        with self._error_catcher():
            while piece := file.next_piece():
                self._uncached_read_occurred = True
                size = len(piece) if amt is None or amt < 0 else amt
                for start in range(0, len(piece), size):
                    yield from self._decoded(piece[start : start + size], amt, decode_content)
            if decode_content and (decoded := self._flush_decoder()):
                yield decoded

    def _decoded(
        self,
        piece: bytes,
        amt: int | None,
        decode_content: bool | None,  # noqa: FBT001 - as in stream().
    ) -> Iterator[bytes]:
        while True:
            decoded = self._decode(piece, decode_content, False, amt)  # noqa: FBT003 - the library's.
            if decoded:
                yield decoded
            if not (self._decoder and getattr(self._decoder, "has_unconsumed_tail", False)):
                return
            piece = b""

    def stream(
        self,
        amt: int | None = 2**16,
        decode_content: bool | None = None,  # noqa: FBT001 - urllib3's.
    ) -> Generator[bytes]:
        """Give the content piece by piece; see urllib3."""
        file: Any = self._fp
        if (
            type(file) is ContentFile
            and amt
            and not self._fp_bytes_read
            and (not decode_content or "content-encoding" not in self.headers)
            and (content := file.take_all()) is not None
        ):
            # All of it is here, and nothing has to be undone.
            self._uncached_read_occurred = True
            self._fp_bytes_read = len(content)
            if self.length_remaining is not None:
                self.length_remaining -= len(content)
            if len(content) <= amt:
                if content:
                    yield content
                return
            for start in range(0, len(content), amt):
                yield content[start : start + amt]
            return
        yield from super().stream(amt, decode_content)
