"""Counts what it costs to be ready for clients that go: `python benchmarks/calls/instructions.py`.

`cancellation.py` measures the same in time. That is what matters in the end, but where a machine is
shared, time is less exact than what is asked. These counts hardly depend on who else is there:

* instructions outside of the kernel per request, by valgrind;
* system calls per request of each kind, by strace. What the kernel does for a request is the same
  with clients watched and unwatched, apart from the calls that only one of them makes.

Each is the difference between a longer run and a shorter one of the same server, divided by the
difference of their numbers of requests, so that starting and stopping don't count. One request is
under way at a time on each kept connection. With several connections it depends on the time which
events a loop finds together, and valgrind makes a server some fifty times slower.

It needs valgrind, strace, and a build of carboy that valgrind can run. With many kernels that is
one without system calls of its own: `RUSTFLAGS="--cfg rustix_use_libc" pip install .` into an
environment, whose `bin` is given to `--scripts`.
"""

from __future__ import annotations

import argparse
import http.client
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving import Bench
from watching import LENGTHS, SETTINGS, write_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# How much longer a server may take to start and to stop that is followed step by step.
SLOWNESS = 10
# How long strace may take to write what it has counted.
OUTPUT_SECONDS = 60
# Dictionaries and sets of strings are laid out in the same way in every run, and no collection of
# garbage, which falls into one run and not into the next, is worth thousands of requests.
# The service answers when all calls of a view have been begun, also by a slow server.
CONDITIONS = {"PYTHONHASHSEED": "0", "WITHOUT_COLLECTOR": "1", "DELAY_MS": "20"}
# Fewer a request than this come from timers, not from requests.
LEAST_CALLS = 0.02


class Counter:
    """Runs servers under a program that counts what they do."""

    def __init__(self, bench: Bench, connections: int, directory: Path) -> None:
        self._bench = bench
        self._connections = connections
        self._output = directory / "counts"

    def instructions(self, view: str, settings: Mapping[str, str], requests: int) -> dict[str, int]:
        """Return how many instructions a server runs from its start to its end."""
        command = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={self._output}")
        self._serve(view, settings, requests, command)
        found = re.search(r"^(?:summary|totals): (\d+)", self._output.read_text(), re.MULTILINE)
        assert found, f"valgrind has written no total to {self._output}"
        return {"instructions": int(found[1])}

    def system_calls(self, view: str, settings: Mapping[str, str], requests: int) -> dict[str, int]:
        """Return how many system calls of each kind a server makes from its start to its end."""
        # As a grandchild of the server in a group of its own: signals go to the server.
        command = ("strace", "-DD", "-f", "-c", "-U", "name,calls", "-o", str(self._output))
        self._output.unlink(missing_ok=True)
        self._serve(view, settings, requests, command)
        deadline = time.monotonic() + OUTPUT_SECONDS
        while not self._output.exists() or "total" not in self._output.read_text():
            assert time.monotonic() < deadline, f"strace has written no total to {self._output}"
            time.sleep(0.05)
        counts = re.findall(r"^(\w+) +(\d+)\s*$", self._output.read_text(), re.MULTILINE)
        return {name: int(calls) for name, calls in counts if name != "total"}

    def _serve(
        self, view: str, settings: Mapping[str, str], requests: int, command: tuple[str, ...]
    ) -> None:
        with self._bench.serve(
            {**settings, **CONDITIONS}, under=command, slowness=SLOWNESS
        ) as server:
            self._request(server.port, view, requests)

    def _request(self, port: int, view: str, requests: int) -> None:
        """Send requests in rounds, each with one on every connection."""
        clients = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(self._connections)]
        for _ in range(requests // len(clients)):
            for client in clients:
                client.request("GET", view)
            for client in clients:
                response = client.getresponse()
                content = response.read()
                assert response.status == 200, (response.status, content)
                assert len(content) == LENGTHS[view], content
        for client in clients:
            client.close()


def per_request(
    count: Callable[[str, Mapping[str, str], int], dict[str, int]],
    view: str,
    settings: Mapping[str, str],
    options: argparse.Namespace,
) -> dict[str, float]:
    """Return what a request adds to counts."""
    fewer = count(view, settings, options.requests)
    more = count(view, settings, 3 * options.requests)
    return {
        name: (more.get(name, 0) - fewer.get(name, 0)) / (2 * options.requests)
        for name in sorted(more.keys() | fewer.keys())
    }


def row(view: str, found: dict[str, list[dict[str, float]]]) -> str:
    """Return the table's row of a view."""
    # A call that is made now and then is in some of the runs only.
    kinds = {kind for runs in found.values() for run in runs for kind in run}
    middle = {
        name: {kind: statistics.median(run.get(kind, 0) for run in runs) for kind in kinds}
        for name, runs in found.items()
    }
    watched, unwatched = (middle[name].pop("instructions") for name in SETTINGS)
    runs = zip(*found.values(), strict=True)
    costs = [one["instructions"] / other["instructions"] - 1 for one, other in runs]
    more = {
        kind: middle["watched"][kind] - middle["unwatched"][kind]
        for kind in sorted(middle["watched"])
    }
    noted = [f"{kind} {by:+.2f}" for kind, by in more.items() if abs(by) >= LEAST_CALLS]
    return (
        f"| {view} | {watched:,.0f} | {unwatched:,.0f} | {watched / unwatched - 1:+.2%} "
        f"| {min(costs):+.2%} to {max(costs):+.2%} | {sum(middle['unwatched'].values()):.2f} "
        f"| {', '.join(noted) or 'none'} |"
    )


def main() -> None:
    """Count, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--requests",
        type=int,
        default=128,
        help="in the shorter run; the longer has three times that (128)",
    )
    parser.add_argument("--connections", type=int, default=1, help="kept connections (1)")
    parser.add_argument("--runs", type=int, default=3, help="how often each is counted (3)")
    parser.add_argument(
        "--views", nargs="+", default=list(LENGTHS), choices=LENGTHS, metavar="VIEW"
    )
    parser.add_argument(
        "--scripts", type=Path, help="a bin directory with carboy, instead of building it"
    )
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the run")
    options = parser.parse_args()
    if options.requests % options.connections:
        sys.exit("the requests are not a multiple of the connections")
    bench = Bench(options.scripts)
    lines = [
        (
            "| view | instructions, watched | unwatched | cost | of the runs "
            "| system calls, unwatched | more when watched |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n")
    measurements: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory, bench.upstream():
        counter = Counter(bench, options.connections, Path(directory))
        for view in options.views:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
            for _ in range(options.runs):
                for name, settings in SETTINGS.items():
                    counts = per_request(counter.instructions, view, settings, options)
                    counts |= per_request(counter.system_calls, view, settings, options)
                    found[name].append(counts)
            measurements[view] = found
            lines.append(row(view, found))
            print(lines[-1], flush=True)
    write_run(bench, options, "instructions", lines, {"per_request": measurements})


if __name__ == "__main__":
    main()
