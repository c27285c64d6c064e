"""How many requests wait at once, and how little they are in each other's way."""

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from support.async_http import fetch_text

if TYPE_CHECKING:
    from support.server_process import ServerProcess

pytestmark = pytest.mark.slow

APP = """
    import asyncio, functools, time
    from flask import Flask, current_app, g

    app = Flask(__name__)

    def decorated(view):
        @functools.wraps(view)
        def wrapper(*arguments, **keywords):
            g.user = "me"
            return current_app.ensure_sync(view)(*arguments, **keywords)
        return wrapper

    async def sleep():
        await asyncio.sleep(1)
        return "slept"

    app.add_url_rule("/async", "async", sleep)
    app.add_url_rule("/decorated", "decorated", decorated(sleep))

    @app.get("/block")
    def block():
        time.sleep(0.2)
        return "blocked"

    @app.get("/quick")
    async def quick():
        return "quick"
"""


@pytest.mark.parametrize(("target", "bound"), [("/async", 3), ("/decorated", 4)])
def test_2000_requests_that_sleep_a_second(serve, target: str, bound: float) -> None:
    server: ServerProcess = serve(APP)

    async def main() -> tuple[list[str], float]:
        await fetch_text(server.address, "/quick")
        started = time.monotonic()
        answers = await asyncio.gather(*(fetch_text(server.address, target) for _ in range(2000)))
        return answers, time.monotonic() - started

    answers, elapsed = asyncio.run(main())

    assert answers == ["slept"] * 2000
    assert elapsed < bound


def test_an_async_view_answers_while_200_sync_views_block(serve) -> None:
    server: ServerProcess = serve(APP)

    async def main() -> tuple[list[str], list[float]]:
        # Opened before, so that the client's own work is not what is measured.
        streams = [await asyncio.open_connection(*server.address) for _ in range(200)]
        for _, writer in streams:
            writer.write(b"GET /block HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        blocked = asyncio.gather(*(reader.read() for reader, _ in streams))
        times = []
        while not blocked.done():
            started = time.monotonic()
            assert await fetch_text(server.address, "/quick") == "quick"
            times.append(time.monotonic() - started)
            await asyncio.sleep(0.005)
        for _, writer in streams:
            writer.close()
        return [answer.decode().rpartition("\r\n")[2] for answer in await blocked], times

    answers, times = asyncio.run(main())

    assert answers == ["blocked"] * 200
    assert len(times) > 5
    assert max(times) < 0.05, f"slowest of {len(times)}: {max(times):.3f} s"
