"""`carboy run` finds apps as `flask run` does, and says what is wrong when it can't."""

import importlib
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.server_process import ServerProcess, environment
from werkzeug.test import Client

from carboy.application import ApplicationNotFoundError, load_application

APP = """
from flask import Flask

def make(name):
    app = Flask(name)
    @app.get("/")
    async def view():
        return name
    @app.get("/rule")
    def sync_view():
        return name
    return app
"""


def write(directory: Path, **files: str) -> None:
    (directory / "made.py").write_text(APP)
    for name, source in files.items():
        path = directory / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from made import make\n" + textwrap.dedent(source))


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory whose modules are forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "")
    monkeypatch.delenv("FLASK_APP", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def served(directory: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    with ServerProcess(directory, *arguments, env=env) as server:
        answer = server.get("/").text
        # How it stops is not the question here.
        server.kill()
        return answer


def run_and_fail(
    directory: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "carboy", "run", *arguments],
        cwd=directory,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stderr + done.stdout


@pytest.mark.parametrize(
    ("source", "name", "answer"),
    [
        ("app = make('app')", "hello:app", "app"),
        ("app = make('app')", "hello", "app"),
        ("app = make('app')", "hello.py", "app"),
        ("app = make('app')", "hello.py:app", "app"),
        ("application = make('application')", "hello", "application"),
        ("other = make('the only one')", "hello", "the only one"),
        ("def create_app(): return make('created')", "hello", "created"),
        ("def make_app(): return make('made')", "hello", "made"),
        ("def create_app(): return make('created')", "hello:create_app()", "created"),
        ("def create_app(): return make('created')", "hello:create_app", "created"),
        ("def build(a, b=1): return make(f'{a}{b}')", "hello:build('x', b=2)", "x2"),
        ("def app(environ, start): return make('plain')(environ, start)", "hello:app", "plain"),
    ],
)
def test_an_app_is_found(importing: Path, source: str, name: str, answer: str) -> None:
    write(importing, hello=source)
    application, found_as = load_application(name)

    assert found_as == name
    assert Client(application).get("/rule").text == answer


@pytest.mark.parametrize("name", ["hello:app", "hello:create_app()", "hello:create_app", "hello"])
def test_an_app_is_served(tmp_path: Path, name: str) -> None:
    write(tmp_path, hello="app = make('app')\ndef create_app(): return make('app')")

    assert served(tmp_path, name) == "app"


def test_an_app_in_a_package(tmp_path: Path) -> None:
    write(tmp_path, package__sub__hello="app = make('deep')")
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "package/sub/__init__.py").write_text("from made import make\napp = make('sub')\n")

    assert served(tmp_path, "package.sub.hello:app") == "deep"
    assert served(tmp_path, "package.sub") == "sub"
    assert served(tmp_path, "package/sub/hello.py") == "deep"


def test_the_app_may_be_an_option(tmp_path: Path) -> None:
    write(tmp_path, hello="app = make('option')")

    assert served(tmp_path, "--app", "hello:app") == "option"
    code, message = run_and_fail(tmp_path, "hello:app", "--app", "hello:app")
    assert (code, "twice" in message) == (2, True)


def test_flask_app_in_the_environment(tmp_path: Path) -> None:
    write(tmp_path, hello="app = make('hello')", app="app = make('app')")

    assert served(tmp_path, env={"FLASK_APP": "hello:app"}) == "hello"
    assert served(tmp_path, "app:app", env={"FLASK_APP": "hello:app"}) == "app"


def test_without_a_name_wsgi_py_comes_before_app_py(tmp_path: Path) -> None:
    write(tmp_path, app="app = make('app')")
    assert served(tmp_path) == "app"

    write(tmp_path, wsgi="app = make('wsgi')")
    assert served(tmp_path) == "wsgi"


def test_where_there_is_no_app_at_all(tmp_path: Path) -> None:
    code, message = run_and_fail(tmp_path)

    assert code == 1
    assert "wsgi.py or an app.py" in message
    assert str(tmp_path) in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing:app", r"no module 'missing'"),
        ("missing.sub:app", r"no module 'missing.sub'"),
        ("hello:nothing", r"'hello' has no attribute 'nothing'.*Did you mean 'app'"),
        ("hello:number", r"int, not an application"),
        ("hello:nothing()", r"nothing"),
        ("hello:fails()", r"ValueError: in the factory"),
        ("hello:needs()", r"needs"),
        ("hello:app.wsgi_app", r"Failed to parse 'app.wsgi_app'"),
        ("hello:app:app", r"app:app|parse"),
        ("empty", r"Failed to find Flask application"),
        ("raises", r"(?s)raised an exception.*raises\.py.*ValueError: at import"),
        ("broken", r"(?s)broken\.py.*SyntaxError"),
        ("imports", r"(?s)imports\.py.*No module named 'does_not_exist'"),
    ],
)
def test_what_is_wrong_is_said(importing: Path, name: str, expected: str) -> None:
    write(
        importing,
        hello="""
            app = make("app")
            number = 1
            def fails(): raise ValueError("in the factory")
            def needs(argument): return app
        """,
        empty="",
        raises="raise ValueError('at import')",
        broken="def (:",
        imports="import does_not_exist",
    )

    with pytest.raises(ApplicationNotFoundError) as caught:
        load_application(name)

    message = caught.value.message
    assert re.search(expected, message), message
    assert "importlib" not in message, "the frames of the import system say nothing"


def test_what_is_wrong_is_printed(tmp_path: Path) -> None:
    write(tmp_path, raises="raise ValueError('at import')")
    code, message = run_and_fail(tmp_path, "raises")

    assert code == 1
    assert message.startswith("Error: ")
    assert "ValueError: at import" in message
    assert message.count("Traceback") == 1, "the application's own"


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    write(tmp_path, app="app = make('app')")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, message = run_and_fail(tmp_path, "--port", str(port))

    assert code == 1
    assert f"127.0.0.1:{port}" in message
    assert "another program" in message
    assert "--port" in message
    assert "Traceback" not in message


def test_a_host_that_is_not_here_is_said(tmp_path: Path) -> None:
    write(tmp_path, app="app = make('app')")
    code, message = run_and_fail(tmp_path, "--host", "192.0.2.1", "--port", "0")

    assert code == 1
    assert "Can't listen on 192.0.2.1:0" in message
    assert "Traceback" not in message


def test_a_socket_in_no_directory_is_said(tmp_path: Path) -> None:
    write(tmp_path, app="app = make('app')")
    code, message = run_and_fail(tmp_path, "--unix-socket", str(tmp_path / "none/socket"))

    assert code == 1
    assert "no such directory" in message


def test_what_it_serves_is_announced(tmp_path: Path) -> None:
    write(tmp_path, hello="app = make('hello')")
    with ServerProcess(tmp_path, "hello:app", "--threads", "7") as server:
        found = server.wait_for_line(r"carboy \S+ serves hello:app \(Flask 'hello'\) in (\w+)")
        assert found[1] == "production"
        server.wait_for_line("7 threads")


def test_debug_mode(tmp_path: Path) -> None:
    write(tmp_path, hello="app = make('hello')")
    with ServerProcess(tmp_path, "hello:app", "--debug") as server:
        server.wait_for_line("debug mode")
    with ServerProcess(tmp_path, "hello:app", env={"FLASK_DEBUG": "1"}) as server:
        server.wait_for_line("debug mode")


def test_options_in_the_environment(tmp_path: Path) -> None:
    write(tmp_path, app="app = make('app')")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "carboy", "run"]
    env = {"CARBOY_RUN_PORT": str(port), "CARBOY_RUN_THREADS": "3"}

    with ServerProcess(tmp_path, "app:app", command=command, env=env) as server:
        assert server.address == ("127.0.0.1", port)
        server.wait_for_line("3 threads")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"]])
def test_help_is_readable(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "carboy", *arguments],
        capture_output=True, text=True, timeout=20, check=False, env=environment(),
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "Usage: carboy" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    if "run" in arguments:
        assert "APP" in done.stdout
        for option in ("--host", "--port", "--threads", "--unix-socket", "--limit-body"):
            assert option in done.stdout
        assert "CARBOY_RUN_PORT" in done.stdout


def test_the_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "carboy", "--version"],
        capture_output=True, text=True, timeout=20, check=False, env=environment(),
    )  # fmt: skip

    assert re.fullmatch(r"carboy \d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--port", "70000"], ["--threads", "0"]])
def test_a_wrong_value_of_an_option(tmp_path: Path, arguments: list[str]) -> None:
    code, message = run_and_fail(tmp_path, "app:app", *arguments)

    assert code == 2
    assert arguments[0] in message


def test_the_app_is_imported_on_the_main_thread(tmp_path: Path) -> None:
    write(
        tmp_path,
        app="""
            import signal, threading
            assert threading.current_thread() is threading.main_thread()
            signal.signal(signal.SIGUSR1, lambda *_: None)
            app = make("main")
        """,
    )
    assert served(tmp_path, "app:app") == "main"
