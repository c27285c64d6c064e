"""A `run_async` decorator that makes a `def` view of a coroutine function, for any framework.

Stock Flask serves it: a thread and an event loop for each request, and the request context copied
to that thread, so that `request` works in the coroutine.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import wraps

import aiohttp
from flask import Flask, copy_current_request_context, request

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


def run_async(view):
    @wraps(view)
    def wrapper(*args, **kwargs):
        @copy_current_request_context
        def run():
            return asyncio.run(view(*args, **kwargs))

        with ThreadPoolExecutor(max_workers=1) as executor:
            return executor.submit(run).result()

    return wrapper


@app.get("/users/<int:number>")
@run_async
async def user(number):
    async with (
        aiohttp.ClientSession(UPSTREAM_URL) as session,
        session.get(f"/users/{number}") as response,
    ):
        return {**await response.json(), "path": request.path, "language": request.args["language"]}


@app.get("/ping")
def ping():
    return "pong"
