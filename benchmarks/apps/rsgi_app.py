"""A bare RSGI app: granian's fastest interface, with no framework in between.

RSGI has coroutines only, so there is no sync hello here. Path and query are taken
apart by hand, as somebody who writes without a framework would do it.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import aiohttp

if TYPE_CHECKING:
    from granian.rsgi import HTTPProtocol, Scope

UPSTREAM = os.environ["UPSTREAM"]
NAMES = ("a", "b", "c")
HTML = [("content-type", "text/html; charset=utf-8")]
JSON = [("content-type", "application/json")]


class Application:
    def __init__(self) -> None:
        self.session: aiohttp.ClientSession | None = None

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        path = scope.path
        if path == "/hello":
            protocol.response_str(200, HTML, "Hello, World!")
        elif path.startswith("/user/"):
            query = parse_qs(scope.query_string)
            user = {"id": int(path.removeprefix("/user/")), "q": query.get("q", [None])[0]}
            protocol.response_str(200, JSON, json.dumps(user))
        elif path == "/fan-out":
            protocol.response_str(200, JSON, json.dumps(await self.fan_out()))
        else:
            protocol.response_empty(404, [])

    async def fan_out(self) -> dict[str, Any]:
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return {"names": await asyncio.gather(*map(self.fetch, NAMES))}

    async def fetch(self, name: str) -> str:
        assert self.session is not None
        async with self.session.get(f"{UPSTREAM}/{name}") as response:
            return (await response.json())["name"]


app = Application()
