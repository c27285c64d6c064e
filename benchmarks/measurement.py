"""Measures one server at one workload, once."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from load_generator import LoadGenerator
from process_usage import take_snapshot
from server import Server, free_port
from workloads import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from environment import Environment
    from peers import Peer
    from process_usage import Snapshot
    from workloads import Workload


@dataclass(frozen=True)
class Settings:
    """What all measurements of a run have in common. Times are in seconds."""

    rounds: int
    seconds: float
    warm_up: float
    fixed_rate_seconds: float
    fixed_rate_warm_up: float
    connections: int
    server_core: int
    load_core: int


class Bench:
    """Everything that stays the same from one measurement to the next."""

    def __init__(self, environment: Environment, settings: Settings, logs: Path) -> None:
        self.environment = environment
        self.settings = settings
        self.logs = logs
        self._upstream = ""

    @contextlib.contextmanager
    def upstream(self) -> Iterator[None]:
        """Run the slow service that the fan-out calls, on the load's core."""
        port = free_port()
        with Server(
            (str(self.environment.load / "upstream"), f"127.0.0.1:{port}"),
            port=port,
            core=self.settings.load_core,
            directory=self.environment.apps,
            environment={},
            log=self.logs / "upstream.log",
        ):
            self._upstream = f"http://127.0.0.1:{port}"
            yield

    def serve(self, peer: Peer) -> Server:
        """Return the server of a peer, yet to be started."""
        port = free_port()
        return Server(
            self.environment.command(peer, port=port),
            port=port,
            core=self.settings.server_core,
            directory=self.environment.apps,
            environment={
                "HOME": os.environ.get("HOME", "/"),
                "LANG": "C.UTF-8",
                "PATH": os.defpath,
                # Servers differ in whether the working directory is importable.
                "PYTHONPATH": str(self.environment.apps),
                "UPSTREAM": self._upstream,
            },
            log=self.logs / f"{peer.name}.log",
        )

    def check(self, peer: Peer, workloads: list[Workload]) -> None:
        """Start a server and check its answers to all the workloads that it has."""
        with self.serve(peer) as server:
            for workload in workloads:
                if workload.name in peer.workloads:
                    check(server.port, workload, peer.prefix(workload.name))

    def measure(self, peer: Peer, workload: Workload) -> dict[str, Any]:
        """Start a server anew, check it, measure it under full load and at a fixed rate."""
        settings = self.settings
        prefix = peer.prefix(workload.name)
        target = prefix + workload.questions[0].target
        with self.serve(peer) as server:
            load = LoadGenerator(
                self.environment.load / "load_generator",
                core=settings.load_core,
                port=server.port,
                target=target,
                length=check(server.port, workload, prefix),
                connections=settings.connections,
            )
            snapshot = partial(
                take_snapshot,
                server.session,
                server_core=settings.server_core,
                load_core=settings.load_core,
            )
            full, start, end = load.run(
                warm_up=settings.warm_up, seconds=settings.seconds, snapshot=snapshot
            )
            calm, _, _ = load.run(
                warm_up=settings.fixed_rate_warm_up,
                seconds=settings.fixed_rate_seconds,
                snapshot=snapshot,
                rate=workload.fixed_rate,
            )
        return {
            "target": target,
            **_full_load_figures(full, start, end),
            "latency_us": full["latency_us"],
            "fixed_rate": {
                **calm["fixed_rate"],
                "requests": calm["requests"],
                "latency_us": calm["latency_us"],
            },
        }


def _full_load_figures(report: dict[str, Any], start: Snapshot, end: Snapshot) -> dict[str, Any]:
    """Turn two snapshots into differences, and the server's CPU time into one per request."""
    seconds = end.time - start.time
    cpu_seconds = end.server.cpu_seconds - start.server.cpu_seconds
    core_busy = end.server_core.busy - start.server_core.busy
    stolen = (
        end.server_core.stolen
        - start.server_core.stolen
        + end.load_core.stolen
        - start.load_core.stolen
    )
    return {
        "requests": report["requests"],
        "requests_per_second": report["requests_per_second"],
        "reconnects": report["reconnects"],
        "window_seconds": seconds,
        "server_cpu_seconds": cpu_seconds,
        "cpu_us_per_request": cpu_seconds * 1e6 / report["requests"]
        if report["requests"]
        else None,
        "server_core_share": cpu_seconds / seconds,
        # What ran on the server's core and was not the server.
        "strangers_core_share": max(core_busy - cpu_seconds, 0.0) / seconds,
        "stolen_share": stolen / seconds / 2,
        "load_core_share": report["load_cpu_seconds"] / report["window_seconds"],
        "resident_bytes": end.server.resident_bytes,
        "processes": end.server.processes,
        "threads": end.server.threads,
    }
