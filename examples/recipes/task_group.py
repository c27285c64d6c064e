"""`asyncio.TaskGroup` within `asyncio.timeout`, nested: all parts in time, or what there is.

Stock Flask serves it, with a thread and an event loop for each request.
"""

import asyncio
import os

import aiohttp
from flask import Flask

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


@app.get("/users/<int:number>")
async def page(number):
    async with aiohttp.ClientSession(UPSTREAM_URL) as session:

        async def fetch(path):
            async with session.get(path) as response:
                return await response.json()

        async def optional(path, seconds):
            try:
                async with asyncio.timeout(seconds):
                    return await fetch(path)
            except TimeoutError:
                return None

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            user = group.create_task(fetch(f"/users/{number}"))
            team = group.create_task(fetch(f"/teams/{number}"))
            advertisement = group.create_task(optional("/never", 0.05))
    return {
        "user": user.result(),
        "team": team.result(),
        "advertisement": advertisement.result(),
    }


@app.get("/ping")
async def ping():
    return "pong"
