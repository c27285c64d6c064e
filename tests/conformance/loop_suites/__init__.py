"""Runs suites that others wrote for event loops, and judges carboy's loop by them."""

import sys
from pathlib import Path

# The runner of the suites of Flask's neighbours downloads, installs and reads reports too.
sys.path.append(str(Path(__file__).resolve().parents[2] / "upstream"))
