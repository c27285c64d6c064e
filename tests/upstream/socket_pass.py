"""A pytest plugin that sends every test client's requests over a real socket.

`pytest -p socket_pass --socket-server=carboy` replaces the function that runs
an application for Werkzeug's and Flask's test clients. The client stays in the
test, with its cookies and redirects; the application object is served by a
live server in the same process, and the answer is what came out of the socket.

What a test asks for that HTTP cannot express is noted in the JUnit file as the
property `not_carried`, so that the list of tests left out can be checked.
"""

from __future__ import annotations

import functools
import http.client
from contextlib import ExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import flask
import pytest
import werkzeug.test
from socket_servers import SERVERS
from socket_transport import not_carried, send

if TYPE_CHECKING:
    from collections.abc import Generator

    from socket_servers import LiveServer

CLIENT_CALL: ContextVar[bool] = ContextVar("client_call", default=False)
"""Whether a test client, and not a view that runs another application, calls the seam."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--socket-server", choices=sorted(SERVERS), default="carboy")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SocketPass(SERVERS[config.getoption("--socket-server")]))


class SocketPass:
    """Gives each application object one live server for the length of a test."""

    def __init__(self, serve: LiveServer) -> None:
        self.serve = serve
        self.open_servers = ExitStack()
        self.addresses: dict[int, tuple[str, int]] = {}
        self.requests = 0
        self.observed: set[str] = set()
        self.replace_seam()

    def replace_seam(self) -> None:
        """Replace `werkzeug.test.run_wsgi_app`, for calls by test clients only.

        A view that returns a WSGI callable is run by the same function, inside
        of the request that the server is answering; that call stays as it is.
        """
        run_in_process = werkzeug.test.run_wsgi_app
        run_client = werkzeug.test.Client.run_wsgi_app

        @functools.wraps(run_in_process)
        def run_wsgi_app(app: Any, environ: Any, buffered: bool = False) -> Any:
            if CLIENT_CALL.get():
                return self.run_over_socket(app, environ)
            return run_in_process(app, environ, buffered)

        @functools.wraps(run_client)
        def run_wsgi_app_for_client(*args: Any, **kwargs: Any) -> Any:
            token = CLIENT_CALL.set(True)
            try:
                return run_client(*args, **kwargs)
            finally:
                CLIENT_CALL.reset(token)

        werkzeug.test.run_wsgi_app = run_wsgi_app
        werkzeug.test.Client.run_wsgi_app = run_wsgi_app_for_client  # type: ignore[method-assign]

    def run_over_socket(self, app: Any, environ: Any) -> Any:
        """Send one request to the application's live server."""
        environ = getattr(environ, "environ", environ)
        self.requests += 1
        self.observed.update(not_carried(environ))
        if flask.has_app_context():
            self.observed.add("active-context")
        try:
            answer = send(*self.address_of(app), environ)
        except (OSError, http.client.HTTPException):
            self.observed.add("server-error")
            raise
        if answer[1].startswith("500"):
            self.observed.add("server-error")
        return answer

    def address_of(self, app: Any) -> tuple[str, int]:
        """Return where the application is served, starting its server if there is none.

        The identity of the application is a safe key because the open server
        keeps the application alive.
        """
        if id(app) not in self.addresses:
            self.addresses[id(app)] = self.open_servers.enter_context(self.serve(app))
        return self.addresses[id(app)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Run one test, stop its servers, and note what was observed.

        The servers end with the test and not with the session: a server holds
        its application, and an application that outlives its test would be
        found by the tests that count references.
        """
        self.observed.clear()
        try:
            return (yield)
        finally:
            self.addresses.clear()
            self.open_servers.close()
            item.user_properties.extend(("not_carried", name) for name in sorted(self.observed))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"socket pass: {self.requests} requests over a socket")
