"""A network of its own for a suite that needs an address at which nobody answers."""

from __future__ import annotations

import functools
import shutil
import subprocess

from suites.project import HERE

PREFIX = ["unshare", "--net", "--map-root-user", "sh", str(HERE / "silent_network.sh")]


@functools.cache
def silent_network() -> tuple[str, ...]:
    """Return what to put before a command, or nothing where the system does not allow it."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return ()
    tried = subprocess.run([*PREFIX, "true"], capture_output=True, check=False, timeout=30)
    return tuple(PREFIX) if tried.returncode == 0 else ()
