"""Fire and forget: a view starts a task, answers at once, and the task lives on.

Stock Flask cancels the task when the view returns, because its event loop ends with it.
"""

import asyncio
import os

import aiohttp
from flask import Flask

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)
# The event loop keeps weak references only, so the tasks are held here.
tasks = {}


async def welcome(number):
    async with (
        aiohttp.ClientSession(UPSTREAM_URL) as session,
        session.get(f"/users/{number}") as response,
    ):
        user = await response.json()
    return f"Welcome, {user['name']}!"


@app.post("/users/<int:number>")
async def register(number):
    tasks[number] = asyncio.create_task(welcome(number))
    return {"registered": number}, 202


@app.get("/users/<int:number>")
async def greeting(number):
    return {"greeting": await tasks.pop(number)}


@app.get("/ping")
async def ping():
    return "pong"
