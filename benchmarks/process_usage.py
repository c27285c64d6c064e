"""What processes and cores have used, read from /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What all processes of one session have used so far, and what they hold now."""

    cpu_seconds: float
    resident_bytes: int
    processes: int
    threads: int


@dataclass(frozen=True)
class CoreUsage:
    """What one core has done since the machine started, in seconds."""

    busy: float
    stolen: float


def session_usage(session: int) -> Usage:
    """Add up the processes of a session: a server that was started as its leader, and
    every process that this has started, in whatever way.

    User and system time, that of children which were waited for included: their time
    leaves the list of processes with them, but not the sum.
    """
    ticks = resident_pages = processes = threads = 0
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            stat = (directory / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The command name stands in parentheses and may hold spaces and parentheses.
        # What follows begins with field 3 of proc_pid_stat(5).
        fields = stat.rpartition(")")[2].split()
        if int(fields[3]) != session:
            continue
        ticks += sum(map(int, fields[11:15]))
        threads += int(fields[17])
        resident_pages += int(fields[21])
        processes += 1
    return Usage(ticks / TICKS_PER_SECOND, resident_pages * PAGE_SIZE, processes, threads)


def process_cpu_seconds(process: int) -> float:
    """Return what one process has used, user and system, all threads, to the nanosecond.

    By the clock that `clock_getcpuclockid(3)` gives, whose number Linux makes of the process id.
    """
    return time.clock_gettime((~process << 3) | 2)


def core_usage(core: int) -> CoreUsage:
    """Read the line of one core in /proc/stat."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
            busy = user + nice + system + irq + softirq
            return CoreUsage(busy / TICKS_PER_SECOND, steal / TICKS_PER_SECOND)
    raise LookupError(f"/proc/stat has no core {core}")


@dataclass(frozen=True)
class Snapshot:
    """All that is compared between the start and the end of a timed window."""

    time: float
    server: Usage
    server_core: CoreUsage
    load_core: CoreUsage


def take_snapshot(session: int, *, server_core: int, load_core: int) -> Snapshot:
    """Look at the server's session and at both cores, now."""
    return Snapshot(
        time=time.monotonic(),
        server=session_usage(session),
        server_core=core_usage(server_core),
        load_core=core_usage(load_core),
    )
