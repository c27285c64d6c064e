"""Runs modules of CPython's `test.test_asyncio`, on the default loop or on carboy's.

    python asyncio_suite.py {default|carboy} REPORT NAME...

`NAME` is a module of the suite or the full name of one test. One line of JSON is written to
`REPORT` when a test begins and one when it ends, so that a hang or a crash loses no result.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import sys
import time
import unittest
from pathlib import Path
from typing import Any

from loop_counter import count_loops

PACKAGE = "test.test_asyncio"
STUCK_SECONDS = 120
"""A test that takes longer ends the process, which first says where it was."""


def replace_default_loop() -> None:
    """Put carboy's loop wherever asyncio and its tests take their default loop from."""
    import asyncio.unix_events

    import carboy

    class SelectorEventLoop(carboy.EventLoop):
        """Takes a selector, as its namesake does, and has no use for it."""

        def __init__(self, selector: Any = None) -> None:
            if selector is not None:
                selector.close()
            super().__init__()

    count_loops(SelectorEventLoop)
    for module in (asyncio, asyncio.unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, SelectorEventLoop)
    # The class that `asyncio.DefaultEventLoopPolicy` and `new_event_loop` go by.
    policy: Any = asyncio.unix_events._UnixDefaultEventLoopPolicy  # type: ignore[attr-defined]
    policy._loop_factory = SelectorEventLoop


class ReportWriter(unittest.TestResult):
    """Writes down what became of each test."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.report = path.open("a", encoding="utf-8", buffering=1)
        self.outcome = "PASSED"
        self.message = ""
        self.details = ""
        self.started_seconds = 0.0

    def write(self, **entry: Any) -> None:
        self.report.write(json.dumps(entry) + "\n")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        self.outcome, self.message, self.details = "PASSED", "", ""
        self.started_seconds = time.monotonic()
        self.write(test=test.id(), outcome="MISSING", message="it never ended")

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        self.write(
            test=test.id(),
            outcome=self.outcome,
            message=self.message,
            details=self.details,
            seconds=round(time.monotonic() - self.started_seconds, 3),
        )

    def note(self, test: unittest.TestCase, outcome: str, error: Any) -> None:
        self.outcome = outcome
        self.message = f"{error[0].__name__}: {error[1]}"
        self.details += self._exc_info_to_string(error, test)  # type: ignore[attr-defined]
        if not isinstance(test, unittest.TestCase):
            # A fixture of a module or a class, which is neither started nor stopped.
            self.write(test=test.id(), outcome=outcome, message=self.message, details=self.details)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self.note(test, "ERROR", err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.note(test, "FAILED", err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note(test, "FAILED", err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.outcome, self.message = "SKIPPED", reason

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self.outcome, self.message = "FAILED", "unexpected success"


def main(loop: str, report: str, names: list[str]) -> None:
    """Run the tests."""
    if loop == "carboy":
        replace_default_loop()
    prefix = f"{PACKAGE}."
    names = [name if name.startswith(prefix) else prefix + name for name in names]
    unittest.registerResult(result := ReportWriter(Path(report)))
    try:
        suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    except unittest.SkipTest as skipped:
        # The module is for another system, and says so when it is imported.
        result.write(test=", ".join(names), outcome="SKIPPED", message=str(skipped))
        return
    suite.run(result)
    # Each module does that, and so does each test that sets a policy.
    asyncio.set_event_loop_policy(None)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
