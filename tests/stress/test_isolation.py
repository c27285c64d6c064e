"""Many requests of all kinds at once: none sees anything of another."""

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from support.async_http import fetch_text

if TYPE_CHECKING:
    from support.server_process import ServerProcess

APP = """
    import asyncio, contextvars, functools, random, time
    from flask import Flask, Response, current_app, g, request, session, stream_with_context

    app = Flask(__name__)
    app.secret_key = "not a secret"
    variable = contextvars.ContextVar("variable")

    def check(where):
        number = request.args["n"]
        seen = {number, g.number, variable.get(), session["number"], request.path.split("/")[-1]}
        if len(seen) != 1:
            raise AssertionError(f"{where}: {seen}")
        return number

    def begin():
        assert "number" not in g and variable.get(None) is None and "number" not in session
        g.number = request.args["n"]
        variable.set(g.number)
        session["number"] = g.number

    app.before_request(begin)

    @app.teardown_request
    def teardown(error):
        check("teardown")

    def decorated(view):
        @functools.wraps(view)
        def wrapper(**arguments):
            check("decorator")
            result = current_app.ensure_sync(view)(**arguments)
            check("decorator after")
            return result
        return wrapper

    async def pause():
        await asyncio.sleep(random.random() * 0.003)

    @app.get("/async/<number>")
    async def async_view(number):
        check("view"); await pause(); return check("view")

    @app.get("/decorated/<number>")
    @decorated
    async def decorated_view(number):
        check("view"); await pause(); return check("view")

    @app.get("/sync/<number>")
    def sync_view(number):
        check("view"); time.sleep(random.random() * 0.003); return check("view")

    @app.get("/bridge/<number>")
    def bridge(number):
        return current_app.ensure_sync(async_view)(number)

    @app.get("/stream/<number>")
    def stream(number):
        @stream_with_context
        def parts():
            for part in check("stream"):
                time.sleep(0.0005)
                check("stream")
                yield part
        return Response(parts())

    @app.get("/fails/<number>")
    async def fails(number):
        await pause()
        raise ValueError(number)

    @app.errorhandler(ValueError)
    async def handle(error):
        await pause()
        assert str(error) == check("handler")
        return str(error)
"""

KINDS = ["async", "decorated", "sync", "bridge", "stream", "fails"]


@pytest.mark.parametrize("threads", [8, 200])
def test_each_request_sees_its_own(serve, threads: int) -> None:
    server: ServerProcess = serve(APP, "--threads", str(threads))
    chance = random.Random(7)
    limit = asyncio.Semaphore(100)

    async def one(number: int) -> str:
        async with limit:
            return await fetch_text(server.address, f"/{chance.choice(KINDS)}/{number}?n={number}")

    async def main() -> list[str]:
        return await asyncio.gather(*(one(number) for number in range(1500)))

    assert asyncio.run(main()) == [str(number) for number in range(1500)]
    assert "Traceback" not in server.output, server.output[-3000:]


BARE_APP = """
    import asyncio, contextvars, random
    from flask import Flask, g, request

    app = Flask(__name__)
    variable = contextvars.ContextVar("variable")

    @app.get("/<number>")
    async def view(number):
        assert "number" not in g and variable.get(None) is None
        g.number = number
        variable.set(number)
        for _ in range(3):
            await asyncio.sleep(random.random() * 0.002)
            seen = {g.number, variable.get(), request.args["n"], request.view_args["number"]}
            assert seen == {number}
        return number
"""


def test_each_request_on_the_loop_sees_its_own(serve) -> None:
    server: ServerProcess = serve(BARE_APP)
    limit = asyncio.Semaphore(200)

    async def one(number: int) -> str:
        async with limit:
            return await fetch_text(server.address, f"/{number}?n={number}")

    async def main() -> list[str]:
        return await asyncio.gather(*(one(number) for number in range(2000)))

    assert asyncio.run(main()) == [str(number) for number in range(2000)]
