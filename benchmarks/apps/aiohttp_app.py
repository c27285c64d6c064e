"""The aiohttp app of the comparison, on aiohttp's own server: the port is the argument.

aiohttp has no views that aren't coroutines, so there is no sync hello here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import aiohttp
import uvloop
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UPSTREAM = os.environ["UPSTREAM"]
NAMES = ("a", "b", "c")
SESSION = web.AppKey("session", aiohttp.ClientSession)

routes = web.RouteTableDef()


@routes.get("/hello")
async def hello(request: web.Request) -> web.Response:
    return web.Response(text="Hello, World!", content_type="text/html")


@routes.get(r"/user/{id:\d+}")
async def user(request: web.Request) -> web.Response:
    return web.json_response({"id": int(request.match_info["id"]), "q": request.query.get("q")})


async def fetch(session: aiohttp.ClientSession, name: str) -> str:
    async with session.get(f"{UPSTREAM}/{name}") as response:
        return (await response.json())["name"]


@routes.get("/fan-out")
async def fan_out(request: web.Request) -> web.Response:
    session = request.app[SESSION]
    names = await asyncio.gather(*(fetch(session, name) for name in NAMES))
    return web.json_response({"names": names})


async def shared_session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app[SESSION] = session
        yield


if __name__ == "__main__":
    app = web.Application()
    app.cleanup_ctx.append(shared_session)
    app.add_routes(routes)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
    )
