"""`asyncio.run` in a `def` view: a new event loop for each request.

Stock Flask serves it, with one worker thread held for as long as the coroutine runs. It needs a
thread without a running event loop, so a server that calls `def` views on its loop breaks it.
"""

import asyncio
import os

import aiohttp
from flask import Flask

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


async def fetch_user(number):
    async with (
        aiohttp.ClientSession(UPSTREAM_URL) as session,
        session.get(f"/users/{number}") as response,
    ):
        return await response.json()


@app.get("/users/<int:number>")
def user(number):
    return asyncio.run(fetch_user(number))


@app.get("/ping")
def ping():
    return "pong"
