"""The libraries of `requirements/smokes.txt`, which `make smokes` installs."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

REQUIRED = "SMOKES_REQUIRED" in os.environ
"""Whether what is missing is a failure, and no reason to skip a test."""


def library(name: str) -> ModuleType:
    """Import a library, or skip the test that needs it."""
    if not REQUIRED:
        pytest.importorskip(name, reason=f"`make smokes` installs {name}")
    return importlib.import_module(name)
