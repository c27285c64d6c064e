"""Runs the load generator, and looks at the server when its timed window starts and ends."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Seen = TypeVar("Seen")

# The generator gives up by itself when a server stops answering. This is for the case
# that it doesn't.
SLACK_SECONDS = 30


class LoadFailedError(Exception):
    """The load generator gave up, or some answers were wrong."""


class LoadGenerator:
    """The load generator on its core, against one request target of one server."""

    def __init__(
        self, program: Path, *, core: int, port: int, target: str, length: int, connections: int
    ) -> None:
        self._command = (
            *("taskset", "-c", str(core), str(program)),
            *("--address", f"127.0.0.1:{port}", "--path", target),
            *("--expect-length", str(length), "--connections", str(connections)),
        )

    def run(
        self,
        *,
        warm_up: float,
        seconds: float,
        snapshot: Callable[[], Seen],
        rate: int | None = None,
    ) -> tuple[dict[str, Any], Seen, Seen]:
        """Return the generator's report, and what was seen at each end of its window."""
        times = ("--warm-up", str(warm_up), "--duration", str(seconds))
        rate_option = () if rate is None else ("--rate", str(rate))
        with subprocess.Popen(
            (*self._command, *times, *rate_option),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            watchdog = threading.Timer(warm_up + seconds + SLACK_SECONDS, process.kill)
            watchdog.start()
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                # An early end closes the pipe, and the exit status says so below.
                process.stdout.readline()
                start = snapshot()
                process.stdout.readline()
                end = snapshot()
                output = process.stdout.read()
                errors = process.stderr.read()
                status = process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                watchdog.cancel()
        if status != 0:
            raise LoadFailedError(errors.strip() or f"the load generator ended with {status}")
        report: dict[str, Any] = json.loads(output)
        if report["failures"]:
            message = f"{report['failures']} requests failed, first: {report['first_failure']}"
            raise LoadFailedError(message)
        return report, start, end
