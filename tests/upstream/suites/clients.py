"""The suites of HTTP clients and of their mocks, run with `carboy.install` in force."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suites.comparison import find_regressions
from suites.environment import carboy_requirements, install, link_carboy
from suites.execution import Outcome, SuiteRun, run_suite
from suites.network import silent_network
from suites.project import BUILD, HERE, fetch_source

if TYPE_CHECKING:
    from pathlib import Path

CONSTRAINTS = HERE / "client_constraints.txt"


@dataclass(frozen=True)
class ClientProject:
    """A project whose suite is run, as `clients.toml` describes it."""

    name: str
    requirement: str
    sha256: str
    needs: tuple[str, ...]
    loose: tuple[str, ...]
    install: tuple[str, ...]
    options: tuple[str, ...]
    most_worse: int
    minimum_requests: int
    worse: dict[str, str]
    unsteady: dict[str, str]
    needs_silence: bool


def load_client_projects() -> dict[str, ClientProject]:
    """Read `clients.toml`, in the order of the file."""
    table = tomllib.loads((HERE / "clients.toml").read_text())
    return {
        name: ClientProject(
            name=name,
            requirement=entry["requirement"],
            sha256=entry["sha256"],
            needs=tuple(entry["needs"]),
            loose=tuple(entry.get("loose", ())),
            install=tuple(entry["install"]),
            options=tuple(entry.get("options", ())),
            most_worse=entry.get("most_worse", 0),
            minimum_requests=entry["minimum_requests"],
            worse=dict(entry.get("worse", {})),
            unsteady=dict(entry.get("unsteady", {})),
            needs_silence=entry.get("needs_silence", False),
        )
        for name, entry in table.items()
    }


def client_environment(project: ClientProject) -> Path:
    """Return the interpreter of the suite's own environment, making it if need be.

    Each suite has its own, because the plugins of one get in the way of another.
    """
    requirements = [project.requirement, *project.needs, "pytest", *carboy_requirements()]
    environment = BUILD / f"venv-client-{project.name}-{sys.implementation.cache_tag}"
    interpreter = environment / "bin" / "python"
    stamp = environment / "installed.sha256"
    pins = CONSTRAINTS.read_text()
    wanted = hashlib.sha256("\n".join([*requirements, *project.loose, pins]).encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == wanted):
        print(f"upstream: creating {environment} and installing what {project.name} needs")
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
        install(interpreter, requirements, CONSTRAINTS)
        if project.loose:
            install(interpreter, ["--no-deps", *project.loose], CONSTRAINTS)
        stamp.write_text(wanted)
    link_carboy(environment)
    return interpreter


def run_client_suite(project: ClientProject, *, is_installed: bool) -> SuiteRun:
    """Run the suite once, with carboy below its libraries or without."""
    label = "installed" if is_installed else "plain"
    print(f"upstream: {project.name}, {label}", flush=True)
    results = BUILD / "results" / project.name / label
    results.mkdir(parents=True, exist_ok=True)
    statistics = results / "client-statistics.json"
    statistics.unlink(missing_ok=True)
    arguments = ["-p", "installed_clients", f"--client-statistics={statistics}"]
    arguments += [option for option in project.options if is_installed or option != HTTPBIN]
    if is_installed:
        arguments += [f"--install={library}" for library in project.install]
    prefix = silent_network() if project.needs_silence else ()
    interpreter, source = client_environment(project), fetch_source(project)
    run = run_suite(interpreter, source, results, *arguments, prefix=prefix)
    run.statistics.update(json.loads(statistics.read_text()))
    return run


#: Lets carboy serve httpbin. The baseline has pytest-httpbin's own server.
HTTPBIN = "--httpbin=carboy"


def client_complaints(project: ClientProject, baseline: SuiteRun, installed: SuiteRun) -> list[str]:
    """Return one sentence for each reason why the suite does not count as passed."""
    regressions = {found.test: found for found in find_regressions(baseline, installed)}
    sentences = [
        f"worse with carboy installed: {regression}"
        for test, regression in regressions.items()
        if test not in project.worse and test not in project.unsteady
    ]
    sentences += [
        f"listed as worse, but is not (remove it from clients.toml): {test}"
        for test in project.worse
        # What fails without carboy, too, says nothing.
        if test not in regressions and has_passed(baseline, test)
    ]
    listed = len(project.worse) + len(project.unsteady)
    if listed > project.most_worse:
        sentences.append(f"{listed} tests are worse, {project.most_worse} may be")
    sent = installed.statistics["requests"]
    if sent < project.minimum_requests:
        due = project.minimum_requests
        sentences.append(f"{sent} requests went through carboy's pool, at least {due} are due")
    if not baseline.count(Outcome.PASSED):
        sentences.append("no test passes without carboy")
    return sentences


def has_passed(run: SuiteRun, test: str) -> bool:
    """Say whether a test was run and passed."""
    return test in run.tests and run.tests[test].outcome == Outcome.PASSED
