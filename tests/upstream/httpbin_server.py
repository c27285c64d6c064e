"""httpbin on carboy, in a process of its own, in the place of pytest-httpbin's server.

pytest-httpbin's server for TLS stays its own: it has a certificate of its own, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Self
from urllib.parse import urljoin

PROGRAM = """
import sys
from carboy.testing import LiveServer
from httpbin import app

with LiveServer(app) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


class Server:
    """What pytest-httpbin's fixtures use of a server."""

    def __init__(self, *, application: Any = None) -> None:
        command = [sys.executable, "-c", PROGRAM]
        environment = {name: v for name, v in os.environ.items() if not name.endswith("_proxy")}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.host = "127.0.0.1"
        self.port = int(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def __add__(self, path: str) -> str:
        return self.url + path

    def join(self, url: str, allow_fragments: bool = True) -> str:
        return urljoin(self.url, url, allow_fragments=allow_fragments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # It ends with its input.
        self.process.communicate(timeout=20)
