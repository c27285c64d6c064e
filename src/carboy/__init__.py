"""carboy serves an unmodified Flask app natively on asyncio, from a Rust core."""

from carboy.event_loop import EventLoop, new_event_loop, run

__all__ = ["EventLoop", "new_event_loop", "run"]
