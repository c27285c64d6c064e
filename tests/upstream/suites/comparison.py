"""Two runs of one suite compared test by test."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suites.execution import CaseReport, Outcome, SuiteRun
from suites.project import HERE

if TYPE_CHECKING:
    from suites.project import Project

ABSENT = CaseReport(Outcome.MISSING, "the test was not run")


@dataclass(frozen=True)
class Regression:
    """A test that ended worse under carboy than under plain Flask."""

    test: str
    before: Outcome
    after: Outcome
    message: str

    def __str__(self) -> str:
        first_line = self.message.partition("\n")[0]
        return f"{self.test}: {self.before.name} -> {self.after.name}: {first_line}"


def find_regressions(baseline: SuiteRun, served: SuiteRun) -> list[Regression]:
    """Return every test that is worse in `served`, among them those that are missing."""
    regressions = []
    for test in baseline.tests | served.tests:
        before = baseline.tests.get(test, CaseReport(Outcome.PASSED))
        after = served.tests.get(test, ABSENT)
        if after.outcome > before.outcome:
            regressions.append(Regression(test, before.outcome, after.outcome, after.message))
    return regressions


def expected_failures(project: Project) -> dict[str, str]:
    """Return the tests of the project that may be worse, with their reasons."""
    table = tomllib.loads((HERE / "expected_failures.toml").read_text())
    return dict(table.get(project.name, {}))


def complaints(project: Project, baseline: SuiteRun, served: SuiteRun) -> list[str]:
    """Return one sentence for each reason why the suite does not count as passed."""
    expected = expected_failures(project)
    regressions = find_regressions(baseline, served)
    found = {regression.test for regression in regressions}
    sentences = [
        f"worse than under plain Flask: {regression}"
        for regression in regressions
        if regression.test not in expected
    ]
    sentences += [
        f"expected to be worse, but is not (remove it from expected_failures.toml): {test}"
        for test in expected
        if test not in found
    ]
    counts = served.statistics
    sent, answered = counts["client_requests"], counts.get("requests", 0)
    # A view whose whole request runs on the loop is not awaited by anything.
    awaits = counts.get("awaits", 0) + counts.get("on_loop", 0)
    if answered < max(sent, project.minimum_requests):
        due = max(sent, project.minimum_requests)
        sentences.append(f"the takeover served {answered} requests, at least {due} are due")
    if awaits < project.minimum_awaits:
        due = project.minimum_awaits
        sentences.append(f"the takeover ran {awaits} coroutines, at least {due} are due")
    return sentences
