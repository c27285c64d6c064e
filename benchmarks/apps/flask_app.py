"""The Flask app of the comparison: the same file on carboy, gunicorn and granian.

The fan-out exists twice, because nobody writes it alike for both kinds of server:
`/fan-out` awaits an aiohttp session that all requests share, which needs a loop
that outlives the request; `/threads/fan-out` is the careful form of what people
write for thread servers, with one executor and one session for the whole process.
For the same reason `/user` exists as `async def` and as `def`.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import requests
from flask import Flask, request
from requests.adapters import HTTPAdapter

UPSTREAM = os.environ["UPSTREAM"]
NAMES = ("a", "b", "c")

app = Flask(__name__)


@app.get("/hello")
async def hello() -> str:
    return "Hello, World!"


@app.get("/sync/hello")
def sync_hello() -> str:
    return "Hello, World!"


@app.get("/user/<int:id>")
async def user(id: int) -> dict[str, Any]:
    return {"id": id, "q": request.args.get("q")}


@app.get("/sync/user/<int:id>")
def sync_user(id: int) -> dict[str, Any]:
    return {"id": id, "q": request.args.get("q")}


_session: aiohttp.ClientSession | None = None


def shared_session() -> aiohttp.ClientSession:
    """Make the session in the first request, because only then the loop runs."""
    global _session
    if _session is None:
        _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    return _session


async def fetch(name: str) -> str:
    async with shared_session().get(f"{UPSTREAM}/{name}") as response:
        return (await response.json())["name"]


@app.get("/fan-out")
async def fan_out() -> dict[str, Any]:
    return {"names": await asyncio.gather(*map(fetch, NAMES))}


# Eight worker threads with three calls each can be at it at the same time.
executor = ThreadPoolExecutor(max_workers=24)
requests_session = requests.Session()
requests_session.mount("http://", HTTPAdapter(pool_maxsize=24))


def fetch_in_thread(name: str) -> str:
    return requests_session.get(f"{UPSTREAM}/{name}", timeout=5).json()["name"]


@app.get("/threads/fan-out")
def fan_out_in_threads() -> dict[str, Any]:
    return {"names": list(executor.map(fetch_in_thread, NAMES))}
