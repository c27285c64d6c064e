"""Neighbouring projects' suites are not worse on carboy than under plain Flask."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from suites.comparison import complaints, find_regressions
from suites.environment import create_environment
from suites.exclusions import judge_socket_pass, load_exclusions
from suites.execution import CaseReport, Outcome, SuiteRun, run_suite
from suites.project import BUILD, Project, fetch_source, load_projects

if TYPE_CHECKING:
    from pathlib import Path

PROJECTS = load_projects()


@pytest.fixture(scope="module")
def interpreter() -> Path:
    """The interpreter of the suites' environment, made by the first run."""
    return create_environment(PROJECTS.values(), None)


@functools.cache
def run(interpreter: Path, project: Project, plugin: str | None) -> SuiteRun:
    """Run a suite once, however many tests ask for it."""
    arguments = [*project.options, *(["-p", plugin] if plugin else [])]
    results = BUILD / "results" / project.name / (plugin or "plain")
    return run_suite(interpreter, fetch_source(project), results, *arguments)


@pytest.mark.parametrize("project", PROJECTS.values(), ids=PROJECTS)
def test_suite_passes_with_takeover(interpreter: Path, project: Project) -> None:
    baseline = run(interpreter, project, None)
    served = run(interpreter, project, "carboy.testing.takeover")
    assert complaints(project, baseline, served) == []


@pytest.mark.parametrize("project", PROJECTS.values(), ids=PROJECTS)
def test_suite_passes_over_sockets(interpreter: Path, project: Project) -> None:
    baseline = run(interpreter, project, None)
    served = run(interpreter, project, "socket_pass")
    verdict = judge_socket_pass(project, baseline, served)
    assert verdict.complaints + verdict.stale == []


def suite_run(sent: int, takeover: int, **outcomes: Outcome) -> SuiteRun:
    """Make up a run, for the tests of the runner itself."""
    statistics = {"client_requests": sent, "requests": takeover, "awaits": takeover, "on_loop": 0}
    return SuiteRun({name: CaseReport(end) for name, end in outcomes.items()}, statistics, "")


def test_runner_sees_a_test_that_got_worse_or_went_missing() -> None:
    baseline = suite_run(0, 0, a=Outcome.PASSED, b=Outcome.FAILED, c=Outcome.PASSED)
    served = suite_run(0, 0, a=Outcome.SKIPPED, b=Outcome.FAILED, d=Outcome.ERROR)
    found = {
        (regression.test, regression.after) for regression in find_regressions(baseline, served)
    }
    assert found == {("a", Outcome.SKIPPED), ("c", Outcome.MISSING), ("d", Outcome.ERROR)}


def test_runner_refuses_a_takeover_that_serves_nothing() -> None:
    baseline = suite_run(500, 0, a=Outcome.PASSED)
    assert complaints(PROJECTS["flask"], baseline, suite_run(500, 500, a=Outcome.PASSED)) == []
    assert len(complaints(PROJECTS["flask"], baseline, suite_run(500, 0, a=Outcome.PASSED))) == 2


def test_socket_pass_refuses_an_exclusion_without_its_reason() -> None:
    flask = PROJECTS["flask"]
    excluded = next(iter(load_exclusions(flask).values()))
    sent = {"client_requests": ["1"]}
    baseline = SuiteRun({excluded.test: CaseReport(Outcome.PASSED, properties=sent)}, {}, "")
    for observed, refused in ([excluded.category], False), (["another-reason"], True):
        report = CaseReport(Outcome.FAILED, properties=sent | {"not_carried": observed})
        verdict = judge_socket_pass(flask, baseline, SuiteRun({excluded.test: report}, {}, ""))
        assert any("left out for" in line for line in verdict.complaints) is refused
    verdict = judge_socket_pass(flask, baseline, baseline)
    assert [excluded.test in line for line in verdict.stale] == [True]
