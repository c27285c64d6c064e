"""SIGTERM under load loses no request that was accepted.

A request counts as accepted when its connection was established (`connect` succeeded) and
its bytes were sent whole without an error. Then the client must get

* a whole answer with the status 200; or
* on a connection that had already carried an answer (keep-alive), the end of the
  connection before any byte of an answer: HTTP/1.1 lets a server close an idle connection
  at any time (RFC 9112 section 9.5), and a client must then try again.

The first request of a connection has no such excuse: it must be answered. Anything else, a
part of an answer, another status, a reset instead of an answer, is a loss. Besides, the
application counts the requests that reached a view: each of them must have been answered,
on whatever connection it came.
"""

import asyncio
import signal
from collections import Counter

import pytest
from support.server_process import ServerProcess

pytestmark = pytest.mark.slow

APP = """
    import asyncio, atexit, itertools, time
    from flask import Flask, Response, request

    app = Flask(__name__)
    begun = itertools.count()
    atexit.register(lambda: print("begun", next(begun), flush=True))

    @app.get("/async")
    async def async_view():
        next(begun)
        await asyncio.sleep(0.003)
        return "answer"

    @app.get("/fast")
    async def fast():
        next(begun)
        return "answer"

    @app.get("/sync")
    def sync_view():
        next(begun)
        time.sleep(0.003)
        return "answer"

    @app.get("/stream")
    def stream():
        next(begun)
        def parts():
            for part in ("an", "sw", "er"):
                time.sleep(0.001)
                yield part
        return Response(parts())

    @app.post("/upload")
    def upload():
        next(begun)
        return "answer" if len(request.get_data()) == 20_000 else "wrong"
"""

REQUESTS = {
    target: f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    for target in ("/async", "/fast", "/sync", "/stream")
}
REQUESTS["/upload"] = (
    b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000
)

CLIENTS = 24


async def read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """Read one answer, and whether the connection ends with it; nothing if it ended before."""
    first = await reader.read(1)
    if not first:
        return b"", True
    head = first + await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0].startswith("http/1.1 200"), lines[0]
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    is_last = headers.get("connection") == "close"
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"])), is_last
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body, is_last


async def client(
    address: tuple[str, int], target: str, keeps_alive: bool, counts: Counter[str]
) -> None:
    """Make requests until the server takes no more, and count what came of each."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(*address)
        except OSError:
            return
        earlier_answers = 0
        try:
            while True:
                writer.write(REQUESTS[target])
                try:
                    await writer.drain()
                except ConnectionError:
                    counts["not sent"] += 1
                    break
                counts["accepted"] += 1
                try:
                    body, is_last = await asyncio.wait_for(read_answer(reader), 20)
                except (ConnectionError, asyncio.IncompleteReadError, AssertionError) as error:
                    reset_when_idle = isinstance(error, ConnectionError) and earlier_answers
                    counts["closed when idle" if reset_when_idle else f"lost: {error!r}"] += 1
                    break
                if not body:
                    counts["closed when idle" if earlier_answers else "lost: no answer"] += 1
                    break
                counts["answered" if body == b"answer" else f"lost: {body!r}"] += 1
                earlier_answers += 1
                if is_last or not keeps_alive:
                    break
        finally:
            writer.close()


async def load(server: ServerProcess, delay: float) -> Counter[str]:
    counts: Counter[str] = Counter()
    targets = list(REQUESTS)
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            target = targets[number % len(targets)]
            clients.create_task(client(server.address, target, number % 2 == 0, counts))
        while counts["answered"] < CLIENTS:
            await asyncio.sleep(0.001)
        await asyncio.sleep(delay)
        server.send_signal(signal.SIGTERM)
    return counts


@pytest.mark.parametrize("part", range(10))
def test_sigterm_under_load_loses_nothing(serve, part: int) -> None:
    """Ten stops each, so that a hundred in a row are judged and a failure names its place."""
    for number in range(10):
        server: ServerProcess = serve(APP)
        counts = asyncio.run(load(server, delay=0.003 * number))

        lost = {name: count for name, count in counts.items() if name.startswith("lost")}
        assert lost == {}, f"stop {part * 10 + number + 1}: {dict(counts)}"
        settled = counts["answered"] + counts["closed when idle"]
        assert settled == counts["accepted"], dict(counts)
        assert server.wait() == 0, server.output[-2000:]
        assert "Traceback" not in server.output, server.output[-2000:]
        begun = int(server.wait_for_line(r"begun (\d+)")[1])
        assert begun == counts["answered"], dict(counts)
