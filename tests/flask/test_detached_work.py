"""Detached work of a request whose client goes."""

from __future__ import annotations

import asyncio
from typing import Any

from flask import Flask
from support.live import Live
from support.upstream import Upstream
from support.waiting import eventually

from carboy import http


def test_a_view_that_waits_for_detached_work_is_cancelled_and_the_work_goes_on() -> None:
    app = Flask(__name__)
    app.config["CARBOY_CANCEL_GRACE"] = 0.05
    ended: list[Any] = []

    @app.get("/")
    async def view() -> Any:
        audit = http.get(upstream.url).then(lambda response: ended.append(response.text))
        try:
            return await audit.detach("the audit")
        except asyncio.CancelledError:
            ended.append("view")
            raise

    with Upstream() as upstream, Live(app) as live:
        client = live.connect()
        client.begin("GET", "/")
        call = upstream.next_call()
        client.close()
        eventually(lambda: ended == ["view"], what="the view was cancelled")
        call.answer(b"audited")
        eventually(lambda: ended == ["view", "audited"], what="the work is done")
