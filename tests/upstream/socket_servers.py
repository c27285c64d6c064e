"""The servers that the socket pass can put a suite's applications on."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    LiveServer = Callable[[Any], AbstractContextManager[tuple[str, int]]]


@contextmanager
def serve_with_carboy(app: Any) -> Iterator[tuple[str, int]]:
    """Serve the application object with carboy, in this process."""
    from carboy.testing import LiveServer

    with LiveServer(app) as server:
        yield server.host, server.port


@contextmanager
def serve_with_werkzeug(app: Any) -> Iterator[tuple[str, int]]:
    """Serve the application object with Werkzeug's development server.

    It is the control: what fails with this server too cannot travel over a
    socket, whatever the server is.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class QuietHandler(WSGIRequestHandler):
        """Writes no access log, which some tests would find in the captured output."""

        protocol_version = "HTTP/1.1"

        def log_request(self, *args: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.host, server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


SERVERS: dict[str, LiveServer] = {"carboy": serve_with_carboy, "werkzeug": serve_with_werkzeug}
