"""`ThreadPoolExecutor` with requests: blocking calls at once, without asyncio.

Stock Flask serves it, with the view's worker thread and two more for each request.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import requests
from flask import Flask

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


def fetch(path):
    return requests.get(f"{UPSTREAM_URL}{path}", timeout=10).json()


@app.get("/users/<int:number>")
def page(number):
    with ThreadPoolExecutor(max_workers=2) as executor:
        user, team = executor.map(fetch, [f"/users/{number}", f"/teams/{number}"])
    return {"user": user, "team": team}


@app.get("/ping")
def ping():
    return "pong"
