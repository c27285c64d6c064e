"""The demo checks itself: every view answers rightly, and in its time."""

import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
VIEWS = (
    *("sequential", "thread_pool", "asyncio_run", "shared_aiohttp", "shared_httpx"),
    *("carboy_def", "carboy_returned", "carboy_async"),
)


def test_demo_finds_every_view_right():
    completed = subprocess.run(
        [sys.executable, DEMO, "--once"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout
    verdicts = {
        line.split()[0]: line.split()[-1]
        for line in completed.stdout.splitlines()
        if line.startswith(VIEWS)
    }
    assert verdicts == dict.fromkeys(VIEWS, "right"), completed.stdout
    assert "Everything is shut down." in completed.stdout
