"""A response: its head, and its content, which is there or is read piece by piece."""

from __future__ import annotations

import codecs
import json as json_module
import sys
import warnings
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Self

from carboy._carboy import EventStream
from carboy.http.content import LineSplitter, WholeContent, check_size, encoding_of, parts, slices
from carboy.http.exceptions import HTTPStatusError, StreamConsumed
from carboy.http.headers import Headers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from types import TracebackType

    from carboy._carboy import ContentStream, ResponseData
    from carboy.http.request import Request


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event.

    Attributes:
        event: Its type.
        data: Its data.
        id: The last identifier that the stream has given.
        retry_ms: How long to wait before a new connection, if the event says so.
    """

    event: str
    data: str
    id: str
    retry_ms: int | None

    def json(self) -> Any:
        """Return what the data means as JSON."""
        return json_module.loads(self.data)


class Response:
    """What a server has answered. Nothing of it needs to be awaited, unless it is streamed."""

    __slots__ = (
        "__weakref__",
        "_content",
        "_data",
        "_encoding",
        "_first_request",
        "_headers",
        "_is_taken",
        "_request",
        "_stream",
    )

    def __init__(self, request: Request | None, data: ResponseData) -> None:
        #: That of the call, if it was made already.
        self._first_request = request
        #: That of the response, once it is asked for.
        self._request: Request | None = None
        self._data = data
        self._content: bytes | None = None
        self._encoding: str | None = None
        self._headers: Headers | None = None
        #: What the content is read from, until it is at its end or closed.
        self._stream: ContentStream | None = None
        #: Whether somebody has begun to read it.
        self._is_taken = False

    def __repr__(self) -> str:
        return f"<Response {self.status_code} {self.reason}>"

    # The head.

    @property
    def request(self) -> Request:
        """What was asked for; if redirects led here, what was asked for at last."""
        if self._request is None:
            first = self._request_of_call()
            following = self._data.following_request()
            self._request = first if following is None else first.following(*following)
        return self._request

    def _request_of_call(self) -> Request:
        if self._first_request is None:
            # A call that needed none: it is made now.
            self._first_request = self._data.request()
        return self._first_request

    @property
    def status_code(self) -> int:
        """The status."""
        return self._data.status

    @property
    def reason(self) -> str:
        """The reason phrase."""
        return self._data.reason

    @property
    def url(self) -> str:
        """What was requested at last, after redirects."""
        return self._data.url

    @property
    def http_version(self) -> str:
        """``HTTP/1.1`` or ``HTTP/2``."""
        return self._data.http_version

    @property
    def headers(self) -> Headers:
        """The headers; their names have no case."""
        if self._headers is None:
            self._headers = Headers(self._data.headers())
        return self._headers

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self._data.status < 400

    @property
    def is_redirect(self) -> bool:
        """Whether it is a redirect that was not followed."""
        return self.status_code in {301, 302, 303, 307, 308} and "location" in self.headers

    @property
    def history(self) -> list[Response]:
        """The redirects that led here, without their content."""
        first = self._request_of_call()
        return [Response(first, data) for data in self._data.history()]

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that this response sets."""
        found: dict[str, str] = {}
        for value in self.headers.get_list("set-cookie"):
            try:
                parsed = SimpleCookie(value)
            except CookieError:
                continue
            found |= {name: morsel.value for name, morsel in parsed.items()}
        return found

    @property
    def timings(self) -> dict[str, float | None]:
        """How many seconds each phase took; ``None`` for one that did not happen.

        ``start`` is the time that redirects and retries took before the last exchange, then come
        ``pool``, ``resolve``, ``connect``, ``tls``, ``head`` and ``content``; ``total`` is all of
        it. ``reused`` is true on a connection that had served another call.
        """
        return self._data.timings()

    @property
    def elapsed(self) -> timedelta:
        """The time from the start of the call to the end of the head."""
        timings = self._data.timings()
        return timedelta(seconds=(timings["total"] or 0.0) - (timings["content"] or 0.0))

    def raise_for_status(self) -> Self:
        """Raise an error for a status of 400 or more, and else return the response.

        Raises:
            HTTPStatusError: If the status is 400 or more.
        """
        if self.ok:
            return self
        message = f"{self.status_code} {self.reason} for {self.request}"
        raise HTTPStatusError(message, self.request, self)

    # The content.

    @property
    def content(self) -> bytes:
        """The content, decoded.

        Raises:
            StreamConsumed: If it is a stream that was not read by ``read()``.
        """
        content = self._known_content()
        if content is None:
            raise StreamConsumed(
                "the content is a stream: read it by read(), aread() or one of the iterators",
                self.request,
            )
        return content

    def _known_content(self) -> bytes | None:
        if self._content is None:
            self._content = self._data.content()
        return self._content

    @property
    def encoding(self) -> str:
        """The name of the text's encoding: what the server says, or UTF-8. It can be set."""
        if self._encoding is None:
            message = Message()
            message["Content-Type"] = self.headers.get("content-type", "")
            self._encoding = encoding_of(message.get_content_charset())
        return self._encoding

    @encoding.setter
    def encoding(self, name: str) -> None:
        self._encoding = codecs.lookup(name).name

    @property
    def text(self) -> str:
        """The content as text. What is no text in its encoding is replaced."""
        return self.content.decode(self.encoding, errors="replace")

    def json(self, **options: Any) -> Any:
        """Return what the content means as JSON.

        It is UTF-8, or UTF-16 or UTF-32, as RFC 8259 says; if it is not, it is in the encoding
        that the server names.

        Args:
            options: Passed on to ``json.loads``.

        Raises:
            json.JSONDecodeError: If it is not JSON.
        """
        if not options:
            scanned = self._data.json()
            if scanned is not None:
                return scanned[0]
        try:
            return json_module.loads(self.content, **options)
        except UnicodeDecodeError:
            if self.encoding == "utf-8":
                raise
            return json_module.loads(self.text, **options)
        except json_module.JSONDecodeError as error:
            content_type = self.headers.get("content-type", "no type")
            error.add_note(
                f"The response, {self.status_code} {self.reason} for {self.request}, has content "
                f"of {content_type}, {len(self.content)} bytes."
            )
            raise

    # A stream.

    def _take_stream(self) -> ContentStream:
        if self._stream is None or self._is_taken:
            raise StreamConsumed("the content was read or closed already", self.request)
        self._is_taken = True
        return self._stream

    def _check_is_open(self, stream: ContentStream) -> None:
        if self._stream is not stream:
            raise StreamConsumed("the response was closed before its content ended", self.request)

    def _limit(self) -> int:
        """Return how many bytes may be kept in memory."""
        return sys.maxsize if self._stream is None else self._stream.limit_bytes

    def read(self) -> bytes:
        """Return the whole content; of a stream, in sync code, when it has come.

        Raises:
            ContentTooLarge: If it is more than ``Limits.content_bytes``.
        """
        content = self._known_content()
        if content is None:
            whole = WholeContent(self._limit(), self.request)
            with closing(self.iter_bytes()) as pieces:
                for piece in pieces:
                    whole.add(piece)
            content = self._content = whole.content()
        return content

    async def aread(self) -> bytes:
        """Return the whole content; of a stream, when it has come.

        Raises:
            ContentTooLarge: If it is more than ``Limits.content_bytes``.
        """
        content = self._known_content()
        if content is None:
            whole = WholeContent(self._limit(), self.request)
            async with aclosing(self.aiter_bytes()) as pieces:
                async for piece in pieces:
                    whole.add(piece)
            content = self._content = whole.content()
        return content

    def iter_bytes(self, chunk_size: int | None = None) -> Generator[bytes]:
        """Give the content piece by piece, in sync code.

        Args:
            chunk_size: The size of the pieces in bytes; ``None`` for pieces as they come.

        Raises:
            ValueError: If the size is less than 1.
        """
        check_size(chunk_size)
        content = self._known_content()
        if content is not None:
            yield from slices(content, chunk_size)
            return
        stream = self._take_stream()
        try:
            buffer = bytearray()
            while (piece := stream.next().result()) is not None:
                for part in parts(buffer, piece, chunk_size):
                    yield part
                    self._check_is_open(stream)
            if buffer:
                yield bytes(buffer)
        finally:
            self.close()

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes]:
        """Give the content piece by piece.

        Args:
            chunk_size: The size of the pieces in bytes; ``None`` for pieces as they come.

        Raises:
            ValueError: If the size is less than 1.
        """
        check_size(chunk_size)
        content = self._known_content()
        if content is not None:
            for piece in slices(content, chunk_size):
                yield piece
            return
        stream = self._take_stream()
        try:
            buffer = bytearray()
            while (next_piece := await stream.next()) is not None:
                for part in parts(buffer, next_piece, chunk_size):
                    yield part
                    self._check_is_open(stream)
            if buffer:
                yield bytes(buffer)
        finally:
            self.close()

    def iter_lines(self) -> Generator[str]:
        """Give the lines of the text without their ends, in sync code.

        Raises:
            ContentTooLarge: If one of them is longer than ``Limits.content_bytes``.
        """
        lines = LineSplitter(self.encoding, self._limit(), self.request)
        with closing(self.iter_bytes()) as pieces:
            for piece in pieces:
                yield from lines.feed(piece)
        yield from lines.end()

    async def aiter_lines(self) -> AsyncGenerator[str]:
        """Give the lines of the text without their ends.

        Raises:
            ContentTooLarge: If one of them is longer than ``Limits.content_bytes``.
        """
        lines = LineSplitter(self.encoding, self._limit(), self.request)
        async with aclosing(self.aiter_bytes()) as pieces:
            async for piece in pieces:
                for line in lines.feed(piece):
                    yield line
        for line in lines.end():
            yield line

    def iter_sse(self) -> Generator[Event]:
        """Give the server-sent events, in sync code.

        Raises:
            ContentTooLarge: If one of them is larger than ``Limits.content_bytes``.
        """
        events = EventStream(self._limit(), self.request)
        with closing(self.iter_bytes()) as pieces:
            for piece in pieces:
                for event in events.feed(piece):
                    yield Event(*event)

    async def aiter_sse(self) -> AsyncGenerator[Event]:
        """Give the server-sent events.

        Raises:
            ContentTooLarge: If one of them is larger than ``Limits.content_bytes``.
        """
        events = EventStream(self._limit(), self.request)
        async with aclosing(self.aiter_bytes()) as pieces:
            async for piece in pieces:
                for event in events.feed(piece):
                    yield Event(*event)

    @property
    def is_closed(self) -> bool:
        """Whether there is nothing to be read from the connection."""
        return self._stream is None

    def close(self) -> None:
        """Let go of content that is not read: give the connection back, or close it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class StreamedResponse(Response):
    """A response whose content is read piece by piece."""

    __slots__ = ()

    def __init__(self, request: Request, data: ResponseData) -> None:
        super().__init__(request, data)
        self._stream = data.stream
        if request.call is not None:
            request.call.end(response=self)

    def __del__(self) -> None:
        # A response whose making has failed has no stream.
        stream = getattr(self, "_stream", None)
        if stream is None:
            return
        stream.close()
        warnings.warn(
            f"the content of {self.request} was neither read nor closed; the call was made at "
            f"{self.request.place or 'an unknown place'}: use 'with' or 'async with'",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
