"""The examples of the README do what the README says."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import urllib.request
from pathlib import Path
from typing import Any

import httpx
from flask import Flask, request

from carboy.testing import LiveServer

README = Path(__file__).resolve().parent.parent / "README.md"


class Services:
    """Answers as the services of the example would, and sees which calls overlap."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._both_have_come = asyncio.Event()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.calls.append(path)
        if path == "/beers":
            return httpx.Response(200, json=[f"a {request.url.params['taste']} one"])
        if len(self.calls) == 2:
            self._both_have_come.set()
        # Fails if the second call waits for the answer to the first.
        await asyncio.wait_for(self._both_have_come.wait(), 10)
        return httpx.Response(200, json={"taste": "hoppy"} if "profiles" in path else [1, 2])


def get(url: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as response:
        return json.load(response)


def run_example(index: int, **names: Any) -> dict[str, Any]:
    """Run the example with this number, which knows these names, and return all that it knows."""
    sources = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    known = {"__name__": "readme", **names}
    exec(compile(sources[index], str(README), "exec"), known)
    return known


def test_example_fetches_two_at_once_and_a_third_after_them() -> None:
    names = run_example(0)
    for _ in range(2):
        services = Services()
        # The client is made at import in the example, too, and outlives each request.
        transport = httpx.MockTransport(services.answer)
        address = names["services"].base_url
        names["services"] = httpx.AsyncClient(transport=transport, base_url=address)
        with LiveServer(names["app"]) as server:
            answers = [get(f"{server.url}/dashboard/ada") for _ in range(2)]
        expected = {"profile": {"taste": "hoppy"}, "orders": [1, 2], "beers": ["a hoppy one"]}
        assert answers == [expected, expected]
        assert sorted(services.calls[:2]) == ["/orders", "/profiles/ada"]
        assert services.calls[2] == "/beers"


def test_example_of_promises_does_so_in_a_def_view() -> None:
    services = Flask("services")
    both_have_come = threading.Barrier(2, timeout=10)
    calls = []

    @services.before_request
    def note() -> None:
        calls.append(request.path)
        if request.path != "/beers":
            both_have_come.wait()

    @services.get("/profiles/<user>")
    def profile(user: str) -> Any:
        return {"taste": "hoppy", "user": user}

    @services.get("/orders")
    def orders() -> Any:
        return [request.args["user"], 1, 2]

    @services.get("/beers")
    def beers() -> Any:
        return [f"a {request.args['taste']} one"]

    names = run_example(1, app=Flask("readme"))
    with LiveServer(services) as upstream, LiveServer(names["app"]) as server:
        names["services"].base_url = upstream.url
        answers = [get(f"{server.url}/dashboard/ada") for _ in range(2)]
    expected = {
        "profile": {"taste": "hoppy", "user": "ada"},
        "orders": ["ada", 1, 2],
        "beers": ["a hoppy one"],
    }
    assert answers == [expected, expected]
    assert calls[2] == calls[5] == "/beers"
