"""Clients that go at any time leave nothing behind, and each request that began is torn down."""

import asyncio
import contextlib
import json
import random
import socket
import struct

import pytest
from support.server_process import ServerProcess
from support.upstream import Upstream, UpstreamCall
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


CALLS_APP = """
    import gc, os, threading, weakref
    from flask import Flask, g, request
    from carboy import ClientDisconnected, Promise, http
    from carboy._carboy import find_request_scope

    app = Flask(__name__)
    service = http.Session(base_url=os.environ["UPSTREAM"])
    markers = weakref.WeakSet()
    scopes = weakref.WeakSet()
    counts = {"begun": 0, "torn down": 0, "given up": 0}
    lock = threading.Lock()

    class Marker:
        pass

    def count(name):
        with lock:
            counts[name] += 1

    def begin():
        g.marker = Marker()
        markers.add(g.marker)
        first = service.get("/first")
        scopes.add(find_request_scope())
        return Promise.all(first, first.then(lambda response: service.get("/second")))

    @app.get("/sync")
    def sync_view():
        count("begun")
        try:
            return begin().result()[0].text
        except ClientDisconnected:
            count("given up")
            raise
        finally:
            count("torn down")

    @app.get("/async")
    async def async_view():
        count("begun")
        try:
            return (await begin())[0].text
        except ClientDisconnected:
            count("given up")
            raise
        finally:
            count("torn down")

    @app.get("/state")
    async def state():
        import asyncio
        gc.collect()
        return {
            **counts,
            "contexts": len(markers),
            "scopes": len(scopes),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "connections": (await service.statistics())[0],
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


async def leave_during_calls(address: tuple[str, int], requests: int) -> None:
    chance = random.Random(20)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with limit:
            reader, writer = await asyncio.open_connection(*address)
            target = chance.choice(["/sync", "/async"])
            writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            if chance.random() < 0.2:
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            else:
                await asyncio.sleep(chance.random() * 0.01)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(requests)))


def test_nothing_is_left_of_calls_whose_client_went(serve, monkeypatch) -> None:
    """Neither here nor at the service that is called."""

    def answer_later(call: UpstreamCall) -> None:
        asyncio.get_running_loop().call_later(0.005, call.answer)

    with Upstream(answer_later) as upstream:
        monkeypatch.setenv("UPSTREAM", upstream.url)
        server: ServerProcess = serve(CALLS_APP, "--threads", "20")
        asyncio.run(leave_during_calls(server.address, 300))
        before = settle(server)
        asyncio.run(leave_during_calls(server.address, 5_000))
        after = settle(server)
        eventually(
            lambda: upstream.connections == state_of(server)["connections"],
            what="the service has no connections but those of the pool",
        )
    assert after["begun"] > before["begun"] + 1_000
    assert after["torn down"] == after["begun"]
    assert after["given up"] > before["given up"] + 500
    assert after["contexts"] == 0
    assert after["scopes"] <= 1
    assert after["tasks"] == before["tasks"]
    assert after["threads"] <= 20 + 4
    assert after["descriptors"] <= before["descriptors"] + AT_ONCE
    server.send_signal(15)
    assert server.wait() == 0
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
