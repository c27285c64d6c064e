"""A stop while something is left that has no client any more, or never ends."""

import signal
from contextlib import ExitStack

import pytest
from simple_websocket import Client, ConnectionClosed
from support.server_process import ServerProcess

APP = """
    import asyncio, pathlib, threading, time
    import carboy.server
    from flask import Flask, Response
    from flask_sock import Sock

    # Background tasks get no time here: what is finished is finished by the stop itself.
    carboy.server.BACKGROUND_TASKS_TIMEOUT = 0

    app = Flask(__name__)
    sock = Sock(app)
    here = pathlib.Path(__file__).parent

    @app.get("/async")
    async def async_view():
        print("begun", flush=True)
        while not (here / "stopping").exists():
            await asyncio.sleep(0.01)
        for _ in range(10):
            await asyncio.sleep(0.01)
        (here / "finished").write_text("finished")
        return "finished"

    @app.get("/fails")
    async def fails():
        await async_view()
        raise ValueError("handled")

    @app.errorhandler(ValueError)
    def handle(error):
        (here / "handled").write_text(threading.current_thread().name)
        return "handled"

    @app.get("/close")
    def close():
        response = Response("answered")
        def work():
            print("begun", flush=True)
            # Longer than a server without connections needs for its end.
            time.sleep(1)
            (here / "finished").write_text("finished")
        response.call_on_close(work)
        return response

    @app.get("/never")
    def never():
        print("begun", flush=True)
        try:
            while True:
                time.sleep(0.01)
        finally:
            print("never printed", flush=True)

    @app.get("/never-native")
    def never_native():
        print("begun", flush=True)
        threading.Event().wait()

    @sock.route("/talk")
    def talk(ws):
        print("begun", flush=True)
        try:
            while True:
                ws.send(ws.receive())
        finally:
            print("talk has ended", flush=True)
"""


@pytest.mark.parametrize("target", ["/async", "/fails"])
def test_a_view_whose_client_has_gone_is_finished(serve, tmp_path, target: str) -> None:
    server: ServerProcess = serve(APP)
    with server.connect() as connection:
        connection.begin("GET", target)
        server.wait_for_line("begun")
        connection.reset()
    server.send_signal(signal.SIGTERM)
    server.wait_for_line("finishing the requests")
    (tmp_path / "stopping").touch()

    assert server.wait() == 0
    assert (tmp_path / "finished").read_text() == "finished"
    if target == "/fails":
        assert (tmp_path / "handled").read_text().startswith("carboy-worker-")
    assert "Traceback" not in server.output


@pytest.mark.parametrize("target", ["/async", "/fails"])
def test_a_view_that_outlives_its_connection_is_finished(serve, tmp_path, target: str) -> None:
    server: ServerProcess = serve(APP, "--shutdown-timeout", "1")
    with server.connect() as connection:
        connection.begin("GET", target)
        server.wait_for_line("begun")
        server.send_signal(signal.SIGTERM)
        assert connection.is_closed_by_server()
    (tmp_path / "stopping").touch()

    assert server.wait() == 0
    assert (tmp_path / "finished").read_text() == "finished"
    if target == "/fails":
        assert (tmp_path / "handled").read_text().startswith("carboy-worker-")
    assert "1 connections were broken off" in server.output


def test_a_worker_that_is_behind_its_answer_is_waited_for(serve, tmp_path) -> None:
    server: ServerProcess = serve(APP)
    assert server.get("/close").text == "answered"
    server.wait_for_line("begun")
    server.send_signal(signal.SIGTERM)

    assert server.wait() == 0
    assert (tmp_path / "finished").read_text() == "finished"


@pytest.mark.parametrize("target", ["/never", "/never-native"])
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_that_never_end_are_left_behind_in_order(serve, target: str, workers: int) -> None:
    server: ServerProcess = serve(APP, "--shutdown-timeout", "0.3")
    with ExitStack() as connections:
        for _ in range(workers):
            connection = connections.enter_context(server.connect())
            connection.begin("GET", target)
        server.wait_for_count("begun", workers)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 1, server.output
    assert f"{workers} connections were broken off" in server.output
    assert "Fatal" not in server.output
    assert "never printed" not in server.output


def open_websocket(server: ServerProcess) -> Client:
    host, port = server.address
    client = Client(f"ws://{host}:{port}/talk")
    client.send("hello")
    assert client.receive(timeout=5) == "hello"
    return client


def test_websockets_go_on_until_the_time_of_a_stop_is_up(serve) -> None:
    server: ServerProcess = serve(APP, "--shutdown-timeout", "1")
    clients = [open_websocket(server) for _ in range(3)]
    server.send_signal(signal.SIGTERM)
    server.wait_for_line("finishing the requests")
    for client in clients:
        client.send("still there")
        assert client.receive(timeout=5) == "still there"
    for client in clients:
        with pytest.raises(ConnectionClosed):
            client.receive(timeout=10)

    assert server.wait(10) == 0, server.output
    server.wait_for_count("talk has ended", 3)
    assert "3 connections were broken off" in server.output
    assert "Traceback" not in server.output


def test_websockets_that_close_let_the_server_end(serve) -> None:
    server: ServerProcess = serve(APP)
    clients = [open_websocket(server) for _ in range(3)]
    server.send_signal(signal.SIGTERM)
    server.wait_for_line("finishing the requests")
    for client in clients:
        client.close()

    assert server.wait(10) == 0, server.output
    server.wait_for_count("talk has ended", 3)
    assert "broken off" not in server.output


def test_a_second_signal_ends_websockets_at_once(serve) -> None:
    server: ServerProcess = serve(APP)
    client = open_websocket(server)
    server.send_signal(signal.SIGTERM)
    server.wait_for_line("finishing the requests")
    server.send_signal(signal.SIGTERM)
    with pytest.raises(ConnectionClosed):
        client.receive(timeout=10)

    server.wait(10)
    assert "stopping at once" in server.output
    assert "Fatal" not in server.output
