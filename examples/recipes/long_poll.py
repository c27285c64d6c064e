"""An `asyncio.Queue` between two async views: one waits for the message that another brings.

Under stock Flask the waiting view never wakes up: its event loop is not the one in which the
message is put.
"""

import asyncio
from collections import defaultdict

from flask import Flask, request

app = Flask(__name__)
mailboxes = defaultdict(asyncio.Queue)
waiting = 0


@app.get("/mailboxes/<name>")
async def receive(name):
    global waiting
    waiting += 1
    try:
        async with asyncio.timeout(20):
            message = await mailboxes[name].get()
    finally:
        waiting -= 1
    return {"name": name, "message": message}


@app.post("/mailboxes/<name>")
async def send(name):
    await mailboxes[name].put(request.get_json())
    return "", 204


@app.get("/waiting")
async def count():
    return {"waiting": waiting}


@app.get("/ping")
async def ping():
    return "pong"
