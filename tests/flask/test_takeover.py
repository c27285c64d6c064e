"""`pytest -p carboy.testing.takeover`: test clients are served by carboy's own dispatch."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from support.server_process import environment

TESTS = """
    import asyncio, threading
    import pytest
    from carboy.testing import takeover
    from flask import Flask, g, request, session

    loops = set()

    @pytest.fixture
    def app():
        app = Flask(__name__)
        app.secret_key = "not a secret"

        @app.get("/async")
        async def async_view():
            loops.add(asyncio.get_running_loop())
            g.thread = threading.current_thread().name
            return threading.current_thread().name

        @app.get("/sync")
        def sync_view():
            session["seen"] = True
            return threading.current_thread().name

        @app.get("/fails")
        async def fails():
            raise ValueError("to the test")

        return app

    def test_async_views_run_on_one_loop(app):
        assert app.test_client().get("/async").text == "carboy-loop"
        assert app.test_client().get("/async").text == "carboy-loop"
        assert len(loops) == 1

    def test_sync_views_run_on_the_thread_of_the_test(app):
        assert app.test_client().get("/sync").text == threading.current_thread().name

    def test_hooks_send_their_async_parts_to_the_loop(app):
        @app.before_request
        async def before():
            g.thread = threading.current_thread().name

        @app.after_request
        def after(response):
            response.headers["X-Thread"] = g.thread
            return response

        response = app.test_client().get("/sync")
        assert response.headers["X-Thread"] == "carboy-loop"

    def test_exceptions_come_to_the_test(app):
        app.testing = True
        with pytest.raises(ValueError, match="to the test"):
            app.test_client().get("/fails")

    def test_contexts_are_preserved(app):
        with app.test_client() as client:
            client.get("/sync")
            assert session["seen"]

    def test_contexts_of_views_on_the_loop_are_preserved(app):
        with app.test_client() as client:
            client.get("/async?number=1")
            assert request.args["number"] == "1"
            assert g.thread == "carboy-loop"
            client.get("/async?number=2")
            assert request.args["number"] == "2"
        with pytest.raises(RuntimeError, match="outside of request context"):
            request.args

    def test_the_context_of_a_failure_is_preserved(app):
        with app.test_client() as client:
            assert client.get("/fails?number=3").status_code == 500
            assert request.args["number"] == "3"

    def test_it_counts():
        assert takeover.statistics["requests"] == 9
        assert takeover.statistics["on_loop"] == 6
        assert takeover.statistics["awaits"] >= 1
"""


def test_a_projects_tests_are_served_by_carboy(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(textwrap.dedent(TESTS))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "carboy.testing.takeover"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout
    assert re.search(r"carboy served 9 requests of test clients: 6 whole on the loop", done.stdout)
