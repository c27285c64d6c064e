"""Serves examples with `carboy run`, and gives them a service whose answers can be held back."""

import asyncio
import os
import queue
import re
import signal
import subprocess
import sysconfig
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
START_TIMEOUT_SECONDS = 15
STOP_TIMEOUT_SECONDS = 10
ADDRESS = re.compile(r"http://127\.0\.0\.1:[1-9]\d*")
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


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def serve_recipe(name: str, upstream_url: str = "") -> Iterator[str]:
    """Serve a recipe with default settings, and check that it ends well when told to stop."""
    carboy = Path(sysconfig.get_path("scripts")) / "carboy"
    process = subprocess.Popen(
        [carboy, "run", f"{name}:app", "--port", "0", "--no-access-log"],
        cwd=EXAMPLES / "recipes",
        env={**os.environ, "UPSTREAM_URL": upstream_url, "NO_PROXY": "127.0.0.1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    lines: list[str] = []
    addresses: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read_output() -> None:
        for line in process.stdout:
            lines.append(line)
            if match := ADDRESS.search(line):
                addresses.put(match[0])
        addresses.put(None)

    reader = threading.Thread(target=read_output)
    reader.start()
    try:
        address = addresses.get(timeout=START_TIMEOUT_SECONDS)
        assert address is not None, "the server ended without serving"
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_SECONDS) == 0
        # The output ends when the last process that holds it has ended.
        reader.join(STOP_TIMEOUT_SECONDS)
        assert not reader.is_alive(), "the server left processes behind"
        errors = [line for line in lines if ERROR.search(line)]
        assert not errors
    except BaseException as error:
        kill_group(process)
        reader.join()
        error.add_note("The server's output:\n" + "".join(lines))
        raise
    finally:
        kill_group(process)
        process.wait()
        reader.join()
        process.stdout.close()


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[str]]:
    return serve_recipe


@pytest.fixture(scope="session")
def upstream() -> type[Upstream]:
    return Upstream
