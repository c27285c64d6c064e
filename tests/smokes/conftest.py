"""The servers that the smokes talk to."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from database_servers import NotInstalledError, run_postgresql, run_redis
from libraries import REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@contextmanager
def skip_if_missing(run: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """Run a server, or skip the test with what the server's absence is told by."""
    try:
        context = run()
        address = context.__enter__()
    except NotInstalledError as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))
    try:
        yield address
    finally:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a database."""
    with skip_if_missing(run_postgresql) as address:
        yield address


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The address of a Redis server."""
    with skip_if_missing(run_redis) as address:
        yield address
