"""The Starlette app of the comparison."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

UPSTREAM = os.environ["UPSTREAM"]
NAMES = ("a", "b", "c")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


async def hello(request: Request) -> HTMLResponse:
    return HTMLResponse("Hello, World!")


def sync_hello(request: Request) -> HTMLResponse:
    return HTMLResponse("Hello, World!")


async def user(request: Request) -> JSONResponse:
    return JSONResponse({"id": request.path_params["id"], "q": request.query_params.get("q")})


async def fetch(session: aiohttp.ClientSession, name: str) -> str:
    async with session.get(f"{UPSTREAM}/{name}") as response:
        return (await response.json())["name"]


async def fan_out(request: Request) -> JSONResponse:
    session = request.app.state.session
    return JSONResponse({"names": await asyncio.gather(*(fetch(session, name) for name in NAMES))})


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/hello", hello),
        Route("/sync/hello", sync_hello),
        Route("/user/{id:int}", user),
        Route("/fan-out", fan_out),
    ],
)
