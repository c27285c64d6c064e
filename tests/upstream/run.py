"""Runs neighbouring projects' own test suites under plain Flask and on carboy.

Each suite's source distribution is downloaded once to `.build/upstream`, and
installed into a virtual environment there. The suite then runs three ways:

- under plain Flask, as the baseline;
- with `-p carboy.testing.takeover`, where carboy serves each client's request;
- over real sockets to a live server.

The suites of HTTP clients and of their mocks run without carboy and with
`carboy.install` in force.

No test may be worse than in the baseline on the same machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from suites.clients import client_complaints, load_client_projects, run_client_suite
from suites.comparison import complaints
from suites.environment import carboy_is_installed, create_environment
from suites.exclusions import judge_socket_pass
from suites.execution import Outcome, SuiteRun, run_suite
from suites.project import BUILD, Project, fetch_source, load_projects
from suites.table import format_table

if TYPE_CHECKING:
    from suites.clients import ClientProject

HEADING = ("suite", "passed", "failed", "skipped", "requests", "coroutines")


def main(arguments: list[str] | None = None) -> int:
    """Run the suites that the command line names and return the exit status."""
    options = parse_arguments(arguments)
    projects = load_projects()
    clients = load_client_projects()
    if not (options.baseline_only or carboy_is_installed()):
        print(f"upstream: carboy is not installed for {sys.executable}", file=sys.stderr)
        return 2
    flask_source = options.flask_source and options.flask_source.resolve()
    server = options.socket_server or ("" if options.baseline_only else "carboy")
    names = options.suites or [*projects, *clients]
    session = Session()
    if any(name in projects for name in names):
        session.interpreter = create_environment(projects.values(), flask_source)
    for name in names:
        if name in clients:
            session.run_client(clients[name], baseline_only=options.baseline_only)
            continue
        project = projects[name]
        source = flask_source if name == "flask" and flask_source else fetch_source(project)
        baseline = session.run_baseline(project, source)
        if not options.baseline_only:
            session.run_takeover(project, source, baseline)
        if server:
            # The list of tests left out is made for the released Flask; with
            # another line, a test that passes is no reason to change the list.
            session.run_sockets(project, source, baseline, server, strict=flask_source is None)
    print(format_table(session.rows))
    for line in session.complaints:
        print(f"upstream: {line}", file=sys.stderr)
    return 1 if session.complaints else 0


class Session:
    """Collects the lines of the table and the complaints of all runs."""

    def __init__(self) -> None:
        self.interpreter = Path()
        self.rows: list[tuple[str, ...]] = [HEADING]
        self.complaints: list[str] = []

    def run_baseline(self, project: Project, source: Path) -> SuiteRun:
        """Run the suite under plain Flask."""
        baseline = self.run(project, source, "plain")
        self.add_row(project.name, baseline)
        return baseline

    def run_client(self, project: ClientProject, *, baseline_only: bool) -> None:
        """Run the suite of a client or of a mock, without carboy and with it below."""
        baseline = run_client_suite(project, is_installed=False)
        self.add_row(project.name, baseline)
        if not baseline_only:
            installed = run_client_suite(project, is_installed=True)
            self.add_row(f"{project.name}, installed", installed)
            self.complain(project.name, client_complaints(project, baseline, installed))

    def run_takeover(self, project: Project, source: Path, baseline: SuiteRun) -> None:
        """Run the suite with each test client's request served by carboy."""
        served = self.run(project, source, "takeover", "-p", "carboy.testing.takeover")
        self.add_row(f"{project.name}, takeover", served)
        self.complain(project.name, complaints(project, baseline, served))

    def run_sockets(
        self, project: Project, source: Path, baseline: SuiteRun, server: str, *, strict: bool
    ) -> None:
        """Run the suite with each test client's request sent over a socket."""
        label = f"{project.name}, sockets"
        option = f"--socket-server={server}"
        served = self.run(project, source, f"sockets-{server}", "-p", "socket_pass", option)
        self.add_row(label, served)
        verdict = judge_socket_pass(project, baseline, served)
        self.complain(label, verdict.complaints + (verdict.stale if strict else []))
        print(
            f"upstream: {verdict.passed} of {verdict.sending} tests that send requests pass"
            f" over sockets to {server}, {verdict.excluded} are left out with a reason"
        )

    def run(self, project: Project, source: Path, label: str, *arguments: str) -> SuiteRun:
        """Run the suite once."""
        print(f"upstream: {project.name}, {label}", flush=True)
        results = BUILD / "results" / project.name / label
        return run_suite(self.interpreter, source, results, *project.options, *arguments)

    def add_row(self, name: str, run: SuiteRun) -> None:
        """Add one line to the table."""
        counts = run.statistics
        requests = str(counts.get("requests", counts["client_requests"]))
        coroutines = str(counts["awaits"] + counts.get("on_loop", 0)) if "awaits" in counts else "-"
        passed = str(run.count(Outcome.PASSED))
        skipped = str(run.count(Outcome.SKIPPED))
        self.rows.append((name, passed, str(run.failed), skipped, requests, coroutines))

    def complain(self, name: str, sentences: list[str]) -> None:
        """Note why a run does not count as passed."""
        self.complaints += [f"{name}: {sentence}" for sentence in sentences]


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "suites",
        nargs="*",
        choices=[[], *load_projects(), *load_client_projects()],
        metavar="SUITE",
    )
    parser.add_argument(
        "--flask-source",
        type=Path,
        metavar="PATH",
        help="run the Flask suite of this checkout, with that Flask installed",
    )
    parser.add_argument(
        "--baseline-only", action="store_true", help="run under plain Flask, without carboy"
    )
    parser.add_argument(
        "--socket-server",
        choices=["carboy", "werkzeug"],
        help="what serves the socket pass; werkzeug is the control",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
