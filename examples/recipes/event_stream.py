"""Server-sent events from an async generator: nothing waits in a thread between two events.

Stock Flask raises a TypeError: a view cannot return an async iterator.
"""

import json
import os

import aiohttp
from flask import Flask, request

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


@app.get("/users/<int:number>")
async def events(number):
    path = request.path

    async def stream():
        yield f"event: started\ndata: {path}\n\n"
        async with (
            aiohttp.ClientSession(UPSTREAM_URL) as session,
            session.get(f"/users/{number}") as response,
        ):
            yield f"data: {json.dumps(await response.json())}\n\n"
        yield "event: finished\ndata:\n\n"

    return stream(), {"Content-Type": "text/event-stream"}


@app.get("/ping")
async def ping():
    return "pong"
