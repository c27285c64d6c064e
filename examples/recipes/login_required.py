"""An `async def` view behind an extension's `def` decorator, which knows nothing of coroutines.

Stock Flask answers 500: it sees a `def` view that returns a coroutine. The decorator would have to
call `current_app.ensure_sync`, which most extensions do not.
"""

import os
from functools import wraps

import aiohttp
from flask import Flask, abort, g, make_response, request

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


def login_required(view):
    @wraps(view)
    def wrapper(*args, **kwargs):
        if request.authorization is None or request.authorization.token != "secret":
            abort(401)
        g.login = "ada"
        return view(*args, **kwargs)

    return wrapper


def no_store(view):
    """Change the view's response, so that the view is not called as the last thing done."""

    @wraps(view)
    def wrapper(*args, **kwargs):
        response = make_response(view(*args, **kwargs))
        response.headers["Cache-Control"] = "no-store"
        return response

    return wrapper


async def fetch_user(number):
    async with (
        aiohttp.ClientSession(UPSTREAM_URL) as session,
        session.get(f"/users/{number}") as response,
    ):
        return {**await response.json(), "login": g.login}


@app.get("/users/<int:number>")
@login_required
async def user(number):
    return await fetch_user(number)


@app.get("/private/<int:number>")
@no_store
@login_required
async def private_user(number):
    return await fetch_user(number)


@app.get("/ping")
async def ping():
    return "pong"
