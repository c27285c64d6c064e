"""A suite on two loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from suites.execution import Outcome

from loop_suites.exclusions import Exclusion, find_exclusion, load_exclusions
from loop_suites.execution import LoopRun, asyncio_modules, run_asyncio_modules, run_pytest
from loop_suites.loops import Loop
from loop_suites.suite import BUILD
from loop_suites.verdict import Reports, Verdict, judge, judge_exclusions, pair, with_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loop_suites.suite import LoopSuite

MOST_REPEATED = 20
"""More tests than this do not fail because the machine was busy."""


@dataclass
class Comparison:
    """What a suite came to on both loops."""

    suite: LoopSuite
    verdict: Verdict
    exclusions: list[Exclusion]
    loops: int
    repeated: int
    """How many tests failed with carboy's loop, and were run once more, alone."""
    complaints: list[str]


def compare(suite: LoopSuite, parts: Sequence[str] = ()) -> Comparison:
    """Run a suite, or parts of it, on the default loop and on carboy's, and judge it.

    Raises:
        UnavailableError: If the suite is not to be had here.
    """
    exclusions = load_exclusions(suite)
    if suite.requirement:
        default, carboy = run_distribution(suite, parts)
    else:
        modules = parts or asyncio_modules()
        default = run_asyncio(suite, Loop.DEFAULT, modules)
        carboy = run_asyncio(suite, Loop.CARBOY, modules)
    repeated = repeat_failures(suite, default.reports, carboy.reports, exclusions)
    verdict = judge(default.reports, carboy.reports, exclusions)
    complaints = [*default.failures, *carboy.failures, *verdict.complaints]
    if not parts:
        control = run_control(suite, exclusions)
        complaints += [*control.failures, *judge_exclusions(exclusions, control.reports)]
    if verdict.default_passed == 0:
        complaints.append("no test passed with the default loop, so nothing was compared")
    loops_due = 1 if parts else suite.minimum_loops
    if carboy.loops < loops_due:
        complaints.append(f"{carboy.loops} loops of carboy were made, at least {loops_due} are due")
    return Comparison(suite, verdict, exclusions, carboy.loops, repeated, complaints)


def run_distribution(suite: LoopSuite, parts: Sequence[str]) -> tuple[LoopRun, LoopRun]:
    """Run the suite of a source distribution on both loops."""
    results = BUILD / "results" / suite.name
    arguments = parts or suite.parts
    of_carboy = run_pytest(suite, Loop.CARBOY, arguments, results / Loop.CARBOY.value)
    if suite.paired is not None:
        default, ours = pair(of_carboy.reports, *suite.paired)
        return LoopRun(default), LoopRun(ours, of_carboy.loops, of_carboy.failures)
    of_default = run_pytest(suite, Loop.DEFAULT, arguments, results / Loop.DEFAULT.value)
    return of_default, of_carboy


def run_control(suite: LoopSuite, exclusions: Sequence[Exclusion]) -> LoopRun:
    """Run on asyncio's own loop the tests that are left out because it fails them, too."""
    tests = [test for exclusion in exclusions if exclusion.as_asyncio for test in exclusion.tests]
    if not tests:
        return LoopRun()
    results = BUILD / "results" / suite.name / Loop.ASYNCIO.value
    arguments = [node_of(test, suite.directory) for test in tests]
    return run_pytest(suite, Loop.ASYNCIO, arguments, results)


def node_of(test: str, directory: str) -> str:
    """Return how pytest, in its working directory, names a test of a report.

    >>> node_of("tests.test_tcp.TestTcp::test_echo", "tests")
    'test_tcp.py::TestTcp::test_echo'
    """
    place, _, name = test.removeprefix(f"{directory}.").partition("::")
    module, _, last = place.rpartition(".")
    if not last[:1].isupper():
        return f"{place.replace('.', '/')}.py::{name}"
    return f"{module.replace('.', '/')}.py::{last}::{name}"


def run_asyncio(suite: LoopSuite, loop: Loop, names: Sequence[str]) -> LoopRun:
    """Run modules of the interpreter's own suite."""
    return run_asyncio_modules(suite, loop, names, BUILD / "results" / suite.name / loop.value)


def repeat_failures(
    suite: LoopSuite, default: Reports, carboy: Reports, exclusions: Sequence[Exclusion]
) -> int:
    """Run once more, alone, what failed for no known reason.

    A busy machine is slow, and what a test before it has thrown away may be found in this one. The
    second outcome counts. Returns the number of those tests.
    """
    failed = [
        test
        for test, before in default.items()
        if before.outcome == Outcome.PASSED
        and test in carboy
        and carboy[test].outcome != Outcome.PASSED
        and find_exclusion(exclusions, test) is None
    ]
    if 0 < len(failed) <= MOST_REPEATED:
        carboy.update(repeat(suite, failed))
    return len(failed)


def repeat(suite: LoopSuite, tests: Sequence[str]) -> Reports:
    """Run single tests on carboy's loop."""
    if not suite.requirement:
        return run_asyncio(suite, Loop.CARBOY, tests).reports
    results = BUILD / "results" / suite.name / "again"
    nodes = [
        node_of(with_loop(test, *suite.paired) if suite.paired else test, suite.directory)
        for test in tests
    ]
    again = run_pytest(suite, Loop.CARBOY, nodes, results).reports
    return pair(again, *suite.paired)[1] if suite.paired else again
