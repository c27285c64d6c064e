"""`carboy.EventLoopPolicy`, and runners that take a loop factory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

import carboy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def policy() -> Iterator[carboy.EventLoopPolicy]:
    """The policy, in force during a test."""
    policy = carboy.EventLoopPolicy()
    asyncio.set_event_loop_policy(policy)
    yield policy
    asyncio.set_event_loop_policy(None)


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_asyncio_run_takes_the_loop_of_the_policy(policy: carboy.EventLoopPolicy) -> None:
    assert type(asyncio.run(running_loop())) is carboy.EventLoop


def test_new_event_loop_and_the_current_loop_are_of_the_policy(
    policy: carboy.EventLoopPolicy,
) -> None:
    assert asyncio.get_event_loop_policy() is policy
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert type(loop) is carboy.EventLoop
        assert asyncio.get_event_loop() is loop
        assert loop.run_until_complete(running_loop()) is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_child_process_is_awaited_under_the_policy(policy: carboy.EventLoopPolicy) -> None:
    async def output() -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('here')", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out

    assert asyncio.run(output()) == b"here\n"


def run_program(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


def test_a_python_whose_policies_are_private_is_asked_for_no_public_name() -> None:
    # As CPython 3.14 has it: the public name warns, the class has another one.
    program = """
import asyncio, asyncio.unix_events as unix
unix._DefaultEventLoopPolicy = unix._UnixDefaultEventLoopPolicy
for module in (asyncio, unix):
    vars(module).pop("DefaultEventLoopPolicy", None)
import carboy
loop = carboy.EventLoopPolicy().new_event_loop()
print(type(loop) is carboy.EventLoop)
loop.close()
"""
    assert run_program(program) == "True"


def test_a_python_without_policies_is_told_what_to_use_instead() -> None:
    program = """
import asyncio, asyncio.unix_events as unix
for module in (asyncio, unix):
    for name in ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        vars(module).pop(name, None)
import carboy
try:
    carboy.EventLoopPolicy()
except RuntimeError as error:
    print("loop_factory" in str(error))
"""
    assert run_program(program) == "True"


def test_anyio_runs_on_a_loop_of_the_factory() -> None:
    async def main() -> asyncio.AbstractEventLoop:
        await anyio.sleep(0)
        return asyncio.get_running_loop()

    options = {"loop_factory": carboy.new_event_loop}
    assert type(anyio.run(main, backend="asyncio", backend_options=options)) is carboy.EventLoop


PYTEST_ASYNCIO = """
import asyncio
import pytest
import carboy


def pytest_asyncio_loop_factories(config, item):
    return {"carboy": carboy.new_event_loop}
"""


def test_pytest_asyncio_runs_tests_on_a_loop_of_the_factory(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(PYTEST_ASYNCIO)
    (tmp_path / "test_it.py").write_text(
        "import asyncio, carboy, pytest\n"
        "@pytest.mark.asyncio\n"
        "async def test_loop():\n"
        "    await asyncio.sleep(0)\n"
        "    assert type(asyncio.get_running_loop()) is carboy.EventLoop\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_asyncio", str(tmp_path)]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "1 passed" in completed.stdout, completed.stdout + completed.stderr
