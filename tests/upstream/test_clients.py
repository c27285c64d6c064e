"""Suites of HTTP clients and of their mocks are not worse with `carboy.install` in force."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from suites.clients import ClientProject, client_complaints, load_client_projects, run_client_suite
from suites.execution import CaseReport, Outcome, SuiteRun

PROJECTS = load_client_projects()

FAST = ("requests-mock", "responses")
"""Suites that take some seconds; the first run downloads and installs as well."""


@pytest.mark.parametrize(
    "project",
    [
        pytest.param(project, id=name, marks=[] if name in FAST else pytest.mark.slow)
        for name, project in PROJECTS.items()
    ],
)
def test_suite_passes_with_carboy_installed(project: ClientProject) -> None:
    baseline = run_client_suite(project, is_installed=False)
    installed = run_client_suite(project, is_installed=True)
    assert client_complaints(project, baseline, installed) == []


def suite_run(requests: int, **outcomes: Outcome) -> SuiteRun:
    """Make up a run, for the tests of the runner itself."""
    reports = {name: CaseReport(end) for name, end in outcomes.items()}
    return SuiteRun(reports, {"requests": requests}, "")


@pytest.mark.parametrize(
    ("changes", "installed", "complaint"),
    [
        ({}, suite_run(50, a=Outcome.FAILED, b=Outcome.FAILED), "worse with carboy installed: a"),
        ({}, suite_run(50, b=Outcome.FAILED), "worse with carboy installed: a"),
        ({"worse": {"a": "reason"}}, suite_run(50, a=Outcome.PASSED, b=Outcome.FAILED), "is not"),
        (
            {"worse": {"a": "reason"}, "most_worse": 0},
            suite_run(50, a=Outcome.FAILED, b=Outcome.FAILED),
            "1 tests are worse, 0 may be",
        ),
        ({}, suite_run(49, a=Outcome.PASSED, b=Outcome.FAILED), "at least 50 are due"),
    ],
)
def test_runner_refuses(changes: dict[str, Any], installed: SuiteRun, complaint: str) -> None:
    defaults: dict[str, Any] = {"worse": {}, "most_worse": 1, "minimum_requests": 50}
    project = replace(PROJECTS["responses"], **(defaults | changes))
    baseline = suite_run(0, a=Outcome.PASSED, b=Outcome.FAILED)
    (found,) = client_complaints(project, baseline, installed)
    assert complaint in found


def test_runner_accepts_what_is_listed_with_a_reason() -> None:
    listed: dict[str, Any] = {"worse": {"a": "reason"}, "most_worse": 1, "minimum_requests": 50}
    project = replace(PROJECTS["responses"], **listed)
    baseline = suite_run(0, a=Outcome.PASSED, b=Outcome.FAILED)
    installed = suite_run(50, a=Outcome.FAILED, b=Outcome.FAILED)
    assert client_complaints(project, baseline, installed) == []
