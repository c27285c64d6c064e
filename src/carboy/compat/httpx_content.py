"""Reading the whole content of a response of httpx' or httpx2's at once.

httpx passes each piece through five generators, one within the other. Where all of them would
only hand it on, and the response is carboy's, the content is taken as a whole.
"""

from __future__ import annotations

import datetime
import functools
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from carboy.compat import pristine
from carboy.compat.httpcore_message import AsyncContent, Content
from carboy.compat.httpx_known import is_known
from carboy.http import exceptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from carboy.compat.httpcore_pool import Library
    from carboy.compat.httpx_modules import Modules
    from carboy.compat.patching import Patches

_Content = TypeVar("_Content", Content, AsyncContent)

_SYNC = (
    ("Response", "read", "iter_bytes", "iter_raw", "close", "_get_content_decoder"),
    ("BoundSyncStream", "__iter__", "close"),
    ("ResponseStream", "__iter__", "close"),
)
_ASYNC = (
    ("Response", "aread", "aiter_bytes", "aiter_raw", "aclose", "_get_content_decoder"),
    ("BoundAsyncStream", "__aiter__", "aclose"),
    ("AsyncResponseStream", "__aiter__", "aclose"),
)


def patch_content(patches: Patches, modules: Modules, library: Library) -> None:
    """Let responses take their contents as a whole where that makes no difference.

    Args:
        patches: Where to note the replacements.
        modules: Those of httpx or httpx2.
        library: The library of connections below it.
    """
    for parts, make in ((_SYNC, _make_read), (_ASYNC, _make_aread)):
        response, bound, stream = owners = [
            getattr(module, names[0], None)
            for module, names in zip(
                (modules.models, modules.client, modules.transports), parts, strict=True
            )
        ]
        functions = [
            (owner, name)
            for owner, names in zip(owners, parts, strict=True)
            for name in names[1:]
            if owner is not None
        ]
        if None not in owners and all(is_known(owner, name) for owner, name in functions):
            whole = _Whole(modules, library, functions[1:], bound, stream)
            patches.replace(response, parts[0][1], functools.partial(make, whole))


class _Whole:
    """Knows where the content of a response can be taken as a whole, and what then is to be noted.

    Args:
        modules: Those of httpx or httpx2.
        library: The library of connections below it.
        functions: What the content passes through otherwise.
        bound: The class of streams that note how long a call has taken.
        stream: The class of those that translate errors.
    """

    def __init__(
        self,
        modules: Modules,
        library: Library,
        functions: list[tuple[Any, str]],
        bound: Any,
        stream: Any,
    ) -> None:
        self._response = modules.models.Response
        self._modules = modules
        self._library = library
        self._bound, self._stream = bound, stream
        self._identity = modules.decoders.IdentityDecoder
        self._is_usual = pristine.watch_current(functions)
        #: Whether the time is kept by the stream, and not by the response.
        self._stream_knows_time = modules.name == "httpx2"
        self.request_context = modules.models.request_context
        #: Whether a response is closed when its content can't be read.
        self.closes_failed = modules.name == "httpx2"

    def content_of(self, response: Any, kind: type[_Content]) -> _Content | None:
        """Return carboy's content of a response whose content was not touched yet, or nothing."""
        if (
            type(response) is not self._response
            or response.is_stream_consumed
            or response.is_closed
            or not self._is_usual()
        ):
            return None
        bound: Any = response.stream
        if type(bound) is not self._bound or type(bound._stream) is not self._stream:
            return None
        content = bound._stream._httpcore_stream
        if not isinstance(content, kind) or getattr(bound, "_response", response) is not response:
            return None
        decoder = response._get_content_decoder()
        if type(decoder) is not self._identity and not content.is_complete:
            # What can't be decoded is not to be waited for.
            return None
        return content

    def taken(self, response: Any, raw: bytes, error: BaseException | None) -> Any:
        """Note what was read, and return it as the decoder gives it out.

        Raises:
            Exception: The error that has ended the content, as httpx raises it; what the decoder
                raises.
        """
        response._num_bytes_downloaded = len(raw)
        if isinstance(error, exceptions.HTTPError):
            with self._modules.transports.map_httpcore_exceptions():
                raise self._library.translated(error) from error
        if error is not None:
            raise error
        return _pieces(response._decoder.decode(raw)) if raw else []

    def close(self, response: Any) -> None:
        """Note that everything was read, as the streams do."""
        response.is_closed = True
        bound = response.stream
        elapsed = datetime.timedelta(seconds=time.perf_counter() - bound._start)
        if self._stream_knows_time:
            bound.elapsed = elapsed
        else:
            response.elapsed = elapsed
            # It would keep the response, and its content, until the garbage is collected.
            bound._response = weakref.proxy(response)


def _pieces(decoded: Any) -> list[bytes]:
    # A single piece is not copied to be joined.
    return [piece for piece in ((decoded,) if isinstance(decoded, bytes) else decoded) if piece]


def _make_read(whole: _Whole, original: Callable[..., bytes]) -> Callable[..., bytes]:
    context = whole.request_context

    def read(self: Any) -> bytes:
        if hasattr(self, "_content"):
            return self._content  # type: ignore[no-any-return]
        content = whole.content_of(self, Content)
        if content is None:
            return original(self)
        self.is_stream_consumed = True
        self._num_bytes_downloaded = 0
        with context(self._request):
            try:
                pieces = whole.taken(self, *content.read_all())
            except BaseException:
                if whole.closes_failed:
                    self.close()
                raise
            whole.close(self)
            pieces += _pieces(self._decoder.flush())
        made = self._content = b"".join(pieces)
        return made

    return read


def _make_aread(whole: _Whole, original: Callable[..., Any]) -> Callable[..., Any]:
    context = whole.request_context

    async def aread(self: Any) -> bytes:
        if hasattr(self, "_content"):
            return self._content  # type: ignore[no-any-return]
        content = whole.content_of(self, AsyncContent)
        if content is None:
            return await original(self)  # type: ignore[no-any-return]
        self.is_stream_consumed = True
        self._num_bytes_downloaded = 0
        with context(self._request):
            try:
                pieces = whole.taken(self, *await content.read_all())
            except BaseException:
                if whole.closes_failed:
                    await self.aclose()
                raise
            whole.close(self)
            pieces += _pieces(self._decoder.flush())
        made = self._content = b"".join(pieces)
        return made

    return aread
