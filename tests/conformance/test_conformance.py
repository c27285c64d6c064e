"""What passes with asyncio's default loop, or with uvloop, passes with carboy's."""

from __future__ import annotations

import pytest
from loop_suites.comparison import compare, node_of
from loop_suites.exclusions import Exclusion, is_before
from loop_suites.execution import UnavailableError
from loop_suites.suite import LoopSuite, load_suites
from loop_suites.verdict import Reports, judge, judge_exclusions, pair
from suites.execution import CaseReport, Outcome

SUITES = load_suites()


def assert_conforms(suite: LoopSuite, *parts: str) -> None:
    try:
        comparison = compare(suite, parts)
    except UnavailableError as missing:
        pytest.skip(str(missing))
    assert comparison.complaints == []
    assert comparison.loops > 0


def test_quick_part_of_the_suite_of_asyncio_passes() -> None:
    suite = SUITES["asyncio"]
    assert_conforms(suite, *suite.quick_parts)


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_suite_passes(suite: LoopSuite) -> None:
    assert_conforms(suite)


def test_a_part_that_does_not_exist_is_complained_of() -> None:
    comparison = compare(SUITES["asyncio"], ["test_nonsense"])
    assert comparison.verdict.total == 0
    missing = "ModuleNotFoundError: No module named 'test.test_asyncio.test_nonsense'"
    assert comparison.complaints == [
        f"test_nonsense on the default loop: {missing}",
        f"test_nonsense on the carboy loop: {missing}",
        "no test passed with the default loop, so nothing was compared",
        "0 loops of carboy were made, at least 1 are due",
    ]


# The judge itself, on made-up reports.

EXCLUSIONS = [Exclusion("internals", "It looks inside.", "_selector", ("out.*",))]


def reports(**outcomes: Outcome) -> Reports:
    return {name: CaseReport(outcome, "what went wrong") for name, outcome in outcomes.items()}


def test_a_test_that_is_worse_or_missing_is_complained_of() -> None:
    default = reports(
        a=Outcome.PASSED, b=Outcome.PASSED, c=Outcome.FAILED, d=Outcome.PASSED, e=Outcome.PASSED
    )
    carboy = reports(a=Outcome.PASSED, b=Outcome.FAILED, c=Outcome.ERROR, e=Outcome.SKIPPED)
    verdict = judge(default, carboy, EXCLUSIONS)
    assert (verdict.total, verdict.default_passed, verdict.carboy_passed) == (5, 4, 1)
    assert [line.split(": ")[1] for line in verdict.complaints] == ["b", "d", "e"]


def test_a_test_is_left_out_only_while_it_fails_for_the_reason_given() -> None:
    default = {name: CaseReport(Outcome.PASSED) for name in ("out.a", "out.b", "out.c")}
    carboy = {
        "out.a": CaseReport(Outcome.ERROR, "", "AttributeError: no attribute '_selector'"),
        "out.b": CaseReport(Outcome.ERROR, "something else"),
        "out.c": CaseReport(Outcome.PASSED),
    }
    verdict = judge(default, carboy, EXCLUSIONS)
    assert verdict.excluded == {"internals": 1}
    assert [line.split(": ")[-1] for line in verdict.complaints] == ["out.b", "out.c"]


def test_a_test_is_left_out_for_asyncio_only_while_asyncio_fails_it_in_the_same_way() -> None:
    as_asyncio = Exclusion(
        "way", "uvloop's own way.", "other", ("a", "b", "c", "d", "e"), as_asyncio=True
    )
    control = {
        "a": CaseReport(Outcome.FAILED, "the other way"),
        "b": CaseReport(Outcome.FAILED, "something else"),
        "c": CaseReport(Outcome.PASSED),
        "d": CaseReport(Outcome.SKIPPED, "other"),
    }
    complaints = judge_exclusions([as_asyncio, *EXCLUSIONS], control)
    assert [line.split(": ")[-1] for line in complaints] == ["b", "c", "d", "e"]
    assert "has no 'other' in its report" in complaints[0]
    assert "passes with asyncio's own loop" in complaints[1]
    assert "is SKIPPED with asyncio's own loop" in complaints[2]
    assert "is MISSING with asyncio's own loop" in complaints[3]


def test_versions_of_python_are_compared_as_numbers() -> None:
    assert is_before("3.100")
    assert not is_before("3.9")


def test_pytests_name_of_a_test_is_found() -> None:
    node = node_of("tests.unit.test_tcp.TestTcp::test_echo", "tests")
    assert node == "unit/test_tcp.py::TestTcp::test_echo"
    assert node_of("tests.test_tcp::test_echo[a.b]", ".") == "tests/test_tcp.py::test_echo[a.b]"


def test_a_run_with_both_loops_is_split_by_the_parameter_of_its_tests() -> None:
    run = {
        "m::t[asyncio-1]": CaseReport(Outcome.PASSED),
        "m::t[asyncio+uvloop-1]": CaseReport(Outcome.FAILED),
        "m::t[asyncio+eager-1]": CaseReport(Outcome.PASSED),
        "m::t": CaseReport(Outcome.PASSED),
        "m::alone[asyncio]": CaseReport(Outcome.PASSED),
    }
    default, ours = pair(run, "asyncio", "asyncio+uvloop")
    assert {name: report.outcome for name, report in default.items()} == {
        "m::t[asyncio-1]": Outcome.PASSED
    }
    assert {name: report.outcome for name, report in ours.items()} == {
        "m::t[asyncio-1]": Outcome.FAILED
    }
