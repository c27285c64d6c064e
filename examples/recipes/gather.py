"""`asyncio.gather`: several calls at once, the answers in the order in which they were asked for.

Stock Flask serves it, with a thread and an event loop for each request.
"""

import asyncio
import os

import aiohttp
from flask import Flask, request

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


async def fetch(session, path):
    async with session.get(path) as response:
        return {"path": request.path, **await response.json()}


@app.get("/users/<int:number>")
async def page(number):
    async with aiohttp.ClientSession(UPSTREAM_URL) as session:
        answers = await asyncio.gather(
            fetch(session, f"/users/{number}"),
            fetch(session, f"/teams/{number}"),
            fetch(session, f"/cities/{number}"),
            fetch(session, "/missing"),
            return_exceptions=True,
        )
    return [
        type(answer).__name__ if isinstance(answer, Exception) else answer for answer in answers
    ]


@app.get("/ping")
async def ping():
    return "pong"
