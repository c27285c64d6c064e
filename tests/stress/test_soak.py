"""Hours of mixed work leave nothing behind; here they are shortened (see `soak.py`).

`make soak SOAK_SECONDS=300` takes as long as it says; without that, some seconds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOAK = Path(__file__).with_name("soak.py")
SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))

#: What a leak of one object per thousand units of work would exceed many times. Memory that
#: the allocators have not given back yet goes up and down by some MiB, which a short run takes
#: for a slope: hence a part that does not depend on the time.
MOST_GROWTH_MIB = 3.0
MOST_GROWTH_MIB_PER_MINUTE = 1.0


def test_mixed_work_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(SOAK), str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with capsys.disabled():
        print(f"\n{done.stdout}")
    figures = json.loads(done.stdout)

    assert figures["problems"] == {}
    assert done.stderr == ""
    assert figures["descriptors_left"] == []
    assert figures["threads_left"] == []
    assert figures["kernel_threads_left"] == 0
    minutes = figures["seconds"] * 0.7 / 60
    growth = figures["rss_kib_per_minute"] * minutes / 1024
    assert growth < MOST_GROWTH_MIB + MOST_GROWTH_MIB_PER_MINUTE * minutes, figures
    # All of it was done, and often.
    assert min(figures["done"].values()) > SECONDS / 5
