"""Content that sync code gives piece by piece, on the thread that makes the call."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from carboy._carboy import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

    from carboy._carboy import BlockingCall

#: As many pieces may be on their way before a connection has taken one.
_MOST_QUEUED = 8


class SourceError(BaseException):
    """The content could not be had: what its iterator has raised.

    Not an ``Exception``, so that nobody takes it for an error of the call.

    Attributes:
        error: That.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Pump:
    """Puts pieces into an upload at the pace of the server.

    Args:
        pieces: The content.
        length: Its size in bytes, if that is known.
    """

    def __init__(self, pieces: Iterable[bytes], length: int | None) -> None:
        self.upload = Upload(length)
        self._pieces = iter(pieces)
        self._taken: list[bytes] | None = []

    def run(self, call: BlockingCall) -> None:
        """Put everything in, or as much as the server wants.

        Args:
            call: The request, which has begun.

        Raises:
            SourceError: If the iterator raises something; the request is broken off.
        """
        try:
            for piece in self._pieces:
                self._keep(piece)
                if piece and not self.upload.send(piece):
                    return
            self.upload.finish()
        except BaseException as error:
            # Not by a piece that says so: there may be no room for it for as long as the server
            # takes nothing.
            call.cancel()
            raise SourceError(error) from error

    def _keep(self, piece: bytes) -> None:
        if self._taken is not None:
            self._taken.append(piece)
            if len(self._taken) > _MOST_QUEUED:
                self._taken = None

    def unsent(self) -> Iterator[bytes] | None:
        """Return the whole content again if there can't have been a connection for it yet."""
        if self._taken is None:
            return None
        return itertools.chain(self._taken, self._pieces)


class AsyncPump:
    """As ``Pump``, for an async iterable."""

    def __init__(self, pieces: AsyncIterable[bytes], length: int | None) -> None:
        self.upload = Upload(length)
        self._pieces = aiter(pieces)
        self._taken: list[bytes] | None = []

    async def run(self) -> None:
        """Put everything in, or as much as the server wants.

        Raises:
            SourceError: If the iterator raises something; the request is broken off.
        """
        try:
            async for piece in self._pieces:
                if self._taken is not None:
                    self._taken.append(piece)
                    if len(self._taken) > _MOST_QUEUED:
                        self._taken = None
                if piece and not await self.upload.send_soon(piece):
                    return
        except Exception as error:
            self.upload.fail_soon(repr(error))
            raise SourceError(error) from error
        except BaseException as error:
            self.upload.fail_soon(repr(error))
            raise
        await self.upload.finish_soon()

    def unsent(self) -> AsyncIterator[bytes] | None:
        """Return the whole content again if there can't have been a connection for it yet."""
        return None if self._taken is None else self._all_again(self._taken)

    async def _all_again(self, taken: list[bytes]) -> AsyncIterator[bytes]:
        for piece in taken:
            yield piece
        async for piece in self._pieces:
            yield piece
