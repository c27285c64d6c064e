"""Sub-interpreters, which mod_wsgi makes for applications, can't have carboy."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("_testcapi", reason="the interpreter was installed without its own tests")


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("first", ["", "import carboy"], ids=["first", "after the main one"])
def test_a_sub_interpreter_is_told_where_to_import(first: str) -> None:
    # CPython lets such an interpreter, with the process's GIL, import any extension module.
    done = run(f"import _testcapi\n{first}\n_testcapi.run_in_subinterp('import carboy')")
    assert "ImportError: carboy can't be imported in a sub-interpreter" in done.stderr
    assert "WSGIApplicationGroup %{GLOBAL}" in done.stderr
    assert done.returncode == 0, done.stderr


def test_the_main_interpreter_is_not_harmed_by_an_attempt() -> None:
    done = run(
        "import _testcapi, asyncio\n"
        "_testcapi.run_in_subinterp('import carboy')\n"
        "import carboy\n"
        "print(carboy.run(asyncio.sleep(0, 'works')))"
    )
    assert done.stdout == "works\n", done.stderr
    assert done.returncode == 0, done.stderr
