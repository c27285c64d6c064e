"""Judges a run on carboy's loop by the run on the loop that the suite was written for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from suites.execution import CaseReport, Outcome

from loop_suites.exclusions import find_exclusion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from loop_suites.exclusions import Exclusion

Reports = dict[str, CaseReport]

ABSENT = CaseReport(Outcome.MISSING, "the test was not run")


@dataclass
class Verdict:
    """What a suite came to."""

    total: int = 0
    default_passed: int = 0
    carboy_passed: int = 0
    """Of those that pass with the default loop."""
    excluded: dict[str, int] = field(default_factory=dict)
    """How many tests that pass with the default loop are left out, by the name of the reason."""
    complaints: list[str] = field(default_factory=list)


def judge(default: Reports, carboy: Reports, exclusions: Iterable[Exclusion]) -> Verdict:
    """Compare test by test: what passes with the default loop has to pass with carboy's."""
    exclusions = list(exclusions)
    verdict = Verdict(total=len(default))
    for test, before in default.items():
        after = carboy.get(test) or report_of_module(carboy, test)
        exclusion = find_exclusion(exclusions, test)
        if exclusion is not None and after.outcome == Outcome.PASSED:
            verdict.complaints.append(f"passes, so remove it from exclusions.toml: {test}")
        if before.outcome != Outcome.PASSED:
            continue
        verdict.default_passed += 1
        if after.outcome == Outcome.PASSED:
            verdict.carboy_passed += 1
        elif exclusion is None:
            first_line = after.message.partition("\n")[0]
            verdict.complaints.append(
                f"passes with the default loop, but {after.outcome.name} with carboy's: "
                f"{test}: {first_line}"
            )
        elif exclusion.is_observed_in(after):
            count = verdict.excluded.get(exclusion.name, 0)
            verdict.excluded[exclusion.name] = count + 1
        else:
            verdict.complaints.append(
                f"left out for {exclusion.name}, but its report has no "
                f"{exclusion.evidence!r}: {test}"
            )
    return verdict


def judge_exclusions(exclusions: Iterable[Exclusion], control: Reports) -> list[str]:
    """Complain of tests that are left out because asyncio fails them too, and does not."""
    complaints = []
    for exclusion in exclusions:
        for test in exclusion.tests if exclusion.as_asyncio else ():
            report = control.get(test, ABSENT)
            if report.outcome == Outcome.PASSED:
                what = "passes with asyncio's own loop"
            elif report.outcome in (Outcome.SKIPPED, Outcome.MISSING):
                what = f"is {report.outcome.name} with asyncio's own loop"
            elif exclusion.is_observed_in(report):
                continue
            else:
                what = f"has no {exclusion.evidence!r} in its report with asyncio's own loop"
            complaints.append(f"left out for {exclusion.name}, but {what}: {test}")
    return complaints


def report_of_module(reports: Reports, test: str) -> CaseReport:
    """Return why the test is missing: pytest reports a module that can't be imported."""
    module, _, _ = test.partition("::")
    while module:
        if (report := reports.get(f"::{module}")) is not None:
            return report
        module, _, _ = module.rpartition(".")
    return ABSENT


def pair(reports: Reports, default: str, ours: str) -> tuple[Reports, Reports]:
    """Split the reports of a run that had both loops as a parameter of each test.

    Tests that know the default loop alone are none of ours: the runner can't give them another.
    """
    of_default: Reports = {}
    of_ours: Reports = {}
    both = set()
    for test, report in reports.items():
        name = test.partition("[")[0]
        if (renamed := with_loop(test, ours, default)) != test:
            of_ours[renamed] = report
            both.add(name)
        elif with_loop(test, default, ours) != test:
            of_default[test] = report
    of_default = {
        test: report for test, report in of_default.items() if test.partition("[")[0] in both
    }
    return of_default, of_ours


def with_loop(test: str, loop: str, other: str) -> str:
    """Return a test's name with another loop as its parameter, if it has this one."""
    name, bracket, parameters = test.partition("[")
    values = parameters.removesuffix("]").split("-")
    if not bracket or loop not in values:
        return test
    values[values.index(loop)] = other
    return f"{name}[{'-'.join(values)}]"
