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
        #: What has come; before the start it was given out.
        self._buffer = b""
        self._start = 0
        #: Whether nobody has read anything yet.
        self.is_untouched = True
        #: Whether what came with the head is still to be had from the response.
        self._has_ready = not is_head and response.ready_size > 0
        self._has_rest = not is_head and not response.is_complete
        #: Why nothing follows the buffer, if that is known already.
        self._failure: BaseException | None = None
        self._closed = not (self._has_ready or self._has_rest)
        self._is_chunked = is_chunked
        self._msg: HTTPMessage | None = None
        self.version: int = response.version
        self.status: int = response.status
        self.reason = response.reason.decode("latin-1")

    @property
    def fp(self) -> ContentFile:
        """What `read_chunked` looks for: there is somebody to read from.

        It is no attribute: a file that refers to itself, and with it the content, would be kept
        until the next collection of garbage.
        """
        return self

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
        piece = self._take(self._size())
        if not piece and self._has_rest:
            piece = self._receive()
        if not piece:
            self._closed = True
        return piece

    def take_all(self) -> bytes | None:
        """Return everything if it is here already, else ``None`` and leave it."""
        if self._has_rest or self._closed:
            return None
        piece = self._take(self._size())
        self._closed = True
        return piece

    def fetch_all(self) -> None:
        """Wait once for everything, if nothing was read yet and there is something to wait for.

        If it can't be had, that is raised where the missing part is read.
        """
        if self._has_rest and self.is_untouched:
            self.is_untouched = False
            self._buffer, self._failure = self._response.read_all()
            self._has_ready = False
            self._has_rest = self._failure is not None

    def _size(self) -> int:
        """Return how much there is in the buffer, for who is about to read."""
        self.is_untouched = False
        if self._has_ready:
            self._buffer = self._response.take_ready()
            self._has_ready = False
        return len(self._buffer) - self._start

    def _take(self, size: int) -> bytes:
        """Return so many bytes of the buffer, or fewer."""
        start = self._start
        if start == 0 and size >= len(self._buffer):
            taken, self._buffer = self._buffer, b""
            return taken
        taken = self._buffer[start : start + size]
        self._start = start + len(taken)
        if self._start >= len(self._buffer):
            self._buffer, self._start = b"", 0
        return taken

    def _receive(self) -> bytes:
        try:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
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
        size = self._size()
        if size < amt and self._has_rest:
            pieces = [self._take(size)]
            try:
                while size < amt and (piece := self._receive()):
                    pieces.append(piece)
                    size += len(piece)
            except IncompleteRead:
                if self._is_chunked:
                    raise
                # As http.client does: urllib3 sees by the length that something is missing.
                self._has_rest = False
            self._buffer, self._start = b"".join(pieces), 0
        taken = self._take(amt)
        if not self._buffer and not self._has_rest:
            self._closed = True
        return taken

    def read1(self, amt: int | None = None) -> bytes:
        """Return what is there, or what comes next, but not more than so many bytes."""
        size = self._size()
        if not size and self._has_rest:
            self._buffer = self._receive()
            size = self._size()
        return self.read(size if amt is None or amt < 0 else min(amt, size))

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
        self._buffer, self._start, self._failure = b"", 0, None
        self._has_ready = False
        if self._has_rest:
            self._has_rest = False
            self._response.close()

    def flush(self) -> None:
        """Do nothing, as files that are read do."""


def header_dict(response: PlainResponse) -> HTTPHeaderDict:
    """Return the headers as urllib3 keeps them, their names as they came."""
    headers = HTTPHeaderDict()
    if KEEPS_LISTS:
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
KEEPS_LISTS = _keeps_lists()


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
        if (
            amt
            and self._is_untouched()
            and (not decode_content or "content-encoding" not in self.headers)
            and (content := self._fp.take_all()) is not None  # type: ignore[union-attr]
        ):
            # All of it is here, and nothing has to be undone.
            self._note_read(len(content))
            if len(content) <= amt:
                if content:
                    yield content
                return
            for start in range(0, len(content), amt):
                yield content[start : start + amt]
            return
        yield from super().stream(amt, decode_content)

    def whole_content(self) -> bytes | None:
        """Return all of the content, if it is as it came and nobody has read of it yet.

        Else ``None``, and it is to be read; after this, that waits for nothing.
        """
        if not self._is_untouched():
            return None
        file: Any = self._fp
        file.fetch_all()
        if "content-encoding" in self.headers:
            return None
        content: bytes | None = file.take_all()
        if content is not None:
            self._note_read(len(content))
        return content

    def _is_untouched(self) -> bool:
        file: Any = self._fp
        return type(file) is ContentFile and file.is_untouched

    def _note_read(self, size: int) -> None:
        self._uncached_read_occurred = True
        self._fp_bytes_read = size
        if self.length_remaining is not None:
            self.length_remaining -= size
