"""What mypy and pyright infer for promises, on the files of ``typing``.

Each of the two is left out where it can't be had: mypy is one of the checkers that
``make check`` installs, pyright comes by npm.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).with_name("typing")
ROOT = Path(__file__).resolve().parents[2]
PYRIGHT = "pyright@1.1.414"


def test_mypy() -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: `make check` does that")
    options = ["--strict", "--config-file=", "--cache-dir", ROOT / ".mypy_cache"]
    command = [sys.executable, "-m", "mypy", *options, EXAMPLES]
    environment = os.environ | {"MYPYPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def pyright() -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here, which pyright comes by")
    folder = ROOT / ".build" / PYRIGHT
    command = folder / "node_modules" / ".bin" / "pyright"
    if not command.exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--no-save", "--no-audit", "--prefix", folder, PYRIGHT]
        done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return command


def test_pyright(pyright: Path) -> None:
    folder = ROOT / ".build" / PYRIGHT
    configuration = folder / "pyrightconfig.json"
    settings = {
        "include": [os.path.relpath(EXAMPLES, folder)],
        "extraPaths": [os.path.relpath(ROOT / "src", folder)],
        "pythonVersion": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": "error",
        # Of mypy's comments it shall know nothing.
        "enableTypeIgnoreComments": False,
    }
    configuration.write_text(json.dumps(settings))
    command = [pyright, "--project", configuration, "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(list(EXAMPLES.glob("*.py")))
    problems = [
        (Path(problem["file"]).name, problem["range"]["start"]["line"] + 1, problem["message"])
        for problem in report["generalDiagnostics"]
        if problem["severity"] in {"error", "warning"}
    ]
    assert problems == []
