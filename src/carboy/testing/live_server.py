"""An application on a real socket, in the process of the test."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carboy.background_loop import shared_background_loop
from carboy.server import Limits, Server, ServerConfig

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from _typeshed.wsgi import WSGIApplication


class LiveServer:
    """Serves an application while it is entered.

    ::

        with LiveServer(app) as server:
            requests.get(f"{server.url}/hello")

    All live servers of a process share one event loop on a thread of its own.

    Args:
        application: A Flask app or any WSGI callable.
        config: How to serve it; the port is a free one unless it is set.
        **settings: Fields of ``ServerConfig``.
    """

    def __init__(
        self,
        application: WSGIApplication,
        config: ServerConfig | None = None,
        **settings: Any,
    ) -> None:
        self._background = shared_background_loop()
        config = config or ServerConfig(port=0, limits=Limits(drain_linger=0))
        config = replace(config, **settings)
        self.server = Server(application, config, self._background.loop)
        self.host = ""
        self.port = 0

    @property
    def url(self) -> str:
        """The address without a path: ``http://127.0.0.1:49152``."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Begin to serve, and set ``host`` and ``port``."""
        address = self.server.bind()[0]
        self.host, self.port = address.host, address.port or 0
        self._background.call(self.server.start)

    def stop(self) -> None:
        """Let the requests in progress finish, and wait for that."""
        self.server.begin_shutdown()
        self._background.run(self.server.wait_ended())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()
