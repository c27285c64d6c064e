"""Serves examples with `carboy run`, and gives them a service whose answers can be held back."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiohttp import web

_TESTS = str(Path(__file__).resolve().parents[1])
if _TESTS not in sys.path:
    sys.path.append(_TESTS)

from support.server_process import ServerProcess  # noqa: E402 - Found by the path above.

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STOP_TIMEOUT_SECONDS = 10
# What a server or a library prints when something went wrong behind an answer that looks right.
ERROR = re.compile(r"Traceback|ERROR|CRITICAL|Exception|never (awaited|retrieved)|panicked")


class Upstream:
    """A service of users, teams and cities, which holds requests for users until it is opened.

    All requests of a crowd are known to be in flight when all of them are held.
    """

    def __init__(self, crowd: int) -> None:
        self.url = ""
        self.all_held = asyncio.Event()
        self.opened = asyncio.Event()
        self._crowd = crowd
        self._held = 0

    async def user(self, request: web.Request) -> web.Response:
        self._held += 1
        if self._held == self._crowd:
            self.all_held.set()
        await self.opened.wait()
        number = int(request.match_info["number"])
        return web.json_response({"name": f"user {number}", "team": number + 1})

    async def team(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        return web.json_response({"name": f"team {number}", "city": number + 1})

    async def city(self, request: web.Request) -> web.Response:
        return web.json_response({"name": f"city {request.match_info['number']}"})

    async def never(self, request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("the client waited for ever")

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Upstream"]:
        app = web.Application()
        app.router.add_get(r"/users/{number:\d+}", self.user)
        app.router.add_get(r"/teams/{number:\d+}", self.team)
        app.router.add_get(r"/cities/{number:\d+}", self.city)
        app.router.add_get("/never", self.never)
        # Handlers are cancelled when their client goes, so that `never` ends with its request.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
            host, port = runner.addresses[0]
            self.url = f"http://{host}:{port}"
            yield self
        finally:
            self.opened.set()
            await runner.cleanup()


@contextmanager
def serve_recipe(name: str, upstream_url: str = "") -> Iterator[str]:
    """Serve a recipe with default settings, and check that it ends well when told to stop."""
    server = ServerProcess(
        EXAMPLES / "recipes",
        "--no-access-log",
        f"{name}:app",
        env={"UPSTREAM_URL": upstream_url, "NO_PROXY": "127.0.0.1"},
    )
    try:
        with server:
            host, port = server.address
            try:
                yield f"http://{host}:{port}"
            except BaseException:
                # A test that failed has left requests behind, which need not be waited for.
                server.kill()
                raise
            server.send_signal(signal.SIGTERM)
            assert server.wait(STOP_TIMEOUT_SECONDS) == 0
        assert not [line for line in server.lines if ERROR.search(line)]
    except BaseException as error:
        error.add_note(f"The server's output:\n{server.output}")
        raise


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[str]]:
    return serve_recipe


@pytest.fixture(scope="session")
def upstream() -> type[Upstream]:
    return Upstream
