"""Compares servers by many short windows of load, in pairs that lie next to each other.

A machine is faster in one minute than in the next. So windows of all that is compared lie close
together, in an order that is the same forwards and backwards: what changes steadily cancels out.
What counts is the ratio within such a block, and the median of these ratios. The servers are kept
alive from the first block to the last, so that no block pays for a start. How memory is laid out
is a matter of luck for each server, so there are several of each kind.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """The median of some ratios, and the interval in which it is to be expected."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it as what one thing takes more than another."""
        return f"{self.median - 1:+.1%} ({self.low - 1:+.1%} to {self.high - 1:+.1%})"


def estimate(ratios: Sequence[float]) -> Estimate:
    """Return the median with its interval of 95 %, by the percentiles of a bootstrap.

    (B. Efron, R. Tibshirani: An Introduction to the Bootstrap, chapter 13.)
    """
    resample = random.Random(0)
    medians = sorted(
        statistics.median(resample.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)
    )
    outside = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Estimate(statistics.median(ratios), medians[outside], medians[-1 - outside])


def there_and_back(visit: Callable[[str], float], names: Sequence[str]) -> dict[str, float]:
    """Visit all, and once more in reverse; return the mean of the two visits of each."""
    there = [visit(name) for name in names]
    back = [visit(name) for name in reversed(names)]
    pairs = zip(names, there, reversed(back), strict=True)
    return {name: (first + second) / 2 for name, first, second in pairs}
