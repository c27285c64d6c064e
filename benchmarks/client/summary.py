"""Turns the measurements of a comparison into tables."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rows import Peer, Row

OWN = "carboy.http"

EXPLANATION = """\
Processor time per call, in µs, of the client's process with all its threads (user and system): \
the median of the rounds, with the least and the greatest. It includes the event loop, the \
kernel's part of the network, and what the measurement itself does (a clock read twice, a check). \
"x" is a client's time divided by that of carboy.http on its own loop. p50 and p99 are those of a \
closed loop: they say how long the queue of that many callers takes.
"""

DOUBTS = """\
## What to distrust

- The client has one core and the upstream another. Clients that work on threads of their own \
(the Rust ones, requests in threads) have to share that core, as they would in a server with one \
worker per core.
- The upstream answers at once. What a client saves or loses while an answer takes time isn't seen.
- Calls per second stop at what the upstream can do, CPU per call doesn't.
- Every client's session may open as many connections as there are callers. With their defaults, \
some would queue instead.
"""


def write(results: dict[str, Any], rows: Sequence[Row], peers: Sequence[Peer]) -> str:
    about = results["machine"]
    packages = about["packages"]
    versions = sorted({f"{p.package} {packages.get(p.package, '(a working tree)')}" for p in peers})
    lines = [
        f"# HTTP clients, {results['date']}",
        "",
        (
            f"{about['cpu']}, {about['usable_cores']} cores; CPython {about['python']}; "
            f"{', '.join(versions)}, uvloop {packages['uvloop']}; {results['rounds']} rounds of "
            f"{results['seconds']:g} s; commit {about['commit'][:10]}; load average at the start "
            f"{about['load_average_before']:.1f}."
        ),
        "",
        EXPLANATION,
    ]
    if results["rounds"] < 3 or results["seconds"] < 0.8:
        lines += ["This was a short run, which shows that it works and no more.", ""]
    for row in rows:
        lines += [f"## {row.name}", "", *_table(results, row, peers), ""]
    lines += [DOUBTS]
    lines += [f"Left out: {reason}." for reason in results["left_out"]]
    lines += [f"Failed: {failure}." for failure in results["failures"]]
    return "\n".join(lines).rstrip() + "\n"


def _table(results: dict[str, Any], row: Row, peers: Sequence[Peer]) -> list[str]:
    lines = [
        "| client | CPU per call, µs | x | calls/s | p50, ms | p99, ms |",
        "|---|---|---|---|---|---|",
    ]
    figures = {peer.name: _of(results, row, peer.name) for peer in peers}
    own = figures.get(OWN)
    base = None if not own else median(map(_cpu_us, own))
    order = sorted(
        (name for name, found in figures.items() if found),
        key=lambda name: median(map(_cpu_us, figures[name])),
    )
    for name in order:
        found = figures[name]
        cpu = [_cpu_us(one) for one in found]
        ratio = "" if base is None else f"{median(cpu) / base:.2f}"
        lines.append(
            f"| {name} | {median(cpu):.1f} ({min(cpu):.1f}-{max(cpu):.1f}) | {ratio} "
            f"| {_median(found, _rate):,.0f} | {_median(found, _p50):.2f} "
            f"| {_median(found, _p99):.2f} |"
        )
    if row.fan_out > 1 and base is not None:
        lines += ["", f"carboy.http's share of {row.fan_out} calls: {base * row.fan_out:.1f} µs."]
    return lines


def _of(results: dict[str, Any], row: Row, peer: str) -> list[dict[str, Any]]:
    return [
        one for one in results["measurements"] if one["row"] == row.name and one["peer"] == peer
    ]


def _median(found: list[dict[str, Any]], figure: Callable[[dict[str, Any]], float]) -> float:
    return median(map(figure, found))


def _cpu_us(one: dict[str, Any]) -> float:
    cpu_us: float = one["cpu_seconds"] / one["calls"] * 1e6
    return cpu_us


def _rate(one: dict[str, Any]) -> float:
    rate: float = one["calls"] / one["seconds"]
    return rate


def _p50(one: dict[str, Any]) -> float:
    p50: float = one["p50_ms"]
    return p50


def _p99(one: dict[str, Any]) -> float:
    p99: float = one["p99_ms"]
    return p99
