"""One event loop in a thread of its own, to which `def` views send their coroutines.

Stock Flask serves it: the views wait in their worker threads. Were the views called on the loop's
own thread, `result()` would wait for itself.
"""

import asyncio
import os
import threading

import aiohttp
from flask import Flask

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, name="asyncio", daemon=True).start()


async def fetch_user(number):
    async with (
        aiohttp.ClientSession(UPSTREAM_URL) as session,
        session.get(f"/users/{number}") as response,
    ):
        return await response.json()


@app.get("/users/<int:number>")
def user(number):
    return asyncio.run_coroutine_threadsafe(fetch_user(number), loop).result(timeout=10)


@app.get("/ping")
def ping():
    return "pong"
