"""Makes the environment of the comparison: the newest uvloop, and carboy as a user gets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BUILD = REPOSITORY / ".build" / "benchmarks" / "event-loop"

# Compiling carboy with full link-time optimisation is the slow part.
STEP_SECONDS = 1800


def make(carboy: Path | None) -> Path:
    """Return the interpreter of an environment with uvloop and carboy.

    With a directory for carboy, only what carboy depends on is installed.
    """
    directory = BUILD / "venv"
    python = directory / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", "--clear", str(directory))
    install = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*install, "--upgrade", "uvloop")
    if carboy is None:
        # pip compares versions, and the version of a working tree stays the same.
        print("building carboy (minutes, the first time)", flush=True)
        _run(*install, str(REPOSITORY))
        _run(*install, "--no-deps", "--force-reinstall", str(REPOSITORY))
    else:
        _run(*install, "flask>=3.1", "greenlet>=3.1")
    return python


def _run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=STEP_SECONDS, check=True)
