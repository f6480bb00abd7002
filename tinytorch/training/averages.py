"""Averages: of numbers that were measured on batches of different sizes.

Knows names and numbers, never what they measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class Averages:
    """Averages of named numbers, each value weighted by how much it counts.

    Args:
        metrics: name -> metric; if one has a `finish`, its average is given as `finish(average)`.

    Example:
        >>> averages = Averages()
        >>> averages.add({"loss": 1.0}, 3)
        >>> averages.add({"loss": 2.0}, 1)
        >>> averages.means()
        {'loss': 1.25}
        >>> class Odds:
        ...     finish = staticmethod(lambda p: p / (1 - p))
        >>> averages = Averages({"odds": Odds})
        >>> averages.add({"odds": 0.75}, 1)
        >>> averages.means()
        {'odds': 3.0}
    """

    def __init__(self, metrics: Mapping[str, Any] | None = None):
        found = {name: getattr(metric, "finish", None) for name, metric in (metrics or {}).items()}
        self.finish = {name: last for name, last in found.items() if last is not None}
        self.sums: dict[str, list[float]] = {}  # name -> [sum of weight * value, sum of weights]

    def fresh(self) -> Averages:
        """Averages of the same metrics, of nothing yet."""
        new = Averages()
        new.finish = self.finish
        return new

    def add(self, values: Mapping[str, float], weight: float) -> None:
        """Take values that all count `weight`."""
        self.take(values, weight, weight)

    def take(self, values: Mapping[str, float], weight: float, samples: float) -> None:
        """Take a batch: its loss counts `weight`, everything else `samples`."""
        for name, value in values.items():
            entry = self.sums.get(name)
            if entry is None:
                entry = self.sums[name] = [0.0, 0.0]
            counts = weight if name == "loss" else samples
            if counts:  # a batch of which nothing counts has no mean
                entry[0] += value * counts
                entry[1] += counts

    def means(self) -> dict[str, float]:
        """The averages so far; empty before the first batch."""
        found = {}
        for name, (total, weight) in self.sums.items():
            mean = total / weight if weight else math.nan
            found[name] = self.finish[name](mean) if name in self.finish else mean
        return found

    def state_dict(self) -> dict[str, list[float]]:
        """Sums by name."""
        return {name: list(entry) for name, entry in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Take what `state_dict` gave."""
        self.sums = {name: list(entry) for name, entry in state.items()}
