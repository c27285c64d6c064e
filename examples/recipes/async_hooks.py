"""Async hooks around an async view: before, after and teardown, with `g` from one to the next.

Under stock Flask the view and each hook run in an event loop of their own, so the session that one
of them opens raises "Event loop is closed" in the next.
"""

import asyncio
import os

import aiohttp
from flask import Flask, g

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)
sessions = {"opened": 0, "closed": 0}


@app.before_request
async def open_session():
    g.session = aiohttp.ClientSession(UPSTREAM_URL)
    sessions["opened"] += 1


@app.get("/users/<int:number>")
async def user(number):
    async with g.session.get(f"/users/{number}") as response:
        return await response.json()


@app.after_request
async def add_header(response):
    await asyncio.sleep(0)
    response.headers["X-Session-Closed"] = str(g.session.closed)
    return response


@app.teardown_request
async def close_session(_error):
    await g.session.close()
    sessions["closed"] += 1


@app.get("/sessions")
async def count():
    return sessions


@app.get("/ping")
async def ping():
    return "pong"
