"""Starts one server on its core, waits until it accepts, and stops what it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START_SECONDS = 30
STOP_SECONDS = 5


class ServerFailedError(Exception):
    """A server ended or never began to accept connections."""


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A server process on one core, for the length of a `with` block.

    It leads a session of its own. So everything that it starts can be found, measured
    and stopped with it, and nothing else can be hit.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        core: int,
        directory: Path,
        environment: Mapping[str, str],
        log: Path,
        slowness: float = 1,
    ) -> None:
        self.command = ("taskset", "-c", str(core), *command)
        self.port = port
        self.directory = directory
        self.environment = environment
        self.log = log
        # How many times as long as usual it may take to start and to stop.
        self.slowness = slowness

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_accepting()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def session(self) -> int:
        """The id of the session, which is that of its first process."""
        return self._process.pid

    def _wait_until_accepting(self) -> None:
        deadline = time.monotonic() + START_SECONDS * self.slowness
        while time.monotonic() < deadline:
            if self._has_ended():
                raise ServerFailedError(f"the server ended at once, see {self.log}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise ServerFailedError(f"no connection in time, see {self.log}")

    def _has_ended(self) -> bool:
        """Look without reaping: until it is reaped, nobody else can get its id."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def _stop(self) -> None:
        # Not with Popen's own methods, which would reap it.
        os.kill(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS * self.slowness
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.02)
        # What is left of the session's process group, should the server have left
        # something behind or not have ended in time.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
