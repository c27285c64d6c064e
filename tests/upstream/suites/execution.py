"""One run of one suite, and what it reported test by test."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from suites.project import HERE

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 300.0
"""Seconds after which a run counts as hung."""


OF_THIS_MACHINE = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"}
"""Variables that say whom this machine trusts: suites bring authorities of their own."""


class Outcome(IntEnum):
    """How a test ended; a greater value is a worse end."""

    PASSED = 0
    SKIPPED = 1
    FAILED = 2
    ERROR = 3
    MISSING = 4


@dataclass
class CaseReport:
    """What one test did, as the JUnit file of the run says."""

    outcome: Outcome
    message: str = ""
    details: str = ""
    """The traceback, or whatever else the report says at length."""
    properties: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class SuiteRun:
    """The reports of a run, by test identifier, and what the plugins counted."""

    tests: dict[str, CaseReport]
    statistics: dict[str, Any]
    output: str

    def count(self, outcome: Outcome) -> int:
        """Return how many tests ended that way."""
        return Counter(report.outcome for report in self.tests.values())[outcome]

    @property
    def failed(self) -> int:
        """Return how many tests failed, in any phase."""
        return self.count(Outcome.FAILED) + self.count(Outcome.ERROR)


def run_suite(
    interpreter: Path, source: Path, results: Path, *arguments: str, prefix: tuple[str, ...] = ()
) -> SuiteRun:
    """Run the suite in `source` with the given arguments of pytest.

    A prefix is a command that runs another one. The plugins of this folder are
    reached over `PYTHONPATH`. Bytecode and pytest's cache are not written, so
    that an unpacked source stays as it is.
    """
    results.mkdir(parents=True, exist_ok=True)
    junit = results / "junit.xml"
    statistics = results / "statistics.json"
    for stale in (junit, statistics):
        stale.unlink(missing_ok=True)
    command = [
        *prefix,
        str(interpreter),
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-p", "suite_statistics"]
    command += [f"--junitxml={junit}", f"--suite-statistics={statistics}", *arguments]
    environment = {
        name: value
        for name, value in os.environ.items()
        if "PYTEST" not in name and name not in OF_THIS_MACHINE
    }
    environment |= {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
    completed = subprocess.run(
        command,
        cwd=source,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
    )
    (results / "output.txt").write_text(completed.stdout)
    if not junit.is_file():
        message = f"pytest ended with code {completed.returncode} and wrote no report"
        raise RuntimeError(f"{message}:\n{completed.stdout}")
    counted = json.loads(statistics.read_text()) if statistics.is_file() else {}
    return SuiteRun(read_junit(junit), counted, completed.stdout)


def read_junit(path: Path) -> dict[str, CaseReport]:
    """Read a JUnit file; a test with several entries gets its worst outcome, and all details."""
    reports: dict[str, CaseReport] = {}
    # The file was written by the pytest that was just run, so it is trusted.
    for case in ET.parse(path).iter("testcase"):
        identifier = f"{case.get('classname')}::{case.get('name')}"
        report = reports.setdefault(identifier, CaseReport(Outcome.PASSED))
        for tag, outcome in TAGS.items():
            element = case.find(tag)
            if element is None:
                continue
            report.details += element.text or ""
            if outcome > report.outcome:
                report.outcome = outcome
                report.message = element.get("message", "")
        for entry in case.iter("property"):
            values = report.properties.setdefault(entry.get("name", ""), [])
            values.append(entry.get("value", ""))
    return reports


TAGS = {"skipped": Outcome.SKIPPED, "failure": Outcome.FAILED, "error": Outcome.ERROR}
