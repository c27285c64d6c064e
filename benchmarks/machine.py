"""Describes the machine, the tools and the versions that a run was made with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environment import REPOSITORY

if TYPE_CHECKING:
    from environment import Environment


class TooFewCoresError(Exception):
    """The comparison needs a core for the server and one for the load."""


def cpu_model() -> str:
    """Return what the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def slug() -> str:
    """Return the processor's name in a form that suits a directory."""
    name = re.sub(r"\((r|tm)\)|\bcpu\b", "", cpu_model().lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def choose_cores() -> tuple[int, int]:
    """Return the first two usable cores that aren't two threads of the same one."""
    usable = sorted(os.sched_getaffinity(0))
    first = usable[0]
    siblings = _siblings(first)
    for other in usable[1:]:
        if other not in siblings:
            return first, other
    raise TooFewCoresError(f"only these cores can be used: {usable}")


def _siblings(core: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        text = path.read_text().strip()
    except OSError:
        return {core}
    siblings: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        siblings.update(range(int(first), int(last or first) + 1))
    return siblings


def describe(environment: Environment) -> dict[str, Any]:
    """Return all that is worth recording, ready for JSON."""
    python = environment.scripts / "python"
    return {
        "cpu": cpu_model(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "hypervisor": _is_virtual(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average_before": os.getloadavg()[0],
        "python": sys.version,
        "python_optimised": "--enable-optimizations"
        in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "rustc": _output("rustc", "--version"),
        "packages": _packages(python),
        "carboy_packages": _carboy_packages(environment),
        "commit": _output("git", "-C", str(REPOSITORY), "rev-parse", "HEAD"),
        "uncommitted_changes": bool(
            _output("git", "-C", str(REPOSITORY), "status", "--porcelain", "crates", "src")
        ),
    }


def _carboy_packages(environment: Environment) -> dict[str, str] | None:
    if environment.carboy_scripts == environment.scripts:
        return None
    return _packages(environment.carboy_scripts / "python")


def _packages(python: Path) -> dict[str, str]:
    program = (
        "import importlib.metadata as m;"
        "print(*sorted({f'{d.name}=={d.version}' for d in m.distributions()}), sep='\\n')"
    )
    lines = _output(str(python), "-c", program).splitlines()
    return dict(line.split("==", 1) for line in lines)


def _is_virtual() -> bool:
    return " hypervisor " in f"{Path('/proc/cpuinfo').read_text()} ".replace("\n", " ")


def _output(*command: str) -> str:
    """Return what a command prints, or nothing if it can't be run here."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
