"""A call whose content is read piece by piece."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from carboy._carboy import Promise
    from carboy.http.response import Response

_OWN_FOLDER = str(Path(__file__).parent)


def _response_class() -> type[Response]:
    from carboy.http.response import Response

    return Response


class StreamedCall:
    """A call whose response is used in ``with`` or ``async with``."""

    def __init__(self, promise: Promise[Response]) -> None:
        self._promise = promise
        self._response: Response | None = None

    def __repr__(self) -> str:
        return f"<StreamedCall {self._promise!r}>"

    def __getattr__(self, name: str) -> Any:
        # Of the names of dunder methods others ask, to know what this can do.
        if name.startswith("_") or not hasattr(_response_class(), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise AttributeError(
            f"{name} is an attribute of the response, which is given by 'with http.stream(…) as "
            "response:', in async code by 'async with'"
        )

    def __enter__(self) -> Response:
        try:
            self._response = self._promise.result()
        except BaseException:
            self._promise.cancel()
            raise
        return self._response

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.close()

    async def __aenter__(self) -> Response:
        self._response = await self._promise
        return self._response

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.close()


def calling_line() -> str | None:
    """Say which line of the application is running: ``views.py:41``."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_OWN_FOLDER):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
