"""Calls of other libraries are in the timeline of the request that makes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import requests
from flask import Flask
from support.live import Live

from carboy import http

if TYPE_CHECKING:
    from compat_servers import Received, Upstream


def noted() -> str:
    """What the timeline has of this request."""
    calls = http.timeline()
    known = [
        [
            call.method,
            call.url.rpartition("/")[2],
            call.status_code,
            type(call.error).__name__,
            [before.url.rpartition("/")[2] for before in call.depends_on],
            call.ended is not None and call.ended >= call.began,
            [name for name, _, _ in call.phases if name in {"connect", "head"}],
        ]
        for call in calls
    ]
    return json.dumps(known)


def test_calls_are_noted_with_what_became_of_them(upstream: Upstream) -> None:
    def break_off(_: Received, __: Any) -> bool:
        return True

    upstream.answers["/broken"] = break_off
    app = Flask("views")
    app.debug = True

    @app.get("/sync")
    def by_requests_and_httpx() -> str:
        requests.post(f"{upstream.url}/a", data=iter([b"content"]))
        httpx.get(f"{upstream.url}/b", trust_env=False)
        try:
            httpx2.get(f"{upstream.url}/broken", trust_env=False)
        except httpx2.RemoteProtocolError:
            return noted()
        return "it was not broken"

    @app.get("/async")
    async def by_httpx_on_the_loop() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(f"{upstream.url}/c")
            await client.get(f"{upstream.url}/d")
        return noted()

    with Live(app) as live:
        assert json.loads(live.get("/sync").text) == [
            ["POST", "a", 200, "NoneType", [], True, ["connect", "head"]],
            ["GET", "b", 200, "NoneType", ["a"], True, ["connect", "head"]],
            ["GET", "broken", None, "RemoteProtocolError", ["b"], True, []],
        ]
        assert json.loads(live.get("/async").text) == [
            ["GET", "c", 200, "NoneType", [], True, ["connect", "head"]],
            ["GET", "d", 200, "NoneType", ["c"], True, ["head"]],
        ]


def test_nothing_is_noted_where_nobody_asks(upstream: Upstream) -> None:
    app = Flask("views")

    @app.get("/")
    def by_requests() -> str:
        requests.get(upstream.url)
        return noted()

    with Live(app) as live:
        assert json.loads(live.get("/").text) == []
