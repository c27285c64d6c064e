"""Measures what a client that goes costs, and what it costs to be ready for that:
`python benchmarks/calls/cancellation.py`.

First: from the moment at which a client closes its connection to the moment at which the service
that its view calls sees the end of the view's connection. The service is here, in this process.

Second: requests a second and processor time per request, with clients watched and unwatched
(`CARBOY_CANCEL_ON_DISCONNECT=never`), in rounds that visit each setting by turns.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import threading
import time
from pathlib import Path

from serving import Bench

SETTINGS = {
    "watched": {},
    "unwatched": {"CARBOY_CANCEL_ON_DISCONNECT": "never"},
}
VIEWS = {
    "/three": len(b'{"names":["a","b","c"]}\n'),
    "/three-sync": len(b'{"names":["a","b","c"]}\n'),
    "/async-hello": len(b"Hello, World!"),
    "/hello": len(b"Hello, World!"),
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


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--departures", type=int, default=1000, help="clients that go (1000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of load (7)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a window (4)")
    parser.add_argument(
        "--scripts", type=Path, help="a bin directory with carboy, instead of building it"
    )
    options = parser.parse_args()
    bench = Bench(options.scripts)

    print(f"\nfrom a client's end to that of its view's call, in ms ({options.departures} times)")
    print("view         client      p50    p90    p99   most")
    for view in ("/hang", "/async-hang"):
        for how in ("closes", "resets"):
            times = departures(bench, view, how, options.departures)
            parts = statistics.quantiles(times, n=100)
            print(
                f"{view:<12} {how:<8} {parts[49]:6.2f} {parts[89]:6.2f} {parts[98]:6.2f}"
                f" {times[-1]:6.2f}",
                flush=True,
            )

    print(f"\nCPU us per request, median of {options.rounds} rounds (and requests/s)")
    print("view           watched           unwatched         cost")
    with bench.upstream():
        for view, length in VIEWS.items():
            cpu: dict[str, list[float]] = {name: [] for name in SETTINGS}
            rates: dict[str, list[float]] = {name: [] for name in SETTINGS}
            for number in range(options.rounds):
                names = list(SETTINGS)
                for name in names if number % 2 else reversed(names):
                    with bench.serve(SETTINGS[name] | {"DELAY_MS": "1"}) as server:
                        found = bench.load(
                            server, view, length=length, connections=64, seconds=options.seconds
                        )
                    cpu[name].append(found["cpu_us_per_request"])
                    rates[name].append(found["requests_per_second"])
            middle = {name: statistics.median(values) for name, values in cpu.items()}
            cells = "  ".join(
                f"{middle[name]:6.2f} ({statistics.median(rates[name]):7.0f})" for name in SETTINGS
            )
            cost = middle["watched"] / middle["unwatched"] - 1
            print(f"{view:<13} {cells}  {cost:+7.1%}", flush=True)


if __name__ == "__main__":
    main()
