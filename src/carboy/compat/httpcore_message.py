"""Requests of httpcore's in carboy's terms, and carboy's responses in httpcore's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from carboy.http import exceptions

if TYPE_CHECKING:
    from carboy._carboy import PlainResponse

#: Makes the library's error of one of carboy's.
Translate = Callable[[exceptions.HTTPError], Exception]

VERSIONS = {10: b"HTTP/1.0", 11: b"HTTP/1.1", 20: b"HTTP/2"}


class Content:
    """The content of a response, in sync code."""

    __slots__ = ("_response", "_translated")

    def __init__(self, translated: Translate, response: PlainResponse) -> None:
        self._translated = translated
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        response = self._response
        if ready := response.take_ready():
            yield ready
        if response.is_complete:
            return
        try:
            while (piece := response.read()) is not None:
                yield piece
        except exceptions.HTTPError as error:
            raise self._translated(error) from error

    @property
    def is_complete(self) -> bool:
        """Whether all of it came with the head."""
        return self._response.is_complete

    def read_all(self) -> tuple[bytes, BaseException | None]:
        """Return what nobody has read yet, and carboy's error that has ended it, if any."""
        return self._response.read_all()

    def close(self) -> None:
        """Let go of what was not read."""
        self._response.close()


class AsyncContent:
    """The content of a response, in async code."""

    __slots__ = ("_response", "_translated")

    def __init__(self, translated: Translate, response: PlainResponse) -> None:
        self._translated = translated
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        response = self._response
        if ready := response.take_ready():
            yield ready
        if response.is_complete:
            return
        try:
            while (promise := response.next()) is not None:
                piece = await promise
                if piece is None:
                    return
                yield piece
        except exceptions.HTTPError as error:
            raise self._translated(error) from error

    @property
    def is_complete(self) -> bool:
        """Whether all of it came with the head."""
        return self._response.is_complete

    async def read_all(self) -> tuple[bytes, BaseException | None]:
        """Return what nobody has read yet, and carboy's error that has ended it, if any."""
        response = self._response
        promise = response.everything_soon()
        return response.whole(None if promise is None else await promise)

    async def aclose(self) -> None:
        """Let go of what was not read."""
        self._response.close()


class NetworkStream:
    """Stands where httpcore gives access to the socket, which carboy keeps."""

    def get_extra_info(self, info: str) -> None:
        """Return nothing: httpcore's word for what is not known."""


def content_of(request: Any) -> tuple[Any, int | None]:
    """Return the content of a request, or its pieces and their size."""
    length = None
    is_chunked = False
    for name, value in request.headers:
        lower = name.lower()
        if lower == b"content-length":
            length = int(value)
        elif lower == b"transfer-encoding":
            is_chunked = True
    if length is None and not is_chunked:
        return None, None
    if length == 0:
        return None, None
    stream = request.stream
    # What httpx makes of bytes; other streams have their own ways.
    content = getattr(stream, "_stream", None) if type(stream).__name__ == "ByteStream" else None
    if isinstance(content, bytes) and not is_chunked:
        return content, length
    return stream, None if is_chunked else length


_NO_TIMEOUTS: dict[str, float | None] = {}


def arguments(request: Any, content: Any, proxy: str) -> tuple[Any, ...]:
    """Return the arguments of ``Transport.send`` for a request."""
    url = request.url
    host = url.host.decode("ascii")
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    origin = f"{url.scheme.decode('ascii')}://{host}"
    if url.port is not None:
        origin = f"{origin}:{url.port}"
    timeouts = request.extensions.get("timeout", _NO_TIMEOUTS)
    return (
        request.method.decode("ascii"),
        origin,
        url.target,
        request.headers,
        content,
        (
            timeouts.get("connect"),
            timeouts.get("read"),
            timeouts.get("write"),
            timeouts.get("pool"),
        ),
        proxy,
    )
