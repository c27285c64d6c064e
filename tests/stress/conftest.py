"""Servers in processes of their own, and many clients at once."""

import resource
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.server_process import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Writes app.py and serves it; what was started is stopped at the end."""
    with ExitStack() as stack:

        def start(source: str, *arguments: str) -> ServerProcess:
            (tmp_path / "app.py").write_text(textwrap.dedent(source))
            process = ServerProcess(tmp_path, "app:app", "--no-access-log", *arguments)
            return stack.enter_context(process)

        yield start


@pytest.fixture(autouse=True, scope="session")
def many_descriptors() -> None:
    """Allow as many connections as the tests open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
