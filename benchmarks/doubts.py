"""Names all that should make a reader of a run careful, in general and in this run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from table import Row

# Beyond these, the summary says so.
NOTABLE_STRANGERS_SHARE = 0.05
NOTABLE_STOLEN_SHARE = 0.01
NOTABLE_DELAY_MS = 0.2
NOTABLE_SPREAD = 0.15


def doubts(results: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    """Return one sentence or two for each doubt."""
    settings = results["settings"]
    always = [
        (
            "Requests per second on two shared cores drift from minute to minute. CPU per "
            "request is steadier, and it is what the tables are sorted by."
        ),
        (
            "The upstream of the fan-out shares its core with the load generator: there, "
            "requests per second and latencies are worse than they would be elsewhere, for "
            "every server."
        ),
        (
            "p50 and p99 without a rate come from a closed loop: they say how long the queue "
            f"of {settings['connections']} connections takes, and little else."
        ),
        (
            f"A p99 at a fixed rate rests on {settings['fixed_rate_seconds']:g} s of requests "
            "a round: a single disturbance can set it."
        ),
        (
            "RSS is the sum over all processes of a server, so memory that they share counts "
            "more than once."
        ),
    ]
    return [
        *always,
        *_row_doubts(settings, rows),
        *_round_doubts(results["rounds"]),
        *_machine_doubts(results["machine"]),
        *(_carboy_doubts(results["machine"]) if "carboy" in results["peers"] else ()),
    ]


def _row_doubts(settings: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    found = []
    if settings["rounds"] < 3 or settings["seconds"] < 5:
        found.append("This was a short run, which shows that the comparison works and no more.")
    load_bound = [f"{row.title} ({row.workload})" for row in rows if row.load_bound]
    if load_bound:
        found.append(
            "† The load generator, not the server, set the pace of these: compare their CPU, "
            f"not their requests per second: {', '.join(load_bound)}."
        )
    behind = [f"{row.title} ({row.workload})" for row in rows if row.unanswered]
    if behind:
        found.append(f"‡ These did not keep up with the fixed rate: {', '.join(behind)}.")
    spread = [
        f"{row.title} ({row.workload}, {row.cpu_us.relative:.0%})"
        for row in rows
        if row.cpu_us.relative > NOTABLE_SPREAD
    ]
    if spread:
        found.append(
            f"The rounds of these differ by more than {NOTABLE_SPREAD:.0%} in CPU per request: "
            f"{', '.join(spread)}."
        )
    return found


def _round_doubts(rounds: list[dict[str, Any]]) -> list[str]:
    found = []
    disturbed = [r for r in rounds if r["strangers_core_share"] > NOTABLE_STRANGERS_SHARE]
    if disturbed:
        worst = max(r["strangers_core_share"] for r in disturbed)
        found.append(
            f"In {len(disturbed)} of {len(rounds)} rounds something else used more than "
            f"{NOTABLE_STRANGERS_SHARE:.0%} of the server's core, at worst {worst:.0%}."
        )
    late = max((r["fixed_rate"]["release_delay_us"]["p99"] for r in rounds), default=0) / 1e3
    if late > NOTABLE_DELAY_MS:
        found.append(
            "At the fixed rate, the load generator itself sent 1% of the requests at least "
            f"{late:.1f} ms late in its worst round. This counts as latency: smaller differences "
            "between p99 figures say nothing."
        )
    stolen = max((r["stolen_share"] for r in rounds), default=0.0)
    if stolen > NOTABLE_STOLEN_SHARE:
        found.append(f"The hypervisor took up to {stolen:.0%} of the two cores in a round.")
    return found


def _machine_doubts(machine: dict[str, Any]) -> list[str]:
    found = []
    if machine["hypervisor"]:
        found.append("This is a virtual machine: system calls and wake-ups cost more, for all.")
    if not machine["python_optimised"]:
        found.append(
            "This CPython was built without profile-guided optimisation: what runs in Python "
            "is slower than with a distribution's build, for all."
        )
    return found


def _carboy_doubts(machine: dict[str, Any]) -> list[str]:
    found = []
    if machine["uncommitted_changes"]:
        found.append("carboy was built from a tree with uncommitted changes.")
    if machine["carboy_packages"] is not None:
        found.append(
            "carboy ran in an environment of its own, not in that of the peers: versions are "
            "in `run.json`."
        )
    return found
