"""An aiohttp `ClientSession` with a timeout: a slow service costs its part of the page only.

Stock Flask serves it, with a thread and an event loop for each request and none kept.
"""

import os

import aiohttp
from flask import Flask

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


@app.get("/users/<int:number>")
async def user(number):
    timeout = aiohttp.ClientTimeout(total=10, connect=5)
    async with aiohttp.ClientSession(UPSTREAM_URL, timeout=timeout) as session:
        async with session.get(f"/users/{number}") as response:
            found = await response.json()
        try:
            short = aiohttp.ClientTimeout(total=0.05)
            async with session.get("/never", timeout=short) as response:
                found["advertisement"] = await response.json()
        except TimeoutError:
            found["advertisement"] = None
    return found


@app.get("/ping")
async def ping():
    return "pong"
