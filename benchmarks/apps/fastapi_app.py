"""The FastAPI app of the comparison."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UPSTREAM = os.environ["UPSTREAM"]
NAMES = ("a", "b", "c")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/hello", response_class=HTMLResponse)
async def hello() -> str:
    return "Hello, World!"


@app.get("/sync/hello", response_class=HTMLResponse)
def sync_hello() -> str:
    return "Hello, World!"


@app.get("/user/{id}")
async def user(id: int, q: str | None = None) -> dict[str, Any]:
    return {"id": id, "q": q}


async def fetch(name: str) -> str:
    async with app.state.session.get(f"{UPSTREAM}/{name}") as response:
        return (await response.json())["name"]


@app.get("/fan-out")
async def fan_out() -> dict[str, Any]:
    return {"names": await asyncio.gather(*map(fetch, NAMES))}
