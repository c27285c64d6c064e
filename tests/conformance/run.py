"""Runs the suites of asyncio, uvloop, AnyIO and aiohttp on carboy's event loop.

Each suite runs on the loop that it was written for, as the baseline, and on carboy's. What
passes with the first has to pass with the second, on the same machine.
"""

from __future__ import annotations

import argparse
import sys

from loop_suites.comparison import Comparison, compare
from loop_suites.execution import UnavailableError
from loop_suites.suite import load_suites
from suites.environment import carboy_is_installed
from suites.table import format_table

HEADING = ("suite", "tests", "pass by default", "pass with carboy", "excluded", "loops", "again")


def main(arguments: list[str] | None = None) -> int:
    """Run the suites that the command line names and return the exit status."""
    suites = load_suites()
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", choices=[[], *suites], metavar="SUITE")
    parser.add_argument(
        "--part",
        action="append",
        default=[],
        help="a module of asyncio's suite, or an argument of pytest: not the whole suite",
    )
    options = parser.parse_args(arguments)
    if not carboy_is_installed():
        print(f"conformance: carboy is not installed for {sys.executable}", file=sys.stderr)
        return 2
    rows = [HEADING]
    complaints = []
    for name in options.suites or suites:
        try:
            comparison = compare(suites[name], options.part)
        except UnavailableError as missing:
            print(f"conformance: {name} is left out: {missing}", file=sys.stderr)
            if name in options.suites:
                complaints.append(f"{name}: it was asked for, and not run")
            continue
        rows.append(row_of(comparison))
        complaints += [f"{name}: {sentence}" for sentence in comparison.complaints]
        for exclusion in comparison.exclusions:
            count = comparison.verdict.excluded.get(exclusion.name, 0)
            if count:
                print(
                    f"conformance: {name}: {count} left out, {exclusion.name}: {exclusion.reason}"
                )
    print(format_table(rows))
    for line in complaints:
        print(f"conformance: {line}", file=sys.stderr)
    return 1 if complaints else 0


def row_of(comparison: Comparison) -> tuple[str, ...]:
    """Return the table's line of a suite."""
    verdict = comparison.verdict
    numbers = (
        verdict.total,
        verdict.default_passed,
        verdict.carboy_passed,
        sum(verdict.excluded.values()),
        comparison.loops,
        comparison.repeated,
    )
    return (comparison.suite.name, *map(str, numbers))


if __name__ == "__main__":
    raise SystemExit(main())
