"""httpx, websockets, uvicorn and hypercorn on carboy's loop."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import websockets
from flask import Flask, Response, request
from libraries import library
from support.server_process import ServerProcess

import carboy
from carboy.testing import LiveServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

APPLICATION = '''
import asyncio
import json


async def app(scope, receive, send):
    """Echoes, and says which loop it runs on."""
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"].upper()})
        return
    length = 0
    while True:
        event = await receive()
        length += len(event.get("body", b""))
        if not event.get("more_body"):
            break
    kind = type(asyncio.get_running_loop())
    answer = {"loop": f"{kind.__module__}.{kind.__name__}", "length": length}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
'''

TIMEOUT_SECONDS = 60

LOOP_NAME = "carboy.event_loop.EventLoop"


def load_application() -> Any:
    namespace: dict[str, Any] = {}
    exec(APPLICATION, namespace)
    return namespace["app"]


def test_httpx_calls_streams_and_times_out() -> None:
    app = Flask(__name__)

    @app.post("/echo")
    def echo() -> Response:
        return Response(request.get_data())

    @app.get("/stream")
    def stream() -> Response:
        return Response(b"x" * 1000 for _ in range(1000))

    released = asyncio.Event()

    @app.get("/late")
    async def late() -> str:
        await released.wait()
        return "too late"

    @app.post("/release")
    async def release() -> str:
        released.set()
        return "released"

    async def main(address: str) -> None:
        assert type(asyncio.get_running_loop()) is carboy.EventLoop
        async with httpx.AsyncClient(base_url=address) as client:
            bodies = [str(number).encode() * 1000 for number in range(50)]
            answers = await asyncio.gather(*(client.post("/echo", content=b) for b in bodies))
            assert [answer.content for answer in answers] == bodies
            async with client.stream("GET", "/stream") as answer:
                pieces = [piece async for piece in answer.aiter_bytes()]
            assert sum(map(len, pieces)) == 1_000_000
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/late", timeout=0.1)
            # The view goes on without its client, and the server waits for it.
            assert (await client.post("/release")).text == "released"

    with LiveServer(app) as server:
        carboy.run(asyncio.wait_for(main(f"http://{server.host}:{server.port}"), TIMEOUT_SECONDS))


def test_websockets_echo_broadcast_and_close() -> None:
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        assert type(asyncio.get_running_loop()) is carboy.EventLoop
        async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            address = f"ws://127.0.0.1:{port}"

            async def talk(name: str) -> None:
                async with websockets.connect(address, max_size=None) as connection:
                    for number in range(20):
                        await connection.send(f"{name} {number}")
                        assert await connection.recv() == f"{name} {number}"
                    large = bytes(3_000_000)
                    await connection.send(large)
                    assert await connection.recv() == large
                    await (await connection.ping())
                assert connection.close_code == 1000

            await asyncio.gather(*(talk(f"client {number}") for number in range(10)))
            async with websockets.connect(address) as connection:
                websockets.broadcast(server.connections, "to all")
                assert await connection.recv() == "to all"
                server.close()
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await connection.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1001

    carboy.run(asyncio.wait_for(main(), TIMEOUT_SECONDS))


def post(port: int, body: bytes) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/", body)
        answer = json.loads(connection.getresponse().read())
        assert isinstance(answer, dict)
        return answer
    finally:
        connection.close()


def test_uvicorn_serves_with_the_loop_that_its_option_names(tmp_path: Path) -> None:
    library("uvicorn")
    (tmp_path / "application.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "uvicorn", "application:app", "--port", "0"]
    command += ["--loop", "carboy:new_event_loop"]
    server = ServerProcess(tmp_path, command=command)
    try:
        port = int(server.wait_for_line(r"running on http://127\.0\.0\.1:(\d+)")[1])
        assert post(port, b"x" * 1_000_000) == {"loop": LOOP_NAME, "length": 1_000_000}

        async def shout() -> str:
            async with websockets.connect(f"ws://127.0.0.1:{port}/") as connection:
                await connection.send("hello")
                return str(await connection.recv())

        assert asyncio.run(shout()) == "HELLO"
    finally:
        # Raises if it does not stop by SIGTERM.
        server.__exit__()
    assert "Application shutdown complete" in server.output
    assert "Traceback" not in server.output


def test_hypercorn_serves_on_the_loop_that_it_is_called_on() -> None:
    hypercorn = library("hypercorn.asyncio")
    settings = library("hypercorn.config")

    async def main() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        config = settings.Config()
        config.bind = [f"fd://{listening.detach()}"]
        stop = asyncio.Event()
        serving = asyncio.create_task(
            hypercorn.serve(load_application(), config, shutdown_trigger=stop.wait)
        )
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answers = await asyncio.gather(
                *(client.post("/", content=b"x" * length) for length in range(0, 100_000, 5_000))
            )
            expected = [
                {"loop": LOOP_NAME, "length": length} for length in range(0, 100_000, 5_000)
            ]
            assert [answer.json() for answer in answers] == expected
        stop.set()
        await serving

    carboy.run(asyncio.wait_for(main(), TIMEOUT_SECONDS))
