"""The tests that a loop which is not the suite's own cannot pass, each with its reason."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from loop_suites.suite import HERE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from suites.execution import CaseReport

    from loop_suites.suite import LoopSuite


@dataclass(frozen=True)
class Exclusion:
    """Tests that are left out for one reason."""

    name: str
    reason: str
    evidence: str
    """What a report of these tests must contain: the reason is thus checked by each run."""
    tests: tuple[str, ...]
    as_asyncio: bool = False
    """Whether asyncio's own loop, in the place of carboy's, must fail them in the same way."""

    def covers(self, test: str) -> bool:
        """Say whether the test is on this list, by its name or by a pattern."""
        return any(fnmatchcase(test, pattern) for pattern in self.tests)

    def is_observed_in(self, report: CaseReport) -> bool:
        """Say whether the test failed for the reason given."""
        return self.evidence in f"{report.message}\n{report.details}"


ALL = "1000"
"""A version that every Python is older than."""


def load_exclusions(suite: LoopSuite) -> list[Exclusion]:
    """Read the suite's part of `exclusions.toml`, as far as it is of the running Python."""
    table = tomllib.loads((HERE / "exclusions.toml").read_text())
    return [
        Exclusion(
            name,
            entry["reason"],
            entry["evidence"],
            tuple(entry["tests"]),
            entry.get("as_asyncio", False),
        )
        for name, entry in table.get(suite.name, {}).items()
        if is_before(entry.get("before_python", ALL))
        and not is_before(entry.get("from_python", "3"))
    ]


def find_exclusion(exclusions: Iterable[Exclusion], test: str) -> Exclusion | None:
    """Return what the test is left out for."""
    return next((exclusion for exclusion in exclusions if exclusion.covers(test)), None)


def is_before(version: str) -> bool:
    """Say whether the running Python is older than a version, such as `3.12`."""
    return sys.version_info < tuple(map(int, version.split(".")))
