"""Turns the measurements of a comparison into a table."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from rows import LOOPS, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPLANATION = """\
Processor time per operation, in µs, of the process that runs the loop (user and system; without \
the client of an echo): the median of the rounds. "x uvloop" is uvloop's time divided by carboy's: \
above 1, carboy is faster. "rate" is the same for operations per second of wall time, which also \
depends on the client and on what else the machine does.
"""


def write(results: dict[str, Any], rows: Sequence[Row]) -> str:
    about = results["machine"]
    lines = [
        f"# Event loops, {results['date']}",
        "",
        (
            f"{about['cpu']}, {about['usable_cores']} cores; CPython {about['python']}, "
            f"uvloop {about['uvloop']}; {results['rounds']} rounds of {results['seconds']:g} s; "
            f"commit {about['commit'][:10]}; load average at the start "
            f"{about['load_average_before']:.1f}."
        ),
        "",
        EXPLANATION,
        f"| row | {' | '.join(LOOPS)} | x asyncio | x uvloop | rate x uvloop |",
        f"|---|{'---|' * len(LOOPS)}---|---|---|",
    ]
    ratios = []
    for row in rows:
        cpu = {loop: _median(results, row, loop, _cpu_us) for loop in LOOPS}
        rate = {loop: _median(results, row, loop, _rate) for loop in LOOPS}
        if None in cpu.values():
            lines.append(f"| {row.name} | failed |")
            continue
        ratio = cpu["uvloop"] / cpu["carboy"]
        ratios.append((ratio, row.name))
        figures = " | ".join(f"{cpu[loop]:.2f}" for loop in LOOPS)
        lines.append(
            f"| {row.name} | {figures} | {cpu['asyncio'] / cpu['carboy']:.2f} "
            f"| {ratio:.2f} | {rate['carboy'] / rate['uvloop']:.2f} |"
        )
    if ratios:
        slower = [f"{name} ({ratio:.2f})" for ratio, name in sorted(ratios) if ratio < 1]
        middle = median(ratio for ratio, _ in ratios)
        lines += [
            "",
            (
                f"Median row: {middle:.2f} x uvloop. Rows slower than uvloop: "
                f"{', '.join(slower) or 'none'}."
            ),
        ]
    lines += ["", *(f"Failed: {failure}." for failure in results["failures"])]
    return "\n".join(lines).rstrip() + "\n"


def _cpu_us(measurement: dict[str, Any]) -> float:
    return measurement["cpu_seconds"] / measurement["count"] * 1e6


def _rate(measurement: dict[str, Any]) -> float:
    return measurement["count"] / measurement["seconds"]


def _median(results: dict[str, Any], row: Row, loop: str, figure: Any) -> Any:
    found = [
        figure(measurement)
        for measurement in results["measurements"]
        if measurement["row"] == row.name and measurement["loop"] == loop
    ]
    return median(found) if found else None
