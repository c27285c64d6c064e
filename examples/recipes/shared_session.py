"""One aiohttp `ClientSession` for all requests, so that connections to the service are kept.

Under stock Flask the first request works, and the next one raises "Event loop is closed": the
session belongs to the event loop of the request that made it.
"""

import os

import aiohttp
from flask import Flask

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)
session = None


def get_session():
    global session
    if session is None:
        session = aiohttp.ClientSession(UPSTREAM_URL)
    return session


@app.get("/users/<int:number>")
async def user(number):
    async with get_session().get(f"/users/{number}") as response:
        return await response.json()


@app.get("/ping")
async def ping():
    return "pong"
