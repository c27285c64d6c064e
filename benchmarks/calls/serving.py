"""What the benchmarks of calls have in common: the service, the server, the load."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
# For what these have in common with the comparison of servers.
sys.path.append(str(HERE.parent))

from environment import BUILD, Environment, make_environment  # noqa: E402 - Needs the path.
from load_generator import LoadGenerator  # noqa: E402 - Needs the path.
from machine import choose_cores  # noqa: E402 - Needs the path.
from process_usage import process_cpu_seconds, take_snapshot  # noqa: E402 - Needs the path.
from server import Server, free_port  # noqa: E402 - Needs the path.

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOGS = BUILD / "logs"
# Until each connection of a short window has had some answers.
WARM_UP_SECONDS = 0.1


class Bench:
    """The programs that are run, and the cores that they run on."""

    def __init__(self, scripts: Path | None) -> None:
        self.environment: Environment = make_environment(
            with_carboy=True,
            # Servers are started by taskset, which takes a relative path for a name in PATH, and
            # in another directory.
            carboy_scripts=scripts and scripts.resolve(),
        )
        self.server_core, self.load_core = choose_cores()
        LOGS.mkdir(parents=True, exist_ok=True)
        self.upstream_url = ""
        self._upstream: Server | None = None

    @contextlib.contextmanager
    def upstream(self) -> Iterator[None]:
        """Run the service, on the load's core."""
        port = free_port()
        command = (str(self.environment.load / "upstream"), f"127.0.0.1:{port}")
        with Server(
            command,
            port=port,
            core=self.load_core,
            directory=HERE,
            environment={},
            log=LOGS / "upstream.log",
        ) as self._upstream:
            self.upstream_url = f"http://127.0.0.1:{port}"
            yield

    def serve(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        under: tuple[str, ...] = (),
        slowness: float = 1,
    ) -> Server:
        """Return a server of the app, yet to be started, by another program if need be."""
        port = free_port()
        carboy = str(self.environment.carboy_scripts / "carboy")
        command = (*under, carboy, "run", "calls_app:app", "--port", str(port), "--no-access-log")
        return Server(
            command,
            port=port,
            core=self.server_core,
            directory=HERE,
            environment={
                "HOME": os.environ.get("HOME", "/"),
                "LANG": "C.UTF-8",
                "PATH": os.defpath,
                "UPSTREAM": self.upstream_url,
                **(settings or {}),
            },
            log=LOGS / "calls.log",
            slowness=slowness,
        )

    def load_upstream(
        self, target: str, *, length: int, seconds: float, rate: int
    ) -> dict[str, Any]:
        """Load the service itself, and return the generator's report."""
        assert self._upstream is not None, "there is no service"
        return self.load(
            self._upstream, target, length=length, connections=256, seconds=seconds, rate=rate
        )

    def load(
        self,
        server: Server,
        target: str,
        *,
        length: int,
        connections: int,
        seconds: float,
        rate: int | None = None,
    ) -> dict[str, Any]:
        """Load a server, and return the generator's report with what the server has used."""
        generator = self._generator(server, target, length, connections)
        report, start, end = generator.run(
            warm_up=min(1.0, seconds),
            seconds=seconds,
            rate=rate,
            snapshot=lambda: take_snapshot(
                server.session, server_core=self.server_core, load_core=self.load_core
            ),
        )
        used = end.server.cpu_seconds - start.server.cpu_seconds
        return {
            **report,
            "cpu_us_per_request": used * 1e6 / max(report["requests"], 1),
            "threads": end.server.threads,
            "resident_mib": end.server.resident_bytes / 2**20,
        }

    def cpu_us_per_request(
        self, server: Server, target: str, *, length: int, connections: int, seconds: float
    ) -> float:
        """Load a server for a short time, and return its processor time by a request."""
        generator = self._generator(server, target, length, connections)
        report, start, end = generator.run(
            warm_up=WARM_UP_SECONDS,
            seconds=seconds,
            # It was started as the leader of its session.
            snapshot=lambda: process_cpu_seconds(server.session),
        )
        return (end - start) * 1e6 / float(report["requests"])

    def _generator(
        self, server: Server, target: str, length: int, connections: int
    ) -> LoadGenerator:
        return LoadGenerator(
            self.environment.load / "load_generator",
            core=self.load_core,
            port=server.port,
            target=target,
            length=length,
            connections=connections,
        )
