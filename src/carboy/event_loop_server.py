"""Servers of the event loop whose clients can be closed, on every version of Python.

CPython 3.13 has ``asyncio.Server.close_clients`` and ``abort_clients``. Before that its servers
only count their connections; those of this loop know them, too.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import sys
import weakref
from typing import Any

__all__ = ["Server", "with_clients"]

KNOWS_CLIENTS = sys.version_info >= (3, 13)


class Server(asyncio.base_events.Server):
    """An ``asyncio.Server`` that knows its connections."""

    # Weak references, so that a transport which is thrown away unclosed can say so; by identity,
    # because a WeakSet costs more than all else that a server does for a connection.
    _clients: dict[int, weakref.ref[Any]]

    def _attach(self, transport: asyncio.Transport | None = None) -> None:
        asyncio.base_events.Server._attach(self)  # type: ignore[attr-defined]
        if transport is not None:
            self._clients[id(transport)] = weakref.ref(transport)

    def _detach(self, transport: asyncio.Transport | None = None) -> None:
        if transport is not None:
            self._clients.pop(id(transport), None)
        asyncio.base_events.Server._detach(self)  # type: ignore[attr-defined]

    def _transports(self) -> list[Any]:
        # A collection of garbage may come in between, and end some.
        references = list(self._clients.values())
        return [found for reference in references if (found := reference()) is not None]

    def close_clients(self) -> None:
        """Close the connections that are open, each when it has written what it has to."""
        for transport in self._transports():
            transport.close()

    def abort_clients(self) -> None:
        """Close the connections that are open at once; what they have not written is lost."""
        for transport in self._transports():
            transport.abort()


def with_clients(server: asyncio.Server) -> asyncio.Server:
    """Let a server of asyncio's that has not begun to serve know its connections."""
    if not KNOWS_CLIENTS and type(server) is asyncio.base_events.Server:
        server.__class__ = Server
        server._clients = {}  # type: ignore[attr-defined]
    return server
