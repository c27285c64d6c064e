"""The Quart app of the comparison."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp
from quart import Quart, request

UPSTREAM = os.environ["UPSTREAM"]
NAMES = ("a", "b", "c")

app = Quart(__name__)


@app.before_serving
async def open_session() -> None:
    app.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


@app.after_serving
async def close_session() -> None:
    await app.session.close()


@app.get("/hello")
async def hello() -> str:
    return "Hello, World!"


@app.get("/sync/hello")
def sync_hello() -> str:
    return "Hello, World!"


@app.get("/user/<int:id>")
async def user(id: int) -> dict[str, Any]:
    return {"id": id, "q": request.args.get("q")}


async def fetch(name: str) -> str:
    async with app.session.get(f"{UPSTREAM}/{name}") as response:
        return (await response.json())["name"]


@app.get("/fan-out")
async def fan_out() -> dict[str, Any]:
    return {"names": await asyncio.gather(*map(fetch, NAMES))}
