"""A process that the demo starts, whose output it reads, and which it stops."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque

STOP_TIMEOUT_SECONDS = 5.0


class DemoError(Exception):
    """Something that the demo needs did not work; the message says what."""


class BackgroundProcess:
    """A child process, in a process group of its own so that Ctrl-C reaches the demo alone."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        environment: dict[str, str],
        directory: str,
        echo: bool = False,
    ) -> None:
        self.name = name
        self.echo = echo
        self._stopping = False
        self._log: deque[str] = deque(maxlen=200)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                process_group=0,
            )
        except OSError as error:
            raise DemoError(f"{name} could not be started ({command[0]}): {error}") from error
        self._reader = threading.Thread(target=self._read, name=f"{name} output", daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        """The last lines that the process printed."""
        return "\n".join(self._log)

    @property
    def exit_code(self) -> int | None:
        """The process's exit code, or None while it runs."""
        return self._process.poll()

    def read_line(self, deadline: float | None = None) -> str:
        """Return the next line of output, which must come before the deadline if there is one."""
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise DemoError(f"{self.name} printed nothing more in time.") from None
        if line is None:
            code = self._process.wait()
            raise DemoError(f"{self.name} ended by itself with exit code {code}.")
        return line

    def stop(self) -> int:
        """Ask the process to stop, and return its exit code; kill it if it does not stop."""
        # From here on its output is of interest only if it does not stop well.
        self._stopping = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            message = f"{self.name} did not stop within {STOP_TIMEOUT_SECONDS:.0f} s of SIGTERM."
            raise DemoError(message) from None
        finally:
            self._reader.join()
            self._process.stdin.close()
            self._process.stdout.close()
        return code

    def _read(self) -> None:
        for line in self._process.stdout:
            self._log.append(line.rstrip("\n"))
            self._lines.put(line)
            if self.echo and not self._stopping:
                sys.stdout.write(line)
                sys.stdout.flush()
        self._lines.put(None)
