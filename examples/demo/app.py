"""The demo's Flask app: eight views that fetch the same dashboard, and a page that compares them.

`flask --app app run` serves it too, but for the view that returns promises.
"""

import asyncio
import inspect
import time

import aiohttp
from flask import Flask, abort, render_template, request
from highlight import highlight
from services import CRITICAL_PATH_MS, SERVICES, SUM_MS
from views import (
    asyncio_run,
    carboy_async,
    carboy_def,
    carboy_returned,
    sequential,
    shared_aiohttp,
    shared_httpx,
    thread_pool,
)

VIEWS = (
    (sequential, "Plain requests", "def"),
    (thread_pool, "ThreadPoolExecutor", "def"),
    (asyncio_run, "asyncio.run in a view", "def"),
    (shared_aiohttp, "One aiohttp client", "async def"),
    (shared_httpx, "One httpx client", "async def"),
    (carboy_def, "carboy.http, results", "def"),
    (carboy_returned, "carboy.http, returned promises", "def"),
    (carboy_async, "carboy.http, awaited", "async def"),
)
CROWD_LIMIT = 50

app = Flask(__name__)
for module, _, _ in VIEWS:
    app.register_blueprint(module.blueprint)


@app.get("/")
def index():
    """Show the page on which the views are run and compared."""
    cards = [
        {
            "name": module.blueprint.name,
            "title": title,
            "kind": kind,
            "summary": inspect.getdoc(module),
            "source": highlight(inspect.getsource(module)),
        }
        for module, title, kind in VIEWS
    ]
    return render_template(
        "index.html",
        cards=cards,
        services=SERVICES,
        sum_ms=SUM_MS,
        critical_path_ms=CRITICAL_PATH_MS,
        server=request.environ.get("SERVER_SOFTWARE", ""),
    )


@app.get("/crowd/<name>")
async def crowd(name):
    """Send many visitors to one view at once, and return when each was answered.

    The page cannot do it itself: a browser opens at most six connections to a host.
    """
    if name not in app.blueprints:
        abort(404, f"There is no view named {name!r}.")
    visitors = request.args.get("visitors", default=20, type=int)
    if not 1 <= visitors <= CROWD_LIMIT:
        abort(400, f"`visitors` must be between 1 and {CROWD_LIMIT}.")
    url = f"http://127.0.0.1:{request.environ['SERVER_PORT']}/{name}/ada"
    started = time.perf_counter()

    async def visit(session):
        start_ms = (time.perf_counter() - started) * 1000
        async with session.get(url) as response:
            answer = await response.json()
        return {
            "start_ms": start_ms,
            "end_ms": (time.perf_counter() - started) * 1000,
            "threads": {call["thread"] for call in answer["calls"]},
        }

    # A client of its own, because stock Flask runs each async view in another event loop.
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        visits = await asyncio.gather(*(visit(session) for _ in range(visitors)))
    threads = set().union(*(visit.pop("threads") for visit in visits))
    return {"visits": visits, "threads": len(threads)}
