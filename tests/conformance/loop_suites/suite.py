"""Which suites are run, and what is known of each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parent.parent
BUILD = REPOSITORY / ".build" / "conformance"
CONSTRAINTS = HERE / "constraints.txt"
SEAMS = HERE / "seams"


@dataclass(frozen=True)
class LoopSuite:
    """A suite, as `suites.toml` describes it."""

    name: str
    requirement: str
    """`name==version` of the source distribution; empty for the interpreter's own suite."""
    sha256: str
    needs: tuple[str, ...]
    directory: str
    """The working directory of the run, in the source distribution."""
    options: tuple[str, ...]
    plugin: str
    """A pytest plugin in `seams` for the run on carboy's loop, if the stand-in is not enough."""
    parts: tuple[str, ...]
    """The modules or files of the suite that have to do with event loops; empty means all."""
    quick_parts: tuple[str, ...]
    """What `make test` runs of them."""
    paired: tuple[str, str] | None
    """How a parameter names the default loop and the one under test, if one run has both."""
    minimum_loops: int
    """How many loops of carboy the whole suite makes at least: less, and the seam has broken."""
    timeout_seconds: float


def load_suites() -> dict[str, LoopSuite]:
    """Read `suites.toml`, in the order of the file."""
    table = tomllib.loads((HERE / "suites.toml").read_text())
    return {name: make_suite(name, entry) for name, entry in table.items()}


def make_suite(name: str, entry: dict[str, Any]) -> LoopSuite:
    """Make a suite of its table."""
    default, ours = entry.get("paired", (None, None))
    return LoopSuite(
        name=name,
        requirement=entry.get("requirement", ""),
        sha256=entry.get("sha256", ""),
        needs=tuple(entry.get("needs", ())),
        directory=entry.get("directory", "."),
        options=tuple(entry.get("options", ())),
        plugin=entry.get("plugin", ""),
        parts=tuple(entry.get("parts", ())),
        quick_parts=tuple(entry.get("quick_parts", ())),
        paired=(default, ours) if default and ours else None,
        minimum_loops=entry["minimum_loops"],
        timeout_seconds=entry["timeout_seconds"],
    )
