"""Programs of their own, in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

from support.raw_upstream import RawUpstream, ok


def output_of(program: str) -> str:
    """Run a program to its end, and return what it has printed.

    It knows the URL of a service as ``url``. Warnings are errors in it, and it must have nothing to
    say about them or anything else.
    """
    with RawUpstream.answering(ok()) as upstream:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", f"url = {upstream.url!r}{program}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
