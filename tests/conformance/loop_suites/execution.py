"""Runs a suite in processes of its own, and collects what its tests reported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from suites.environment import carboy_requirements, install_requirements, link_carboy
from suites.execution import CaseReport, Outcome, read_junit
from suites.project import fetch_source

from loop_suites.loops import Loop
from loop_suites.suite import BUILD, CONSTRAINTS, SEAMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loop_suites.suite import LoopSuite
    from loop_suites.verdict import Reports


NOT_LOADED = "unittest.loader._FailedTest."
"""How `unittest` calls what it could not find or import, which it reports as a test."""


@dataclass
class LoopRun:
    """What a run reported."""

    reports: Reports = field(default_factory=dict)
    loops: int = 0
    """How many loops of carboy it made."""
    failures: list[str] = field(default_factory=list)
    """What went wrong beside the tests: it did not come to its end, or had nothing to run."""


class UnavailableError(Exception):
    """A suite is not to be had here; the text says what is missing."""


def asyncio_modules() -> list[str]:
    """Return the modules of the interpreter's own suite for asyncio.

    Raises:
        UnavailableError: If the interpreter was installed without its tests.
    """
    try:
        import test.test_asyncio as package
    except ImportError as error:
        raise UnavailableError(
            f"{sys.executable} has no package test.test_asyncio ({error}): it is part of"
            " CPython, and some distributions leave it out or have it in a package of its own"
        ) from error
    (folder,) = package.__path__
    return sorted(path.stem for path in Path(folder).glob("test_*.py"))


def run_asyncio_modules(
    suite: LoopSuite, loop: Loop, modules: Sequence[str], results: Path
) -> LoopRun:
    """Run modules of `test.test_asyncio`, each in a process of its own."""
    run = LoopRun()
    counts = empty_folder(results / "loops")
    for module in modules:
        print(f"conformance: asyncio, {loop.value}: {module}", flush=True)
        report = results / f"{module}.jsonl"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-X", "dev", str(SEAMS / "asyncio_suite.py")]
        command += [loop.value, str(report), module]
        # As `python -m test` does it, the working directory is the tests' own.
        directory = empty_folder(results / "work")
        end = run_process(
            command, directory, results / f"{module}.txt", suite.timeout_seconds, LOOP_COUNTS=counts
        )
        reports = read_report(report)
        for name in [name for name in reports if name.startswith(NOT_LOADED)]:
            *_, end = reports.pop(name).message.strip().splitlines()
        if end is not None or not reports:
            run.failures.append(f"{module} on the {loop.value} loop: {end or 'no test was run'}")
        run.reports |= reports
    run.loops = read_counts(counts)
    return run


def read_report(path: Path) -> Reports:
    """Read what `asyncio_suite.py` has written."""
    if not path.is_file():
        return {}
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {
        entry["test"]: CaseReport(
            Outcome[entry["outcome"]], entry["message"], details=entry.get("details", "")
        )
        for entry in entries
    }


def run_pytest(suite: LoopSuite, loop: Loop, arguments: Sequence[str], results: Path) -> LoopRun:
    """Run the suite of a source distribution, or a part of it, with pytest."""
    interpreter = create_environment(suite)
    source = fetch_source(suite, BUILD)
    print(f"conformance: {suite.name}, {loop.value}", flush=True)
    results.mkdir(parents=True, exist_ok=True)
    counts = empty_folder(results / "loops")
    junit = results / "junit.xml"
    junit.unlink(missing_ok=True)
    command = [str(interpreter), "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    command += [f"--junitxml={junit}", *suite.options, *arguments]
    variables: dict[str, Path | str] = {"LOOP_COUNTS": counts}
    if loop is not Loop.DEFAULT:
        variables |= {"PYTHONPATH": SEAMS, "UVLOOP_SOURCE": source / "uvloop"}
        variables |= {"STAND_IN": loop.value}
        command += ["-p", suite.plugin] if suite.plugin else []
    # Not `-m pytest` in the source: the working directory would come first in the path.
    command.insert(1, "-P")
    directory = source / suite.directory
    end = run_process(
        command, directory, results / "output.txt", suite.timeout_seconds, **variables
    )
    if not junit.is_file():
        raise RuntimeError(f"pytest wrote no report ({end}): see {results / 'output.txt'}")
    failures = [] if end is None else [f"the run on the {loop.value} loop: {end}"]
    return LoopRun(read_junit(junit), read_counts(counts), failures)


def create_environment(suite: LoopSuite) -> Path:
    """Return the interpreter of an environment with the suite's project and its needs."""
    requirements = [suite.requirement, *suite.needs, "pytest", *carboy_requirements()]
    version = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"
    environment = BUILD / f"venv-{version}-{suite.name}"
    interpreter = install_requirements(environment, requirements, CONSTRAINTS)
    link_carboy(environment)
    return interpreter


def run_process(
    command: Sequence[str],
    directory: Path,
    output: Path,
    timeout_seconds: float,
    **variables: Path | str,
) -> str | None:
    """Run a command with its output in a file.

    Returns nothing if it ended by itself with the code of a run whose tests passed or
    failed, else a sentence that says how it ended. Its whole process group ends with it.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHON"))
    }
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {name: str(value) for name, value in variables.items()}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs that way, and tests send themselves this signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        output.open("wb") as stream,
        subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"it was not over after {timeout_seconds:.0f} seconds"
    return None if code in (0, 1) else f"it ended with code {code}, see {output}"


def empty_folder(path: Path) -> Path:
    """Make a folder, without what was in it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def read_counts(folder: Path) -> int:
    """Add up the numbers of loops that the processes of a run have made."""
    return sum(int(path.read_text()) for path in folder.iterdir())
