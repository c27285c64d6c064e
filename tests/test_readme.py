"""The example of the README does what the README says."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import httpx

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


def test_example_fetches_two_at_once_and_a_third_after_them() -> None:
    source = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert source is not None
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(source[1], str(README), "exec"), names)
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
