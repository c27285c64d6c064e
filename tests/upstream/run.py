"""Runs neighbouring projects' own test suites under plain Flask and on carboy.

Each suite's source distribution is downloaded once to `.build/upstream`, and
installed into a virtual environment there. The suite then runs three ways:

- under plain Flask, as the baseline;
- with `-p carboy.testing.takeover`, where carboy serves each client's request;
- for Flask's own suite, also over real sockets to a live server.

No test may be worse than in the baseline on the same machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from suites.comparison import complaints
from suites.environment import carboy_is_installed, create_environment
from suites.exclusions import judge_socket_pass
from suites.execution import Outcome, SuiteRun, run_suite
from suites.project import BUILD, fetch_source, load_projects
from suites.table import format_table

TAKEOVER = "carboy.testing.takeover"
COUNTER = "suite_statistics"
HEADING = ("suite", "plain passed", "plain failed", "passed", "failed", "requests", "awaits")


def main(arguments: list[str] | None = None) -> int:
    """Run the suites that the command line names and return the exit status."""
    options = parse_arguments(arguments)
    projects = load_projects()
    chosen = [projects[name] for name in options.suites or projects]
    if not (options.baseline_only or carboy_is_installed()):
        print(f"upstream: carboy is not installed for {sys.executable}", file=sys.stderr)
        return 2
    flask_source = options.flask_source and options.flask_source.resolve()
    interpreter = create_environment(projects.values(), flask_source)
    rows: list[tuple[str, ...]] = [HEADING]
    found: list[str] = []
    for project in chosen:
        development = flask_source is not None and project.name == "flask"
        source = flask_source if development else fetch_source(project)
        name = f"{project.name} (source)" if development else project.name
        results = BUILD / "results" / project.name
        print(f"upstream: {name}, plain Flask", flush=True)
        baseline = run_suite(interpreter, source, results / "plain", [COUNTER])
        if options.baseline_only:
            rows.append(row(name, baseline, None))
        else:
            print(f"upstream: {name}, {TAKEOVER}", flush=True)
            served = run_suite(interpreter, source, results / "takeover", [COUNTER, TAKEOVER])
            rows.append(row(name, baseline, served))
            found += [f"{name}: {line}" for line in complaints(project, baseline, served)]
        if project.name == "flask" and not (options.baseline_only and not options.socket_server):
            server = options.socket_server or "carboy"
            print(f"upstream: {name}, over sockets to {server}", flush=True)
            plugins = [COUNTER, "socket_pass"]
            option = f"--socket-server={server}"
            served = run_suite(interpreter, source, results / "socket", plugins, option)
            rows.append(row(f"{name}, sockets", baseline, served))
            verdict = judge_socket_pass(baseline, served)
            # The list is made for the released Flask; another line may do better.
            judged = verdict.complaints + ([] if development else verdict.stale)
            found += [f"{name}, sockets: {line}" for line in judged]
            print(
                f"upstream: {verdict.passed} of {verdict.sending} tests that send requests pass"
                f" over sockets, {verdict.excluded} are left out with a reason"
            )
    print(format_table(rows))
    for line in found:
        print(f"upstream: {line}", file=sys.stderr)
    return 1 if found else 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", choices=[[], *load_projects()], metavar="SUITE")
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


def row(name: str, baseline: SuiteRun, served: SuiteRun | None) -> tuple[str, ...]:
    """Return one line of the table."""
    before = (str(baseline.count(Outcome.PASSED)), str(baseline.failed))
    if served is None:
        return (name, *before, "-", "-", str(baseline.statistics["client_requests"]), "-")
    counts = served.statistics
    requests = counts.get("requests", counts["client_requests"])
    after = (str(served.count(Outcome.PASSED)), str(served.failed))
    return (name, *before, *after, str(requests), str(counts.get("awaits", "-")))


if __name__ == "__main__":
    raise SystemExit(main())
