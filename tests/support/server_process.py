"""`carboy run` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from support.raw_http import Connection, RawResponse, fetch
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

START_TIMEOUT_SECONDS = 20
STOP_TIMEOUT_SECONDS = 20
_LISTENING = re.compile(r"Listening on (?:http://(?:127\.0\.0\.1|localhost):(\d+)|unix:(\S+))")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child: of this process, without settings that would reach it."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("FLASK_", "CARBOY_", "PYTEST_"))
    }
    return kept | {"PYTHONUNBUFFERED": "1", **(extra or {})}


class ServerProcess:
    """A child that serves, and all that it prints."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        command: list[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        command = command or [sys.executable, "-m", "carboy", "run", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=directory,
            env=environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address: tuple[str, int] | str = ("", 0)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        try:
            found = self.wait_for_line(_LISTENING, timeout=START_TIMEOUT_SECONDS)
        except BaseException:
            self.kill()
            raise
        self.address = found[2] or ("127.0.0.1", int(found[1]))
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"did not stop on SIGTERM:\n{self.output}") from None
        self._finish_reading()

    def kill(self) -> None:
        """End the process at once."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._finish_reading()

    def _finish_reading(self) -> None:
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return "\n".join(self.lines)

    def wait_for_line(
        self, pattern: str | re.Pattern[str], *, timeout: float = 10
    ) -> re.Match[str]:
        """Wait until a line is printed that has the pattern."""
        compiled = re.compile(pattern)
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(filter(None, map(compiled.search, list(self.lines))))
            if not found and self.process.poll() is not None and not self._reader.is_alive():
                raise AssertionError(f"ended without {compiled.pattern!r}:\n{self.output}")
            return bool(found)

        try:
            eventually(look, timeout=timeout)
        except AssertionError:
            raise AssertionError(f"no line {compiled.pattern!r} in:\n{self.output}") from None
        return found[0]

    def wait_for_count(self, text: str, count: int) -> None:
        """Wait until a text was printed this often. Threads may print into one line."""
        eventually(
            lambda: self.output.count(text) >= count, what=f"{count} times {text!r} in the output"
        )

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def wait(self, timeout: float = STOP_TIMEOUT_SECONDS) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(5)
        return code

    def connect(self) -> Connection:
        """Open a connection."""
        return Connection(self.address)

    def get(self, target: str = "/", headers: list[tuple[str, str]] | None = None) -> RawResponse:
        """Make a GET request on a connection of its own."""
        return fetch(self.address, "GET", target, headers)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid

    def descriptors(self) -> int:
        """How many descriptors the process has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def threads(self) -> int:
        """How many threads the process has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))
