"""Clients that go at any time leave nothing behind, and each request that began is torn down."""

import asyncio
import contextlib
import json
import random
import socket
import struct

import pytest
from support.server_process import ServerProcess
from support.waiting import eventually

pytestmark = pytest.mark.slow

REQUESTS = 10_000
AT_ONCE = 100

APP = """
    import asyncio, functools, gc, os, threading, weakref
    from flask import Flask, Response, current_app, g, request

    app = Flask(__name__)
    pushed = weakref.WeakSet()
    counts = {"begun": 0, "torn down": 0, "bodies": 0, "bodies closed": 0}
    lock = threading.Lock()

    def count(name):
        with lock:
            counts[name] += 1

    @app.before_request
    def before():
        if request.path == "/state":
            return
        count("begun")
        g.marker = Marker()
        pushed.add(g.marker)

    @app.teardown_request
    def teardown(error):
        if request.path != "/state":
            count("torn down")

    class Marker:
        pass

    class Body:
        def __init__(self):
            count("bodies")

        def __iter__(self):
            return iter([b"x" * 8192] * 20)

        def close(self):
            count("bodies closed")

    def decorated(view):
        @functools.wraps(view)
        def wrapper():
            return current_app.ensure_sync(view)()
        return wrapper

    @app.post("/async")
    async def async_view():
        await asyncio.sleep(0.002)
        return str(len(request.get_data()))

    @app.post("/decorated")
    @decorated
    async def decorated_view():
        await asyncio.sleep(0.002)
        return str(len(request.get_data()))

    @app.post("/sync")
    def sync_view():
        return str(len(request.get_data()))

    @app.post("/stream")
    def stream():
        return Response(Body())

    @app.post("/async-stream")
    async def async_stream():
        async def parts():
            for _ in range(20):
                yield b"x" * 8192
                await asyncio.sleep(0)
        return parts()

    @app.get("/state")
    async def state():
        gc.collect()
        return {
            **counts,
            "contexts": len(pushed),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }
"""

BARE_APP = """
    import asyncio, gc, os, threading, weakref
    from flask import Flask, g, request

    app = Flask(__name__)
    pushed = weakref.WeakSet()

    class Marker:
        pass

    @app.post("/async")
    async def async_view():
        g.marker = Marker()
        pushed.add(g.marker)
        await asyncio.sleep(0.002)
        return str(len(request.get_data()))

    @app.post("/async-stream")
    async def async_stream():
        async def parts():
            for _ in range(20):
                yield b"x" * 8192
                await asyncio.sleep(0)
        return parts()

    @app.get("/state")
    async def state():
        gc.collect()
        return {
            "contexts": len(pushed),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }
"""


def state_of(server: ServerProcess) -> dict[str, int]:
    return json.loads(server.get("/state").body)


async def disturb(address: tuple[str, int], target: str, chance: random.Random) -> None:
    """Make one request and go somewhere on its way, or not at all."""
    body = b"x" * chance.choice([0, 10, 5_000, 200_000])
    head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    whole = head + body
    stage = chance.choice(["sending the head", "sending", "waiting", "reading", "nowhere"])
    reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        if stage == "sending the head":
            writer.write(whole[: chance.randrange(len(head))])
        elif stage == "sending":
            writer.write(whole[: chance.randrange(len(head), len(whole) + 1)])
        else:
            writer.write(whole)
            if stage == "waiting":
                await asyncio.sleep(chance.random() * 0.004)
            else:
                await reader.readuntil(b"\r\n\r\n")
                if stage == "reading":
                    await reader.read(chance.randrange(1, 20_000))
                elif "stream" in target:
                    await reader.readuntil(b"\r\n0\r\n\r\n")
    if chance.random() < 0.5:
        # A reset instead of an orderly end.
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def disturb_often(address: tuple[str, int], targets: list[str], requests: int) -> None:
    chance = random.Random(20)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with limit:
            await asyncio.wait_for(disturb(address, chance.choice(targets), chance), 20)

    await asyncio.gather(*(one() for _ in range(requests)))


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        (APP, ["/async", "/decorated", "/sync", "/stream", "/async-stream"]),
        (BARE_APP, ["/async", "/async-stream"]),
    ],
    ids=["with hooks", "on the loop"],
)
def test_nothing_is_left_of_requests_whose_client_went(
    serve, source: str, targets: list[str]
) -> None:
    server: ServerProcess = serve(source, "--threads", "20")
    # What is made once is there before the count.
    asyncio.run(disturb_often(server.address, targets, 300))
    settle(server)
    before = state_of(server)

    asyncio.run(disturb_often(server.address, targets, REQUESTS))
    after = settle(server)

    assert after["tasks"] == before["tasks"]
    assert after["contexts"] == 0
    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["threads"] <= 20 + 4
    if "begun" in after:
        assert after["begun"] > before["begun"] + REQUESTS // 4
        assert after["torn down"] == after["begun"]
        assert after["bodies closed"] == after["bodies"] > REQUESTS // 20
    server.send_signal(15)
    assert server.wait() == 0
    # Clients that go are nothing to report.
    assert "Traceback" not in server.output, server.output[-3000:]
    assert "never retrieved" not in server.output


def settle(server: ServerProcess) -> dict[str, int]:
    """Wait until requests that go on without their client have ended."""
    states: list[dict[str, int]] = []

    def is_settled() -> bool:
        states.append(state_of(server))
        now = states[-1]
        return now.get("begun") == now.get("torn down") and now["contexts"] == 0

    with contextlib.suppress(AssertionError):
        eventually(is_settled, timeout=20)
    return states[-1]
