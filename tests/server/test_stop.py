"""How a server stops: what was begun is finished, a second signal ends it at once."""

import signal
import subprocess
import sys
import time

import pytest
from support.server_process import ServerProcess

APP = """
    import asyncio, pathlib, threading, time
    from flask import Flask, Response

    app = Flask(__name__)
    here = pathlib.Path(__file__).parent

    def begun():
        print("begun", flush=True)

    @app.get("/async")
    async def async_view():
        begun()
        await asyncio.sleep(0.2)
        return "async"

    @app.get("/sync")
    def sync_view():
        begun()
        time.sleep(0.2)
        return "sync"

    @app.get("/stream")
    def stream():
        def parts():
            begun()
            yield "one "
            time.sleep(0.2)
            yield "two"
        return Response(parts())

    @app.get("/async-stream")
    async def async_stream():
        async def parts():
            begun()
            yield "one "
            await asyncio.sleep(0.2)
            yield "two"
        return parts()

    @app.get("/close")
    def close():
        response = Response("answered")
        def work():
            begun()
            time.sleep(0.2)
            (here / "closed").write_text("closed")
        response.call_on_close(work)
        return response

    @app.get("/background")
    async def background():
        async def work():
            begun()
            await asyncio.sleep(0.2)
            (here / "done").write_text("done")
        app.task = asyncio.create_task(work())
        await asyncio.sleep(0)
        return "started"

    @app.get("/endless")
    def endless():
        begun()
        threading.Event().wait()

    @app.get("/endless-async")
    async def endless_async():
        begun()
        try:
            await asyncio.Event().wait()
        finally:
            print("cancelled", flush=True)
"""

WHOLE = {
    "/async": "async",
    "/sync": "sync",
    "/stream": "one two",
    "/async-stream": "one two",
    "/close": "answered",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("target", WHOLE)
def test_a_request_that_was_begun_is_finished(serve, target: str, number: int) -> None:
    server: ServerProcess = serve(APP)
    with server.connect() as connection:
        connection.begin("GET", target)
        server.wait_for_line("begun")
        server.send_signal(number)
        answer = connection.read_response()
        assert (answer.text, answer.is_complete) == (WHOLE[target], True)
        assert connection.is_closed_by_server()
    assert server.wait() == 0
    assert "Traceback" not in server.output


def test_work_after_the_answer_is_finished(serve, tmp_path) -> None:
    server: ServerProcess = serve(APP)
    assert server.get("/close").text == "answered"
    server.wait_for_line("begun")
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert (tmp_path / "closed").read_text() == "closed"


def test_background_tasks_may_finish(serve, tmp_path) -> None:
    server: ServerProcess = serve(APP)
    assert server.get("/background").text == "started"
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert (tmp_path / "done").read_text() == "done"


def test_new_connections_are_refused_while_it_stops(serve) -> None:
    server: ServerProcess = serve(APP)
    with server.connect() as connection:
        connection.begin("GET", "/endless")
        server.wait_for_line("begun")
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("SIGTERM")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                server.connect().close()
            except ConnectionRefusedError:
                break
        else:
            pytest.fail("it still accepts")
        server.send_signal(signal.SIGTERM)
        server.wait(5)


@pytest.mark.parametrize("target", ["/endless", "/endless-async"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(serve, target: str, number: int) -> None:
    server: ServerProcess = serve(APP)
    with server.connect() as connection:
        connection.begin("GET", target)
        server.wait_for_line("begun")
        server.send_signal(number)
        server.wait_for_line("finishing the requests")
        server.send_signal(number)
        server.wait(5)
        assert connection.is_closed_by_server()
    assert "stopping at once" in server.output


def test_the_timeout_of_a_stop_bounds_it(serve) -> None:
    server: ServerProcess = serve(APP, "--shutdown-timeout", "0.3")
    with server.connect() as connection:
        connection.begin("GET", "/endless")
        server.wait_for_line("begun")
        server.send_signal(signal.SIGTERM)
        server.wait(10)
    assert "1 connections were broken off" in server.output


def test_an_idle_server_stops_at_once(serve) -> None:
    server: ServerProcess = serve(APP)
    started = time.monotonic()
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - started < 3


def test_app_run_in_the_module_is_ignored(serve) -> None:
    server: ServerProcess = serve(
        """
        from flask import Flask
        app = Flask(__name__)
        @app.get("/")
        async def view():
            return "served by carboy"
        app.run(port=1)
        """
    )
    assert server.get("/").text == "served by carboy"


SCRIPT = """
import carboy
from flask import Flask

app = Flask(__name__)

@app.get("/")
async def view():
    return "from a script"

def ready(addresses):
    print("Listening on", addresses[0].url, flush=True)

print("before", flush=True)
carboy.serve(app, port=0, on_ready=ready)
print("after", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_from_a_script(tmp_path, number: int) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    with ServerProcess(tmp_path, command=[sys.executable, "script.py"]) as server:
        assert server.get("/").text == "from a script"
        server.send_signal(number)
        assert server.wait() == 0
    assert server.lines[0] == "before"
    assert server.lines[-1] == "after"


def test_signal_handlers_that_the_app_set_at_import_are_put_back(tmp_path) -> None:
    script = SCRIPT.replace(
        'print("before"',
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('own'))\nprint('before'",
    ).replace(
        'print("after", flush=True)',
        "import os\nos.kill(os.getpid(), signal.SIGTERM)\nprint('after', flush=True)",
    )
    (tmp_path / "script.py").write_text(script)
    with ServerProcess(tmp_path, command=[sys.executable, "script.py"]) as server:
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert server.lines[-2:] == ["own", "after"]


@pytest.mark.parametrize(
    "call",
    ["carboy.serve(1)", "carboy.serve(app, prot=1)", "carboy.serve(app, config, port=0)"],
)
def test_mistakes_in_a_call_of_serve_are_errors(tmp_path, call: str) -> None:
    source = "import carboy\nfrom flask import Flask\napp = Flask('a')\n"
    source += f"config = carboy.ServerConfig()\n{call}\n"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=20, check=False
    )

    assert done.returncode == 1
    assert "TypeError" in done.stderr
