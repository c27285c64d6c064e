"""carboy serves an unmodified Flask app natively on asyncio, from a Rust core."""

import typing

import carboy.background_loop  # noqa: F401 - At the end of the process it is to come after others.
from carboy._carboy import Promise
from carboy.cancellation import cancel_on_disconnect
from carboy.compat.installation import install, uninstall
from carboy.event_loop import EventLoop, new_event_loop, run
from carboy.event_loop_policy import EventLoopPolicy
from carboy.scope import ClientDisconnected, DeadlineExceeded, deadline, remaining_seconds

if typing.TYPE_CHECKING:
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

_OF_SERVER = frozenset({"Limits", "Server", "ServerConfig", "serve"})


# Type checkers would take any name for one of the package's.
if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import what needs Flask when it is asked for: programs without it use the rest."""
        if name not in _OF_SERVER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from carboy import server

        value = getattr(server, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_SERVER})
