"""Judges a socket pass by the list of tests that a socket cannot carry."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suites.execution import Outcome
from suites.project import HERE

if TYPE_CHECKING:
    from suites.execution import CaseReport, SuiteRun
    from suites.project import Project


@dataclass(frozen=True)
class Exclusion:
    """A test left out of the socket pass, and what must be observed in it."""

    test: str
    category: str
    reason: str


def load_exclusions(project: Project) -> dict[str, Exclusion]:
    """Read the project's part of `socket_exclusions.toml`, by test identifier."""
    table = tomllib.loads((HERE / "socket_exclusions.toml").read_text())
    return {
        test: Exclusion(test, category, entry["reason"])
        for category, entry in table.get(project.name, {}).items()
        for test in entry["tests"]
    }


def find_exclusion(exclusions: dict[str, Exclusion], test: str) -> Exclusion | None:
    """Return the exclusion of a test, named with or without its parameter."""
    return exclusions.get(test) or exclusions.get(test.partition("[")[0])


@dataclass(frozen=True)
class SocketVerdict:
    """What a socket pass came to.

    `stale` names the tests that are on the list and yet pass.
    """

    sending: int
    passed: int
    excluded: int
    stale: list[str]
    complaints: list[str]


def judge_socket_pass(project: Project, baseline: SuiteRun, served: SuiteRun) -> SocketVerdict:
    """Compare a socket pass with the run under plain Flask.

    Only tests that send requests count; the others have nothing to do with the
    socket. A test that fails under plain Flask is not judged.
    """
    exclusions = load_exclusions(project)
    stale: list[str] = []
    complaints: list[str] = []
    sending = {test: report for test, report in baseline.tests.items() if sends_requests(report)}
    passed = excluded = 0
    for test, before in sending.items():
        after = served.tests.get(test)
        exclusion = find_exclusion(exclusions, test)
        if after is None:
            complaints.append(f"not run: {test}")
        elif after.outcome == Outcome.PASSED:
            passed += 1
            if exclusion is not None:
                stale.append(f"passes, so remove it from socket_exclusions.toml: {test}")
        elif exclusion is None:
            if before.outcome == Outcome.PASSED:
                first_line = after.message.partition("\n")[0]
                complaints.append(f"fails over the socket: {test}: {first_line}")
        else:
            excluded += 1
            observed = after.properties.get("not_carried", [])
            if exclusion.category not in observed:
                complaints.append(f"left out for {exclusion.category}, observed {observed}: {test}")
    minimum = project.minimum_over_sockets
    if passed < minimum:
        complaints.append(f"{passed} tests pass over the socket, at least {minimum} are due")
    return SocketVerdict(len(sending), passed, excluded, stale, complaints)


def sends_requests(report: CaseReport) -> bool:
    """Say whether a test sent a request through a test client."""
    return any(int(count) > 0 for count in report.properties.get("client_requests", []))
