"""Compares carboy.http with other HTTP clients: `python benchmarks/client/compare.py`.

Each row is measured in rounds, and each round visits every client with a fresh process, so that no
client has all the good minutes of the machine. The interpreter that runs this only needs the
standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
# For what this comparison has in common with that of servers.
sys.path.append(str(HERE.parent))

import client_environment  # noqa: E402 - Needs the path.
import kept_runs  # noqa: E402 - Needs the path.
import machine  # noqa: E402 - Needs the path.
import summary  # noqa: E402 - Needs the path.
from rows import PEERS, ROWS, Peer, Row, takes_part  # noqa: E402 - Needs the path.

if TYPE_CHECKING:
    from collections.abc import Iterator

MEASUREMENT_TIMEOUT_SECONDS = 60


def main() -> int:
    options = parse_options()
    rows = [row for row in ROWS if options.only is None or options.only in row.name]
    if not rows:
        sys.exit(f"no row has {options.only!r} in its name")
    environment = client_environment.make(options.carboy)
    peers, left_out = choose_peers(environment, options)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": describe(environment),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "peers": [peer.name for peer in peers],
        "left_out": left_out,
        "measurements": [],
        "failures": [],
    }
    upstream_core, client_core = machine.choose_cores()
    with tempfile.TemporaryDirectory() as name:
        python = environment.pythons["peers"]
        authority, server = client_environment.make_certificates(python, Path(name))
        with run_upstream(environment.upstream, server, upstream_core) as ports:
            for number in range(1, options.rounds + 1):
                for row in rows:
                    for peer in peers:
                        if takes_part(peer, row):
                            measure(
                                peer, row, number, environment, options, results,
                                (str(authority), str(client_core), *map(str, ports)),
                            )  # fmt: skip
    text = summary.write(results, rows, peers)
    kept_runs.write(options.output or run_directory(options, results["date"]), text, results)
    return 1 if results["failures"] else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares HTTP clients.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each row (3)")
    parser.add_argument("--seconds", type=float, default=0.8, help="length of a measurement (0.8)")
    parser.add_argument("--quick", action="store_true", help="does it work? One round of 0.3 s")
    parser.add_argument("--only", metavar="TEXT", help="only the rows with this in their names")
    parser.add_argument("--peers", metavar="NAMES", help="only these clients, with semicolons")
    parser.add_argument(
        "--carboy",
        type=Path,
        metavar="DIRECTORY",
        help="import carboy from this directory instead of building it",
    )
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the run")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.3
    return options


def run_directory(options: argparse.Namespace, date: str) -> Path:
    """Return a new directory, which is among the kept runs only if the run is a whole one."""
    partial = (
        options.only
        or options.peers
        or options.carboy
        or options.rounds < 3
        or options.seconds < 0.8
    )
    return kept_runs.make_directory(
        date, "client", is_whole=not partial, build=client_environment.BUILD
    )


#: With these, some of the clients would trust others than the authority of the test.
AUTHORITIES_OF_THE_ENVIRONMENT = {
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
}


def python_environment(options: argparse.Namespace) -> dict[str, str]:
    """Return the environment of a client: without proxies and authorities of this machine."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and name not in AUTHORITIES_OF_THE_ENVIRONMENT
    }
    if options.carboy:
        environment["PYTHONPATH"] = str(options.carboy.resolve())
    return environment


def choose_peers(
    environment: client_environment.ClientEnvironment, options: argparse.Namespace
) -> tuple[list[Peer], list[str]]:
    """Return the clients to compare, and who is left out for which reason."""
    names = None if options.peers is None else [one.strip() for one in options.peers.split(";")]
    chosen, left_out = [], []
    for peer in PEERS:
        if names is not None and peer.name not in names:
            continue
        if peer.installed is not None:
            program = f"import carboy; carboy.install({peer.installed!r})"
            tried = subprocess.run(
                [str(environment.pythons["peers"]), "-c", program],
                env=python_environment(options),
                capture_output=True,
                text=True,
                check=False,
            )
            if tried.returncode != 0:
                reason = tried.stderr.strip().rpartition("\n")[2]
                left_out.append(f"{peer.name}: carboy.install can't do it ({reason})")
                continue
        chosen.append(peer)
    return chosen, left_out


@contextlib.contextmanager
def run_upstream(program: Path, server: Path, core: int) -> Iterator[tuple[int, int, int]]:
    """Run the upstream on its core, and give its ports."""
    ports = tuple(_free_port() for _ in range(3))
    addresses = [f"127.0.0.1:{port}" for port in ports]
    command = ["taskset", "-c", str(core), str(program), *addresses, str(server)]
    with subprocess.Popen(command) as process:
        try:
            for port in ports:
                _wait_for(port)
            yield ports
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def describe(environment: client_environment.ClientEnvironment) -> dict[str, Any]:
    program = (
        "import importlib.metadata as m, platform;"
        "print(platform.python_version());"
        "print(*sorted({f'{d.name}=={d.version}' for d in m.distributions()}), sep='\\n')"
    )
    packages: dict[str, str] = {}
    python = ""
    for interpreter in environment.pythons.values():
        command = [str(interpreter), "-c", program]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        python, *lines = output.splitlines()
        packages |= dict(line.split("==", 1) for line in lines)
    git = ["git", "-C", str(HERE), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": machine.cpu_model(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "load_average_before": os.getloadavg()[0],
        "python": python,
        "packages": packages,
        "commit": commit,
    }


def measure(
    peer: Peer,
    row: Row,
    number: int,
    environment: client_environment.ClientEnvironment,
    options: argparse.Namespace,
    results: dict[str, Any],
    places: tuple[str, ...],
) -> None:
    """Measure one client at one row, once."""
    python = environment.pythons[peer.environment]
    command = [str(python), str(HERE / "measure.py"), peer.name, row.name, str(options.seconds)]
    try:
        done = subprocess.run(
            [*command, *places],
            env=python_environment(options),
            capture_output=True,
            text=True,
            timeout=MEASUREMENT_TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as error:
        output = getattr(error, "stderr", None) or str(error)
        last = str(output).strip().rpartition("\n")[2]
        failure = f"{peer.name} at {row.name}, round {number}: {last}"
        results["failures"].append(failure)
        print(f"failed: {failure}", flush=True)
        return
    figures = json.loads(done.stdout)
    results["measurements"].append({"row": row.name, "round": number, "peer": peer.name, **figures})
    print(
        f"{number}  {row.name:40} {peer.name:22}"
        f"{figures['cpu_seconds'] / figures['calls'] * 1e6:10.1f} µs CPU"
        f"{figures['calls'] / figures['seconds']:10,.0f}/s"
        f"{figures['p50_ms']:9.2f}{figures['p99_ms']:9.2f} ms",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
