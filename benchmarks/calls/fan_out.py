"""Measures dependent calls in a view: `python benchmarks/calls/fan_out.py`.

A and B together, C after A, D after B and C, 20 ms each: 60 ms at best. At 500 requests a second,
which are due at fixed times whatever the server does, on one core; then with 1,000 requests in
flight all the time. Further, a view that makes three calls at once, under full load, and one that
answers the same without calls: the difference is what the calls cost.

The first line says how long the service takes by itself, for as many calls a second as the views
make.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from serving import Bench

CRITICAL_PATH_MS = 60
CALLS_IN_A_VIEW = 4
VIEWS = ("/result", "/returned", "/awaited")
LENGTH = len(b'{"b":"b","c":"c","d":"d"}\n')
THREE_LENGTH = len(b'{"names":["a","b","c"]}\n')


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="length of a window (10)")
    parser.add_argument("--rate", type=int, default=500, help="requests a second (500)")
    parser.add_argument("--in-flight", type=int, default=1000, help="requests at once (1000)")
    parser.add_argument(
        "--scripts", type=Path, help="a bin directory with carboy, instead of building it"
    )
    options = parser.parse_args()
    bench = Bench(options.scripts)
    with bench.upstream():
        alone = bench.load_upstream(
            "/a?20", length=len(b'{"name":"a"}'), seconds=3, rate=CALLS_IN_A_VIEW * options.rate
        )["latency_us"]
        print(f"one call: p50 {alone['p50'] / 1000:.2f} ms, p99 {alone['p99'] / 1000:.2f} ms")
        print(f"\n{options.rate} requests a second, open loop")
        print("view          p50 ms   p99 ms  over path p50  CPU us  threads  RSS MiB")
        for view in VIEWS:
            with bench.serve() as server:
                found = bench.load(
                    server,
                    view,
                    length=LENGTH,
                    connections=256,
                    seconds=options.seconds,
                    rate=options.rate,
                )
            latency = found["latency_us"]
            p50, p99 = latency["p50"] / 1000, latency["p99"] / 1000
            print(
                f"{view:<12} {p50:7.2f}  {p99:7.2f}  {p50 - CRITICAL_PATH_MS:13.2f}"
                f"  {found['cpu_us_per_request']:6.0f}  {found['threads']:7}"
                f"  {found['resident_mib']:7.1f}",
                flush=True,
            )
        print(f"\n{options.in_flight} requests in flight, closed loop")
        print("view         requests/s   p50 ms   p99 ms  CPU us  threads  RSS MiB")
        for view in VIEWS:
            with bench.serve() as server:
                found = bench.load(
                    server,
                    view,
                    length=LENGTH,
                    connections=options.in_flight,
                    seconds=options.seconds,
                )
            latency = found["latency_us"]
            print(
                f"{view:<12} {found['requests_per_second']:10.0f}"
                f"  {latency['p50'] / 1000:7.2f}  {latency['p99'] / 1000:7.2f}"
                f"  {found['cpu_us_per_request']:6.0f}  {found['threads']:7}"
                f"  {found['resident_mib']:7.1f}",
                flush=True,
            )
        print("\nthree calls at once, or none; 64 connections, closed loop")
        print("view         requests/s  CPU us")
        for view in ("/three", "/none", "/three-sync", "/none-sync"):
            with bench.serve({"DELAY_MS": "10"}) as server:
                found = bench.load(
                    server, view, length=THREE_LENGTH, connections=64, seconds=options.seconds
                )
            print(
                f"{view:<12} {found['requests_per_second']:10.0f}"
                f"  {found['cpu_us_per_request']:6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
