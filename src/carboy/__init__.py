"""carboy serves an unmodified Flask app natively on asyncio, from a Rust core."""

from carboy._carboy import Promise
from carboy.event_loop import EventLoop, new_event_loop, run
from carboy.server import Limits, Server, ServerConfig, serve

__all__ = [
    "EventLoop",
    "Limits",
    "Promise",
    "Server",
    "ServerConfig",
    "new_event_loop",
    "run",
    "serve",
]
