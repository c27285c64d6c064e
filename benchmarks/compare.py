"""Compares carboy with its peers: `python benchmarks/compare.py --help`.

The interpreter that runs this only needs the standard library; the benchmark
environment is made with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import kept_runs
import machine
import report
from environment import BUILD, make_environment
from load_generator import LoadFailedError
from measurement import Bench, Settings
from peers import PEERS, Peer
from server import ServerFailedError
from workloads import WORKLOADS, Workload, WrongAnswerError

if TYPE_CHECKING:
    from collections.abc import Sequence

Choice = TypeVar("Choice", Peer, Workload)

MeasurementFailed = (LoadFailedError, ServerFailedError, WrongAnswerError)


def main() -> int:
    options = parse_options()
    # A plain `kill` must take the servers down too, so it becomes an exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    started = time.monotonic()
    peers = select(PEERS, options.only, "peer")
    workloads = select(WORKLOADS, options.workload, "workload")
    environment = make_environment(
        with_carboy=any(peer.name == "carboy" for peer in peers),
        carboy_scripts=options.carboy_scripts,
    )
    settings = make_settings(options)
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    directory = options.output or run_directory(options, date)
    logs = BUILD / "logs" / directory.name
    logs.mkdir(parents=True, exist_ok=True)
    description = machine.describe(environment)
    # The servers have their core to themselves.
    os.sched_setaffinity(0, {settings.load_core})
    bench = Bench(environment, settings, logs)
    results: dict[str, Any] = {
        "date": date,
        "machine": description,
        "settings": dataclasses.asdict(settings),
        "workloads": [workload.name for workload in workloads],
        "peers": {
            peer.name: {
                **dataclasses.asdict(peer),
                "example_command": " ".join(environment.command(peer, port=8000)),
            }
            for peer in peers
        },
        "failures": [],
        "rounds": [],
    }
    with bench.upstream():
        peers = check_all(bench, peers, workloads, results["failures"])
        measure_all(bench, peers, workloads, results)
    results["minutes"] = (time.monotonic() - started) / 60
    print("\n" + report.write(results, directory))
    print(f"written to {directory}; the servers' own output is in {logs}")
    return 1 if results["failures"] else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares carboy with its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round, as a trial")
    parser.add_argument("--rounds", type=int, help="rounds of each measurement (3)")
    parser.add_argument("--seconds", type=float, help="length of the timed window (5)")
    parser.add_argument("--only", metavar="PEER,PEER", help=names(PEERS))
    parser.add_argument("--workload", metavar="NAME,NAME", help=names(WORKLOADS))
    parser.add_argument("--connections", type=int, default=64, help="keep-alive connections (64)")
    parser.add_argument("--server-core", type=int, help="the core that the server is bound to")
    parser.add_argument("--load-core", type=int, help="the core of load generator and upstream")
    parser.add_argument(
        "--carboy-scripts",
        type=Path,
        metavar="DIRECTORY",
        help="use the carboy command in this scripts directory instead of building carboy",
    )
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the run")
    return parser.parse_args()


def names(choices: Sequence[Peer | Workload]) -> str:
    return "of " + ", ".join(choice.name for choice in choices)


def select(choices: Sequence[Choice], wanted: str | None, kind: str) -> list[Choice]:
    """Return the choices that the option names, or all of them without the option."""
    if wanted is None:
        return list(choices)
    by_name = {choice.name: choice for choice in choices}
    unknown = [name for name in wanted.split(",") if name not in by_name]
    if unknown:
        sys.exit(f"no {kind} is named {', '.join(unknown)}: choose {names(choices)}")
    return [by_name[name] for name in wanted.split(",")]


def make_settings(options: argparse.Namespace) -> Settings:
    server_core, load_core = machine.choose_cores()
    quick = options.quick
    return Settings(
        rounds=options.rounds or (1 if quick else 3),
        seconds=options.seconds or (2.0 if quick else 5.0),
        warm_up=1.0 if quick else 2.0,
        fixed_rate_seconds=1.0 if quick else 2.0,
        fixed_rate_warm_up=0.25,
        connections=options.connections,
        server_core=server_core if options.server_core is None else options.server_core,
        load_core=load_core if options.load_core is None else options.load_core,
    )


def run_directory(options: argparse.Namespace, date: str) -> Path:
    """Return a new directory, which is among the kept runs only if the run is a whole one."""
    partial = (options.quick, options.rounds, options.seconds, options.only, options.workload)
    return kept_runs.make_directory(date, "", is_whole=not any(partial), build=BUILD)


def check_all(
    bench: Bench, peers: list[Peer], workloads: list[Workload], failures: list[str]
) -> list[Peer]:
    """Check the answers of every peer before any is timed; return those that are right."""
    right = []
    for peer in peers:
        print(f"checking {peer.title} ... ", end="", flush=True)
        try:
            bench.check(peer, workloads)
        except MeasurementFailed as error:
            failures.append(f"{peer.title}: {error}.")
            print(f"failed: {error}", flush=True)
        else:
            right.append(peer)
            print("right", flush=True)
    return right


def measure_all(
    bench: Bench, peers: list[Peer], workloads: list[Workload], results: dict[str, Any]
) -> None:
    """Measure in rounds, each of which visits every peer, so that no peer has all the
    good or all the bad minutes of the machine."""
    for workload in workloads:
        for number in range(1, bench.settings.rounds + 1):
            for peer in peers:
                if workload.name not in peer.workloads:
                    continue
                try:
                    figures = bench.measure(peer, workload)
                except MeasurementFailed as error:
                    failure = f"{peer.title} at {workload.name}, round {number}: {error}."
                    results["failures"].append(failure)
                    print(f"failed: {failure}", flush=True)
                    continue
                results["rounds"].append(
                    {"workload": workload.name, "round": number, "peer": peer.name, **figures}
                )
                print(
                    f"{workload.name} {number}/{bench.settings.rounds}  {peer.title:36}"
                    f"{figures['requests_per_second']:10,.0f} requests/s"
                    f"{figures['cpu_us_per_request']:10.1f} µs CPU/request",
                    flush=True,
                )


if __name__ == "__main__":
    sys.exit(main())
