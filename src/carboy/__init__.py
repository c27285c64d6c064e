"""carboy serves an unmodified Flask app natively on asyncio, from a Rust core."""

from carboy._carboy import Promise
from carboy.cancellation import cancel_on_disconnect
from carboy.compat.installation import install, uninstall
from carboy.event_loop import EventLoop, new_event_loop, run
from carboy.event_loop_policy import EventLoopPolicy
from carboy.scope import ClientDisconnected, DeadlineExceeded, deadline, remaining_seconds
from carboy.server import Limits, Server, ServerConfig, serve

__all__ = [
    "ClientDisconnected",
    "DeadlineExceeded",
    "EventLoop",
    "EventLoopPolicy",
    "Limits",
    "Promise",
    "Server",
    "ServerConfig",
    "cancel_on_disconnect",
    "deadline",
    "install",
    "new_event_loop",
    "remaining_seconds",
    "run",
    "serve",
    "uninstall",
]
