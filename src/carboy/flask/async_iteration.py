"""A body that an async iterator produces, for code that iterates in the sync way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carboy._carboy import await_on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterable


class BridgedIterator:
    """Iterates an async iterable from a worker: each step runs on the loop.

    ``close`` ends an async generator early, so that its ``finally`` blocks run on the loop
    too, also when the client has gone.
    """

    def __init__(self, iterable: AsyncIterable[Any]) -> None:
        self._iterator = aiter(iterable)
        self._closed = False

    def __iter__(self) -> BridgedIterator:
        return self

    def __next__(self) -> Any:
        if self._closed:
            raise StopIteration
        try:
            return await_on_loop(_next(self._iterator))
        except StopAsyncIteration:
            self._closed = True
            raise StopIteration from None

    def close(self) -> None:
        """Close the iterator, if it can be closed."""
        close = getattr(self._iterator, "aclose", None)
        if close is not None and not self._closed:
            self._closed = True
            await_on_loop(close())


async def _next(iterator: Any) -> Any:
    # A coroutine may not raise StopIteration, but it may raise StopAsyncIteration.
    return await anext(iterator)
