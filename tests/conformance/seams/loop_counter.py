"""Counts the loops that are made, so that the runner knows that its seam holds."""

from __future__ import annotations

import atexit
import functools
import os
from pathlib import Path
from typing import Any

made = 0


def count_loops(loop_class: Any) -> None:
    """Count the instances of the class, and write the number down when the process ends.

    Each process makes a file of its own in the folder `LOOP_COUNTS`.
    """
    initialize = loop_class.__init__

    @functools.wraps(initialize)
    def count_and_initialize(self: Any, *arguments: Any, **keywords: Any) -> None:
        global made
        made += 1
        initialize(self, *arguments, **keywords)

    loop_class.__init__ = count_and_initialize
    atexit.register(write_count)


def write_count() -> None:
    """Write the number of loops that this process has made."""
    folder = os.environ.get("LOOP_COUNTS")
    if folder is not None and made:
        Path(folder, str(os.getpid())).write_text(str(made))
