"""What the tests of views share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A service that views call."""
    with Upstream() as service:
        yield service
