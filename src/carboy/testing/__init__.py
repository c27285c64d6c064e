"""Testing applications on carboy.

``pytest -p carboy.testing.takeover`` serves every request of Flask's test clients by
carboy's own dispatch; ``LiveServer`` serves an application on a real socket.
"""

from carboy.testing.live_server import LiveServer

__all__ = ["LiveServer"]
