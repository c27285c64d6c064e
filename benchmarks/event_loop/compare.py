"""Compares carboy's loop with asyncio's and uvloop's: `python benchmarks/event_loop/compare.py`.

Each row is measured in rounds, and each round visits every loop with a fresh process, so that no
loop has all the good minutes of the machine. The interpreter that runs this only needs the
standard library; the newest uvloop and carboy are installed into an environment of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# For what this comparison has in common with that of servers.
sys.path.append(str(HERE.parent))

import kept_runs  # noqa: E402 - Needs the path.
import loop_environment  # noqa: E402 - Needs the path.
import machine  # noqa: E402 - Needs the path.
import summary  # noqa: E402 - Needs the path.
from rows import LOOPS, ROWS, Row  # noqa: E402 - Needs the path.

MEASUREMENT_TIMEOUT_SECONDS = 120


def main() -> int:
    options = parse_options()
    rows = [row for row in ROWS if options.only is None or options.only in row.name]
    if not rows:
        sys.exit(f"no row has {options.only!r} in its name")
    python = loop_environment.make(options.carboy)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": describe(python),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "measurements": [],
        "failures": [],
    }
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_certificate(directory)
        for row in rows:
            measure(row, python, directory, options, results)
    text = summary.write(results, rows)
    kept_runs.write(options.output or run_directory(options, results["date"]), text, results)
    return 1 if results["failures"] else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares event loops.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a measurement (2)")
    parser.add_argument("--only", metavar="TEXT", help="only the rows with this in their names")
    parser.add_argument(
        "--carboy",
        type=Path,
        metavar="DIRECTORY",
        help="import carboy from this directory instead of building it",
    )
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the run")
    return parser.parse_args()


def run_directory(options: argparse.Namespace, date: str) -> Path:
    """Return a new directory, which is among the kept runs only if the run is a whole one."""
    partial = options.only or options.carboy or options.rounds < 5 or options.seconds < 2
    return kept_runs.make_directory(
        date, "event-loop", is_whole=not partial, build=loop_environment.BUILD
    )


def describe(python: Path) -> dict[str, Any]:
    program = "import uvloop, platform; print(uvloop.__version__, platform.python_version())"
    command = [str(python), "-c", program]
    versions = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    git = ["git", "-C", str(HERE), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": machine.cpu_model(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "load_average_before": os.getloadavg()[0],
        "uvloop": versions[0],
        "python": versions[1],
        "commit": commit,
    }


def make_certificate(directory: Path) -> None:
    path = str(directory / "certificate.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", path, "-out", f"{path}.part"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with Path(path).open("a") as file:
        file.write(Path(f"{path}.part").read_text())


def measure(
    row: Row, python: Path, directory: Path, options: argparse.Namespace, results: dict[str, Any]
) -> None:
    """Measure one row on every loop, in rounds."""
    environment = dict(os.environ)
    if options.carboy:
        environment["PYTHONPATH"] = str(options.carboy.resolve())
    for number in range(1, options.rounds + 1):
        for loop in LOOPS:
            with tempfile.TemporaryDirectory(dir=directory) as own:
                certificate = (directory / "certificate.pem").read_text()
                Path(own, "certificate.pem").write_text(certificate)
                command = [str(python), str(HERE / "measure.py"), loop, row.name]
                command += [str(options.seconds), own, *map(str, machine.choose_cores())]
                try:
                    done = subprocess.run(
                        command,
                        env=environment,
                        stdout=subprocess.PIPE,
                        timeout=MEASUREMENT_TIMEOUT_SECONDS,
                        check=True,
                    )
                except subprocess.SubprocessError as error:
                    failure = f"{loop} at {row.name}, round {number}: {error}"
                    results["failures"].append(failure)
                    print(f"failed: {failure}", flush=True)
                    continue
            figures = json.loads(done.stdout)
            results["measurements"].append(
                {"row": row.name, "round": number, "loop": loop, **figures}
            )
            print(
                f"{row.name:40} {number}  {loop:8}"
                f"{figures['count'] / figures['seconds']:12,.0f}/s"
                f"{figures['cpu_seconds'] / figures['count'] * 1e6:10.2f} µs CPU",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
