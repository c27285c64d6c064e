"""A then B then C: each call needs what the one before it answered, promise style.

Stock Flask serves it, with a thread and an event loop for each request. The callbacks use `g`, so
they must run in the context of the request that added them.
"""

import asyncio
import os

import aiohttp
from flask import Flask, g

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


def then(awaitable, function):
    """Return a task that calls the function with the result, and awaits what it returns."""

    async def chained():
        return await function(await awaitable)

    return asyncio.ensure_future(chained())


@app.get("/users/<int:number>")
async def team_of_user(number):
    g.steps = []

    async with aiohttp.ClientSession(UPSTREAM_URL) as session:

        async def fetch(path):
            async with session.get(path) as response:
                return await response.json()

        user = asyncio.create_task(fetch(f"/users/{number}"))
        user.add_done_callback(lambda task: g.steps.append(task.result()["name"]))
        team = then(user, lambda found: fetch(f"/teams/{found['team']}"))
        team.add_done_callback(lambda task: g.steps.append(task.result()["name"]))
        city = await then(team, lambda found: fetch(f"/cities/{found['city']}"))
    return {"steps": g.steps, "city": city["name"]}


@app.get("/ping")
async def ping():
    return "pong"
