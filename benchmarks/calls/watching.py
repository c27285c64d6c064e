"""What `cancellation.py` and `instructions.py` compare: clients watched and unwatched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from machine import describe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from serving import Bench

SETTINGS = {
    "watched": {},
    "unwatched": {"CARBOY_CANCEL_ON_DISCONNECT": "never"},
}
LENGTHS = {
    "/three": len(b'{"names":["a","b","c"]}\n'),
    "/three-sync": len(b'{"names":["a","b","c"]}\n'),
    "/async-hello": len(b"Hello, World!"),
    "/hello": len(b"Hello, World!"),
}
"""The views, with the lengths of their answers. The clients of the last two are never watched."""

DESCRIBED = ("cpu", "usable_cores", "kernel", "load_average_before", "python", "commit")


def write_run(
    bench: Bench,
    options: argparse.Namespace,
    name: str,
    lines: Sequence[str],
    measurements: dict[str, Any],
) -> None:
    """Write tables and raw data to the directory that was asked for, if any."""
    if options.output is None:
        return
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"{name}.md").write_text("\n".join(lines) + "\n")
    about = describe(bench.environment)
    settings = {
        key: value for key, value in vars(options).items() if key not in {"output", "scripts"}
    }
    data = {
        "machine": {key: about[key] for key in DESCRIBED},
        "options": settings,
        **measurements,
    }
    (options.output / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
