"""Measures what a client that goes costs, and what it costs to be ready for that:
`python benchmarks/calls/cancellation.py`.

First: from the moment at which a client closes its connection to the moment at which the service
that its view calls sees the end of the view's connection. The service is here, in this process.

Second: processor time per request, with clients watched and unwatched
(`CARBOY_CANCEL_ON_DISCONNECT=never`). Where these differ less than two servers of the same kind,
`instructions.py` says more.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from paired_windows import estimate, there_and_back
from serving import Bench
from watching import LENGTHS, SETTINGS, write_run

if TYPE_CHECKING:
    from server import Server

# Two servers of the same kind, and one of the other: the first two show how much a difference
# means on this machine.
KINDS = {
    "watched": SETTINGS["watched"],
    "unwatched": SETTINGS["unwatched"],
    "watched too": SETTINGS["watched"],
}


class SilentService:
    """Takes requests and never answers; notes when their connections end."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._arrived = threading.Semaphore(0)
        self._ended = threading.Semaphore(0)
        self._ended_at = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(65536)
                self._arrived.release()
                with contextlib.suppress(ConnectionResetError):
                    connection.recv(1)
                self._ended_at = time.perf_counter()
                self._ended.release()

    def wait_arrived(self) -> None:
        """Wait for a request."""
        assert self._arrived.acquire(timeout=10), "the call never came"

    def wait_ended(self) -> float:
        """Wait for the end of its connection, and return when that was."""
        assert self._ended.acquire(timeout=10), "the connection was never closed"
        return self._ended_at


def departures(bench: Bench, view: str, how: str, count: int) -> list[float]:
    """How many milliseconds it takes to be seen by the service, each time."""
    service = SilentService()
    bench.upstream_url = f"http://127.0.0.1:{service.port}"
    times = []
    with bench.serve() as server:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.sendall(f"GET {view} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            service.wait_arrived()
            if how == "resets":
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            gone_at = time.perf_counter()
            client.close()
            times.append((service.wait_ended() - gone_at) * 1000)
    return sorted(times)


def print_departures(bench: Bench, count: int) -> list[str]:
    """Measure how soon clients that go are noticed; return the table."""
    lines = [
        f"From a client's end to that of its view's call, in ms ({count} times):",
        "",
        "| view | client | p50 | p90 | p99 | most |",
        "|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n")
    for view in ("/hang", "/async-hang"):
        for how in ("closes", "resets"):
            times = departures(bench, view, how, count)
            parts = statistics.quantiles(times, n=100)
            figures = (parts[49], parts[89], parts[98], times[-1])
            lines.append(f"| {view} | {how} | {' | '.join(f'{it:.2f}' for it in figures)} |")
            print(lines[-1], flush=True)
    return lines


def load(bench: Bench, servers: dict[str, Server], view: str, seconds: float, kind: str) -> float:
    """Return the processor time per request in µs, of one server in one window."""
    return bench.cpu_us_per_request(
        servers[kind], view, length=LENGTHS[view], connections=64, seconds=seconds
    )


def load_in_blocks(bench: Bench, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return the processor time per request in µs, of each view in each block."""
    found: dict[str, list[dict[str, float]]] = {view: [] for view in LENGTHS}
    with contextlib.ExitStack() as stack:
        sets = [
            {
                kind: stack.enter_context(bench.serve(settings | {"DELAY_MS": "1"}))
                for kind, settings in KINDS.items()
            }
            for _ in range(options.servers)
        ]
        for number in range(options.blocks):
            turn, which = divmod(number, len(sets))
            servers = sets[which]
            # Each kind is the first one equally often.
            first = turn % len(KINDS)
            kinds = [*list(KINDS)[first:], *list(KINDS)[:first]]
            for view, blocks in found.items():
                visit = partial(load, bench, servers, view, options.seconds)
                blocks.append(there_and_back(visit, kinds))
    return found


def print_costs(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Compare the settings; return the table."""
    lines = [
        "Processor time per request in µs, and what watching costs: medians and 95 % intervals.",
        "",
        "| view | watched | unwatched | cost | watched against watched |",
        "|---|---|---|---|---|",
    ]
    for view, blocks in found.items():
        watched, unwatched = (
            statistics.median(block[kind] for block in blocks) for kind in SETTINGS
        )
        cost = estimate(
            [
                (block["watched"] + block["watched too"]) / (2 * block["unwatched"])
                for block in blocks
            ]
        )
        noise = estimate([block["watched too"] / block["watched"] for block in blocks])
        lines.append(f"| {view} | {watched:.1f} | {unwatched:.1f} | {cost} | {noise} |")
    print(*lines, sep="\n", flush=True)
    return lines


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--departures", type=int, default=1000, help="clients that go (1000)")
    parser.add_argument("--blocks", type=int, default=27, help="blocks of windows (27)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a window (0.5)")
    parser.add_argument("--servers", type=int, default=3, help="servers of each kind (3)")
    parser.add_argument(
        "--scripts", type=Path, help="a bin directory with carboy, instead of building it"
    )
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the run")
    options = parser.parse_args()
    bench = Bench(options.scripts)
    lines = print_departures(bench, options.departures) if options.departures else []
    with bench.upstream():
        found = load_in_blocks(bench, options)
    lines += ["", *print_costs(found)]
    write_run(bench, options, "times", lines, {"cpu_us_per_request": found})


if __name__ == "__main__":
    main()
