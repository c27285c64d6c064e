"""Transports of httpx and httpx2 with a pool of carboy's: what both have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from carboy.compat.httpcore_settings import remember_identity

if TYPE_CHECKING:
    from carboy.compat.httpcore_pool import Library


class PooledTransport:
    """Lets a transport of a library send its requests over carboy's pool.

    Args:
        options: Those of the library's transport, which is the next base class.
    """

    library: ClassVar[Library]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pool = self._pool
        remember_identity(pool._ssl_context, options.get("cert"))
        self._pool: Any = PoolView(self.library, pool)


class PoolView:
    """A pool whose requests go through carboy, for one transport only.

    Args:
        library: Whose pool it is.
        pool: The pool.
    """

    def __init__(self, library: Library, pool: Any) -> None:
        self._library = library
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def handle_request(self, request: Any) -> Any:
        """Send a request."""
        original = type(self._pool).handle_request
        return self._library.handle_request(self._pool, request, original)

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request."""
        original = type(self._pool).handle_async_request
        return await self._library.handle_async_request(self._pool, request, original)

    def close(self) -> None:
        """Close idle connections."""
        self._library.close(self._pool)
        self._pool.close()

    async def aclose(self) -> None:
        """Close idle connections."""
        self._library.close(self._pool)
        await self._pool.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
