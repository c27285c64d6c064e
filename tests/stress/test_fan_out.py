"""A thousand requests at once, each of which waits for four calls that depend on each other."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.async_http import fetch_text
from support.upstream import Upstream

if TYPE_CHECKING:
    from support.server_process import ServerProcess
    from support.upstream import UpstreamCall

pytestmark = pytest.mark.slow

REQUESTS = 1000

APP = """
    import os, threading
    from flask import Flask
    from carboy import Promise, http

    app = Flask(__name__)
    service = http.Session(
        base_url=os.environ["UPSTREAM"],
        limits=http.Limits(connections=4096, connections_per_host=4096),
        timeout=60,
    )

    def fetch(name, *values):
        return service.get(f"/{name}").then(lambda response: response.text)

    def fan_out():
        a = fetch("a")
        b = fetch("b")
        c = a.then(lambda value: fetch("c", value))
        return b, c, Promise.all(b, c).then(lambda values: fetch("d", *values))

    @app.get("/result")
    def with_result():
        b, c, d = fan_out()
        return {"d": d.result(), "b": b.result(), "c": c.result()}

    @app.get("/returned")
    def returned():
        b, c, d = fan_out()
        return {"d": d, "b": b, "c": c}

    @app.get("/awaited")
    async def awaited():
        b, c, d = fan_out()
        return {"d": await d, "b": await b, "c": await c}
"""


class Gate:
    """Answers the first calls of all requests only once they have all come."""

    def __init__(self) -> None:
        self._held: list[UpstreamCall] = []
        self.threads = 0
        self.resident_kilobytes = 0
        self.pid = 0

    def __call__(self, call: UpstreamCall) -> None:
        name = call.target.removeprefix("/")
        if name in "ab":
            self._held.append(call)
            if len(self._held) < 2 * REQUESTS:
                return
            self._look_at_server()
            for held in self._held:
                held.answer(held.target.removeprefix("/").encode())
        else:
            call.answer(name.encode())

    def _look_at_server(self) -> None:
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        self.threads = int(fields["Threads"])
        self.resident_kilobytes = int(fields["VmRSS"].split()[0])


@pytest.mark.parametrize("target", ["/result", "/returned", "/awaited"])
def test_1000_requests_wait_without_1000_threads(
    serve, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    with Upstream(gate) as upstream:
        # What starts with CARBOY_ is not passed on.
        monkeypatch.setenv("UPSTREAM", upstream.url)
        server: ServerProcess = serve(APP)
        gate.pid = server.pid

        async def main() -> list[str]:
            requests = [fetch_text(server.address, target) for _ in range(REQUESTS)]
            return await asyncio.wait_for(asyncio.gather(*requests), 60)

        answers = asyncio.run(main())
    assert [json.loads(answer) for answer in answers] == [{"b": "b", "c": "c", "d": "d"}] * REQUESTS
    # Worker threads up to the limit of 200; a view on the loop needs none.
    assert gate.threads <= (10 if target == "/awaited" else 210)
    assert gate.resident_kilobytes < 400_000
    assert threading.active_count() < 10
