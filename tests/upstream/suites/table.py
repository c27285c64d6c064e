"""The table of results that a run ends with."""

from __future__ import annotations


def format_table(rows: list[tuple[str, ...]]) -> str:
    """Align the columns of the rows, of which the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *rest]))
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
