"""The views that `calls/fan_out.py` and `calls/cancellation.py` measure.

The dependent fan-out is written in three ways: A and B together, C after A, D after B and C. Each
call takes 20 ms, so that nothing is faster than 60 ms.
"""

from __future__ import annotations

import gc
import os
from typing import Any

from flask import Flask

from carboy import Promise, http

app = Flask(__name__)
service = http.Session(
    base_url=os.environ.get("UPSTREAM", ""),
    limits=http.Limits(connections=8192, connections_per_host=8192),
)
if "WITHOUT_COLLECTOR" in os.environ:
    # Whether one collection of all objects falls into a run is a matter of luck.
    gc.disable()
DELAY_MS = int(os.environ.get("DELAY_MS", "20"))


def fetch(name: str) -> Promise[str]:
    """Begin a call of the service."""
    return service.get(f"/{name}?{DELAY_MS}").then(lambda response: response.json()["name"])


def fan_out() -> dict[str, Promise[str]]:
    """Begin the calls."""
    a, b = fetch("a"), fetch("b")
    c = a.then(lambda _: fetch("c"))
    return {"b": b, "c": c, "d": Promise.all(b, c).then(lambda _: fetch("d"))}


@app.get("/result")
def with_result() -> dict[str, str]:
    """Wait on a worker's thread."""
    return {name: promise.result() for name, promise in fan_out().items()}


@app.get("/returned")
def returned() -> Any:
    """Let carboy wait."""
    return fan_out()


@app.get("/awaited")
async def awaited() -> dict[str, str]:
    """Wait on the loop."""
    return await Promise.all(fan_out())


@app.get("/three")
async def three() -> Any:
    """Make three calls that do not depend on each other."""
    return {"names": await Promise.all([fetch(name) for name in "abc"])}


@app.get("/three-sync")
def three_sync() -> Any:
    """Do so in a `def` view."""
    return {"names": Promise.all([fetch(name) for name in "abc"]).result()}


@app.get("/none")
async def none() -> Any:
    """Answer as they do, without calls."""
    return {"names": ["a", "b", "c"]}


@app.get("/none-sync")
def none_sync() -> Any:
    """Do so in a `def` view."""
    return {"names": ["a", "b", "c"]}


@app.get("/hello")
def hello() -> str:
    """Make no call."""
    return "Hello, World!"


@app.get("/async-hello")
async def async_hello() -> str:
    """Make no call, on the loop."""
    return "Hello, World!"


@app.get("/hang")
def hang() -> str:
    """Make a call that is not answered before the client goes."""
    return service.get("/a?60000").result().text


@app.get("/async-hang")
async def async_hang() -> str:
    """Do so on the loop."""
    return (await service.get("/a?60000")).text
