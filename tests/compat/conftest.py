"""Servers and installations for the tests of other libraries over carboy's pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from compat_servers import Upstream

import carboy

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = ("requests", "httpx", "httpx2")


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    carboy.install(*LIBRARIES)
    yield
    carboy.uninstall(*LIBRARIES)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream
