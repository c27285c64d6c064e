"""Writes a run down: the raw rounds, the machine, and a summary that doubts itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from doubts import doubts
from environment import REPOSITORY
from table import Row, markdown, rows
from workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from pathlib import Path


def write(results: dict[str, Any], directory: Path) -> str:
    """Write all files of a run, and return the summary."""
    directory.mkdir(parents=True, exist_ok=True)
    rounds = ",\n".join(_json(one_round) for one_round in results["rounds"])
    (directory / "rounds.json").write_text(f"[\n{rounds}\n]\n")
    rest = {key: value for key, value in results.items() if key != "rounds"}
    (directory / "run.json").write_text(_json(rest, indent=2) + "\n")
    summary = _without_place(summarise(results))
    (directory / "summary.md").write_text(summary)
    return summary


def _json(value: object, indent: int | None = None) -> str:
    return _without_place(json.dumps(value, indent=indent, ensure_ascii=False))


def _without_place(text: str) -> str:
    """Let paths begin at the repository: where it lies is nobody's business."""
    return text.replace(f"{REPOSITORY}/", "")


def summarise(results: dict[str, Any]) -> str:
    """Return the summary as Markdown."""
    machine, settings = results["machine"], results["settings"]
    tables = {workload.name: rows(results, workload.name) for workload in WORKLOADS}
    every_row = [row for table in tables.values() for row in table]
    parts = [
        f"# Comparison of {results['date']}, {machine['cpu']}",
        (
            f"{machine['usable_cores']} usable cores, {machine['kernel']}, "
            f"Python {machine['python'].split()[0]}, {machine['rustc']}. "
            f"{settings['connections']} keep-alive connections; "
            f"{settings['rounds']} interleaved rounds of {settings['seconds']:g} s after "
            f"{settings['warm_up']:g} s of warm-up, then {settings['fixed_rate_seconds']:g} s at a "
            f"fixed rate; medians of the rounds, least and greatest in parentheses. Server on core "
            f"{settings['server_core']}, load and upstream on core {settings['load_core']}. "
            f"The whole run took {results['minutes']:.1f} minutes."
        ),
        "How it was measured and how to read it: `benchmarks/README.md`.",
        *_ratios(tables),
    ]
    for workload in WORKLOADS:
        if tables[workload.name]:
            table = markdown(tables[workload.name], _ceiling(tables, workload))
            parts += [f"## {workload.title}", table]
    parts += ["## Left out", _bullets(_left_out(results))]
    parts += ["## What to distrust", _bullets(doubts(results, every_row))]
    return "\n\n".join(parts) + "\n"


def _cpu(tables: dict[str, list[Row]], workload: str, peer: str) -> float | None:
    for row in tables[workload]:
        if row.peer == peer:
            return row.cpu_us.median
    return None


def _ceiling(tables: dict[str, list[Row]], workload: Workload) -> float | None:
    """Return what the static server takes, for all work that ends in the server itself."""
    if workload.needs_upstream:
        return None
    return _cpu(tables, workload.name, "hyper") or _cpu(tables, "async-hello", "hyper")


def _ratios(tables: dict[str, list[Row]]) -> list[str]:
    """Say how carboy compares with Flask on gunicorn, if both were measured."""
    carboy = _cpu(tables, "async-hello", "carboy")
    sentences = []
    if carboy:
        for workload, view in (("async-hello", "the same view"), ("sync-hello", "a `def` view")):
            gunicorn = _cpu(tables, workload, "gunicorn")
            if gunicorn:
                sentences.append(
                    f"carboy's async hello takes **{gunicorn / carboy:.1f} x less CPU** than "
                    f"Flask on gunicorn does with {view} "
                    f"({carboy:.1f} and {gunicorn:.1f} µs per request)."
                )
    return ["\n".join(sentences)] if sentences else []


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences) or "Nothing."


def _left_out(results: dict[str, Any]) -> list[str]:
    """Name each server that was not measured at some workload, and why."""
    sentences = []
    for peer in results["peers"].values():
        absent = [name for name in results["workloads"] if name not in peer["workloads"]]
        if absent:
            reason = peer["left_out_because"]
            sentences.append(f"{peer['title']} at {', '.join(absent)}: {reason}.")
    sentences += [f"{failure} **This is a failure.**" for failure in results["failures"]]
    return sentences
