"""The server's counters: each request is counted once, by the way that it took."""

import asyncio
import threading

from flask import Flask, request
from support.live import Live
from support.waiting import eventually


def make_app() -> Flask:
    app = Flask(__name__)

    @app.route("/async", methods=["GET", "POST"])
    async def async_view() -> str:
        await asyncio.sleep(0)
        return str(len(request.get_data()))

    @app.get("/sync")
    def sync_view() -> str:
        return "sync"

    return app


def test_each_request_is_counted_by_the_way_it_took() -> None:
    with Live(make_app()) as live:
        for target in ("/async", "/sync", "/none", "/async", "/static/none"):
            live.get(target)

        assert live.paths_taken() == {"loop": 2, "sync_view": 2, "not_matched": 1}
        assert live.statistics()["served_requests"] == 5


def test_requests_that_start_on_a_worker_because_of_their_body_are_counted_there() -> None:
    with Live(make_app()) as live:
        assert live.post("/async", b"small").text == "5"
        assert live.paths_taken() == {"loop": 1}

        assert live.post("/async", b"x" * 3_000_000).text == "3000000"
        with live.connect() as connection:
            connection.send(
                b"POST /async HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            assert connection.read_head().status == 100
            connection.send(b"large")
            assert connection.read_response().text == "5"

        paths = live.paths_taken()
        assert paths.pop("loop") == 1
        assert sum(paths.values()) == 2


def test_a_request_to_upgrade_is_counted() -> None:
    with Live(make_app()) as live:
        live.get("/sync", [("Connection", "Upgrade"), ("Upgrade", "websocket")])

        assert sum(live.paths_taken().values()) == 1


def test_connections_and_requests_in_progress() -> None:
    go_on = threading.Event()
    app = Flask(__name__)

    @app.get("/")
    def view() -> str:
        assert go_on.wait(10)
        return "waited"

    with Live(app) as live, live.connect() as first, live.connect():
        first.begin("GET", "/")
        eventually(lambda: live.statistics()["in_flight_requests"] == 1)
        eventually(lambda: live.statistics()["open_connections"] == 2)
        eventually(lambda: live.statistics()["worker_threads"] >= 1)
        go_on.set()
        assert first.read_response().text == "waited"
        eventually(lambda: live.statistics()["in_flight_requests"] == 0)


def test_a_thread_is_not_shared_when_that_is_ruled_out() -> None:
    app = Flask(__name__)
    at_once = 0
    most_at_once = 0

    @app.before_request
    def before() -> None:
        nonlocal at_once, most_at_once
        at_once += 1
        most_at_once = max(most_at_once, at_once)

    @app.get("/")
    async def view() -> str:
        await asyncio.sleep(0.02)
        return "view"

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        nonlocal at_once
        at_once -= 1

    def serve(*, share_threads: bool) -> int:
        nonlocal most_at_once
        most_at_once = 0
        with Live(app, threads=1, share_threads=share_threads) as live:
            connections = [live.connect() for _ in range(5)]
            for connection in connections:
                connection.begin("GET", "/")
            for connection in connections:
                assert connection.read_response().text == "view"
                connection.close()
        return most_at_once

    assert serve(share_threads=False) == 1
    assert serve(share_threads=True) > 1
