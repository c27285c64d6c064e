"""The cases of Promises/A+, as its authors wrote them, hold for ``carboy.Promise``.

They are those of the npm package ``promises-aplus-tests``, which is fetched to ``.build`` once,
with PythonMonkey, which runs JavaScript in the process of Python. Nothing of either is in this
repository. ``adapter.py`` says how the two meet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: PythonMonkey is for one version of Python.
BUILD = ROOT / ".build" / "conformance" / f"promises-aplus-{sys.hexversion >> 16:x}"
PACKAGE = "promises-aplus-tests"
VERSION = "2.1.2"
SHA256 = "1a06cc642bb4b954023611a31c5f5e881a6937be9a41976e31e106b30d3014c7"
PYTHONMONKEY = "pythonmonkey==1.4.1"
CASES = 872

#: Which file of cases finds out which sabotage.
SABOTAGES = {
    "CallsBackAtOnce": "2.2.4.js",
    "LetsTheLastWin": "2.3.3.js",
    "IgnoresThenables": "2.3.3.js",
    "SwallowsErrors": "2.2.7.js",
    "ForgetsRejections": "2.2.7.js",
    "WaitsForItself": "2.3.1.js",
    "ReversesHandlers": "2.2.6.js",
    "CallsThenTwice": "2.3.3.js",
}


def fetch(command: list[str | Path], purpose: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{purpose} failed:\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def cases() -> Path:
    """Fetch what is needed, and return the folder of the cases."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here, which the cases of Promises/A+ come by")
    if sys.version_info >= (3, 13):
        # Whichever loop it is, asyncio's own too.
        pytest.skip(f"{PYTHONMONKEY} finds no running event loop on CPython 3.13")
    folder = BUILD / f"{PACKAGE}-{VERSION}"
    if not folder.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        fetch([npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", BUILD], "npm pack")
        archive = BUILD / f"{PACKAGE}-{VERSION}.tgz"
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
        unpacked = BUILD / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        (unpacked / "package").rename(folder)
    modules = BUILD / PYTHONMONKEY
    if not modules.exists():
        part = BUILD / "modules.part"
        shutil.rmtree(part, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        fetch([*pip, "--target", part, PYTHONMONKEY], "the installation of PythonMonkey")
        part.rename(modules)
    return folder / "lib" / "tests"


def run(cases: Path, loop: str, sabotage: str, *files: str) -> dict[str, str]:
    """Run cases, and return the errors of those that fail."""
    adapter = Path(__file__).with_name("adapter.py")
    environment = os.environ | {"PYTHONPATH": str(BUILD / PYTHONMONKEY)}
    command = [sys.executable, adapter, cases, loop, sabotage, *files]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    if not files:
        assert len(results) == CASES
    assert results
    return {title: error for title, error in results.items() if error}


@pytest.mark.parametrize("loop", ["asyncio", "carboy"])
def test_every_case_holds(cases: Path, loop: str) -> None:
    assert run(cases, loop, "none") == {}


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_broken_promise_is_found_out(cases: Path, sabotage: str) -> None:
    file = SABOTAGES[sabotage]
    assert run(cases, "asyncio", sabotage, file)
