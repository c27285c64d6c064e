"""Generator-based coroutines, as written before `async def`: `yield from` is `await`.

Stock Flask takes the generator for a streamed body, and fails on the futures that it yields.
"""

import asyncio
import os
import types
from functools import cache

import aiohttp
from flask import Flask, request

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


@cache
def client():
    return aiohttp.ClientSession()


@types.coroutine
def fetch_user(number):
    response = yield from client().get(f"{UPSTREAM_URL}/users/{number}").__await__()
    try:
        return (yield from response.json())
    finally:
        response.release()


@app.get("/users/<int:number>")
@types.coroutine
def user(number):
    yield from asyncio.sleep(0)
    found = yield from fetch_user(number)
    return {**found, "path": request.path}


@app.get("/ping")
async def ping():
    return "pong"
