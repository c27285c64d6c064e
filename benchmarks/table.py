"""Turns the rounds of a run into medians with their spread, and these into Markdown."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Above this share of the load's core, and below that of the server's core, it was the
# load generator that set the pace.
LOAD_BOUND_SHARE = 0.9
SERVER_BOUND_SHARE = 0.95


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the least and greatest of them."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def format(self, digits: int) -> str:
        middle = f"{self.median:,.{digits}f}"
        if self.least == self.greatest:
            return middle
        return f"{middle} ({self.least:,.{digits}f} to {self.greatest:,.{digits}f})"

    @property
    def relative(self) -> float:
        return (self.greatest - self.least) / self.median if self.median else 0.0


@dataclass(frozen=True)
class Row:
    """All rounds of one peer at one workload."""

    peer: str
    title: str
    workload: str
    cpu_us: Spread
    requests_per_second: Spread
    p50_ms: Spread
    p99_ms: Spread
    fixed_rate: float
    fixed_rate_p50_ms: Spread
    fixed_rate_p99_ms: Spread
    unanswered: int
    resident_mib: Spread
    load_bound: bool

    @classmethod
    def of(cls, title: str, rounds: Sequence[dict[str, Any]]) -> Row:
        def spread(*path: str, scale: float = 1.0) -> Spread:
            values = []
            for one_round in rounds:
                value: Any = one_round
                for key in path:
                    value = value[key]
                values.append(value / scale)
            return Spread.of(values)

        return cls(
            peer=rounds[0]["peer"],
            title=title,
            workload=rounds[0]["workload"],
            cpu_us=spread("cpu_us_per_request"),
            requests_per_second=spread("requests_per_second"),
            p50_ms=spread("latency_us", "p50", scale=1e3),
            p99_ms=spread("latency_us", "p99", scale=1e3),
            fixed_rate=rounds[0]["fixed_rate"]["rate"],
            fixed_rate_p50_ms=spread("fixed_rate", "latency_us", "p50", scale=1e3),
            fixed_rate_p99_ms=spread("fixed_rate", "latency_us", "p99", scale=1e3),
            unanswered=sum(one_round["fixed_rate"]["unanswered"] for one_round in rounds),
            resident_mib=spread("resident_bytes", scale=2**20),
            load_bound=spread("load_core_share").median >= LOAD_BOUND_SHARE
            and spread("server_core_share").median < SERVER_BOUND_SHARE,
        )


def rows(results: dict[str, Any], workload: str) -> list[Row]:
    """Return one row per peer that was measured, the cheapest per request first."""
    by_peer: dict[str, list[dict[str, Any]]] = {}
    for one_round in results["rounds"]:
        if one_round["workload"] == workload:
            by_peer.setdefault(one_round["peer"], []).append(one_round)
    titles = {name: peer["title"] for name, peer in results["peers"].items()}
    table = [Row.of(titles[name], rounds) for name, rounds in by_peer.items()]
    return sorted(table, key=lambda row: row.cpu_us.median)


def markdown(table: Sequence[Row], ceiling: float | None) -> str:
    """Return the table of one workload; `ceiling` is the static server's CPU time."""
    rate = f"{table[0].fixed_rate:,.0f}/s"
    columns: dict[str, Callable[[Row], str]] = {
        "server": lambda row: f"**{row.title}**" if row.peer == "carboy" else row.title,
        "CPU µs/request": lambda row: row.cpu_us.format(1),
        "x hyper": lambda row: f"{row.cpu_us.median / (ceiling or 1):.1f}",
        "requests/s": lambda row: row.requests_per_second.format(0) + " †" * row.load_bound,
        "p50 ms": lambda row: f"{row.p50_ms.median:.2f}",
        "p99 ms": lambda row: f"{row.p99_ms.median:.2f}",
        f"p50 ms at {rate}": lambda row: f"{row.fixed_rate_p50_ms.median:.2f}",
        f"p99 ms at {rate}": lambda row: (
            f"{row.fixed_rate_p99_ms.median:.2f}" + " ‡" * bool(row.unanswered)
        ),
        "RSS MiB": lambda row: f"{row.resident_mib.median:.0f}",
    }
    if ceiling is None:
        del columns["x hyper"]
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(cell(row) for cell in columns.values()) + " |" for row in table]
    return "\n".join(lines)
