"""Libraries that take the connection over by the socket in the environ: websockets."""

import threading
from contextlib import ExitStack
from socket import SHUT_RDWR
from typing import Any

import pytest
from flask import Flask, Response, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from support.live import Live
from support.waiting import eventually
from websockets.exceptions import ConnectionClosed as ClientClosed
from websockets.sync.client import connect


def make_app(events: list[Any]) -> Flask:
    app = Flask(__name__)
    sock = Sock(app)

    @sock.route("/echo")
    def echo(ws: Server) -> None:
        try:
            while True:
                ws.send(ws.receive())
        except ConnectionClosed as closed:
            events.append(closed.reason)
            raise

    @sock.route("/count/<int:count>")
    def count(ws: Server, count: int) -> None:
        for number in range(count):
            ws.send(f"{request.path} {number}")

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        events.append(f"teardown {request.path}")

    return app


def url(live: Live, path: str) -> str:
    return f"ws://127.0.0.1:{live.address[1]}{path}"


def test_text_and_bytes_come_back() -> None:
    with Live(make_app([])) as live, connect(url(live, "/echo"), open_timeout=5) as client:
        for message in ("text é", b"\x00bytes", "x" * 200_000, ""):
            client.send(message)
            assert client.recv(5) == message


def test_the_server_may_close() -> None:
    events: list[Any] = []
    with Live(make_app(events)) as live:
        with connect(url(live, "/count/3"), open_timeout=5) as client:
            assert [client.recv(5) for _ in range(3)] == [f"/count/3 {n}" for n in range(3)]
            with pytest.raises(ClientClosed):
                client.recv(5)
        eventually(lambda: "teardown /count/3" in events)


def test_the_view_learns_that_the_client_has_closed() -> None:
    events: list[Any] = []
    with Live(make_app(events)) as live:
        with connect(url(live, "/echo"), open_timeout=5) as client:
            client.send("one")
            assert client.recv(5) == "one"
        eventually(lambda: "teardown /echo" in events)

    assert events[0] == 1000


def test_the_view_learns_that_the_client_has_gone() -> None:
    events: list[Any] = []
    with Live(make_app(events)) as live:
        with connect(url(live, "/echo"), open_timeout=5) as client:
            client.send("one")
            assert client.recv(5) == "one"
            client.socket.shutdown(SHUT_RDWR)
        eventually(lambda: "teardown /echo" in events)


def test_many_connections_and_ordinary_requests_at_once() -> None:
    with Live(make_app([])) as live, ExitStack() as stack:
        clients = [
            stack.enter_context(connect(url(live, "/echo"), open_timeout=5)) for _ in range(10)
        ]
        for number, client in enumerate(clients):
            client.send(str(number))
        assert live.get("/plain").text == "plain"
        assert [client.recv(5) for client in clients] == [str(n) for n in range(10)]


def test_messages_in_both_directions_at_once() -> None:
    with Live(make_app([])) as live, connect(url(live, "/echo"), open_timeout=5) as client:
        count = 500
        sender = threading.Thread(target=lambda: [client.send(str(n)) for n in range(count)])
        sender.start()
        received = [client.recv(5) for _ in range(count)]
        sender.join()

    assert received == [str(n) for n in range(count)]


UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


@pytest.mark.parametrize("target", ["/plain", "/nowhere"])
def test_an_upgrade_that_nobody_takes_is_an_ordinary_request(target: str) -> None:
    with Live(make_app([])) as live, live.connect() as connection:
        first = connection.request("GET", target, UPGRADE)
        second = connection.request("GET", "/plain")

    assert first.status in (200, 400, 404)
    assert (second.status, second.text) == (200, "plain")


def test_a_websocket_route_without_an_upgrade_is_a_400() -> None:
    with Live(make_app([])) as live:
        assert live.get("/echo").status == 400


def test_the_socket_in_the_environ_is_one_of_a_takeover() -> None:
    app = Flask(__name__)

    @app.get("/")
    @app.get("/", endpoint="upgraded", websocket=True)
    def view() -> Response:
        socket = request.environ.get("werkzeug.socket")
        return Response(str(socket is not None))

    with Live(app) as live:
        assert live.get("/").text == "False"
        assert live.get("/", UPGRADE).text == "True"
