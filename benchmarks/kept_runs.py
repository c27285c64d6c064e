"""Where runs are written: whole ones to those that are kept, others where nobody looks for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import machine

RUNS = Path(__file__).resolve().parent / "runs"


def make_directory(date: str, what: str, *, is_whole: bool, build: Path) -> Path:
    """Make a new directory: among the kept runs, or in that of what is built.

    A short or partial run would look like a comparison there, and it is none.
    """
    parent = RUNS if is_whole else build / "runs"
    name = "-".join(part for part in (date, machine.slug(), what) if part)
    directory, number = parent / name, 1
    while directory.exists():
        number += 1
        directory = parent / f"{name}-{number}"
    directory.mkdir(parents=True)
    return directory


def write(directory: Path, text: str, results: dict[str, Any]) -> None:
    """Print a summary, and write it with the measurements."""
    print("\n" + text)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "summary.md").write_text(text)
    (directory / "measurements.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {directory}")
