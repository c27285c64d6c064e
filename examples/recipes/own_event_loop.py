"""`new_event_loop` and `run_until_complete` in a `def` view, from the time before `asyncio.run`.

Stock Flask serves it. The loop is also set as the thread's current one, which the next request on
the same thread then finds there, closed.
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
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(fetch_user(number))
    finally:
        loop.close()


@app.get("/ping")
def ping():
    return "pong"
