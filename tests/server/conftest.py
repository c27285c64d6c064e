"""Apps that are served by `carboy run` in a process of its own."""

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

        def start(source: str, *arguments: str, **settings: object) -> ServerProcess:
            (tmp_path / "app.py").write_text(textwrap.dedent(source))
            process = ServerProcess(tmp_path, "app:app", *arguments, **settings)  # type: ignore[arg-type]
            return stack.enter_context(process)

        yield start
