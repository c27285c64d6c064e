"""Running a test's coroutine on carboy's loop, with a bound."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import carboy

TIMEOUT_SECONDS = 20


def run(main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await main()

    carboy.run(bounded(), debug=debug)
