"""Averages: of numbers that were measured on batches of different sizes.

Knows names and numbers, never what they measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


class Averages:
    """Averages of named numbers, each value weighted by how much it counts.

    Example:
        >>> averages = Averages()
        >>> averages.add({"loss": 1.0}, 3)
        >>> averages.add({"loss": 2.0}, 1)
        >>> averages.means()
        {'loss': 1.25}
    """

    def __init__(self):
        self.sums: dict[str, list[float]] = {}  # name -> [sum of weight * value, sum of weights]

    def add(self, values: Mapping[str, float], weight: float) -> None:
        """Take values that count `weight`."""
        for name, value in values.items():
            entry = self.sums.get(name)
            if entry is None:
                entry = self.sums[name] = [0.0, 0.0]
            if weight:  # a batch of which nothing counts has no mean
                entry[0] += value * weight
                entry[1] += weight

    def take(self, values: Mapping[str, float], weight: float, samples: float) -> None:
        """Take a batch: its loss counts `weight`, everything else `samples`."""
        for name, value in values.items():
            self.add({name: value}, weight if name == "loss" else samples)

    def means(self) -> dict[str, float]:
        """The averages so far; empty before the first batch."""
        return {
            name: total / weight if weight else math.nan
            for name, (total, weight) in self.sums.items()
        }

    def state_dict(self) -> dict[str, list[float]]:
        """Sums by name."""
        return {name: list(entry) for name, entry in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Take what `state_dict` gave."""
        self.sums = {name: list(entry) for name, entry in state.items()}


def finished(means: Mapping[str, float], metrics: Mapping[str, Callable]) -> dict[str, float]:
    """Averages over an epoch as they are shown: a metric may have a `finish(mean)`.

    >>> class Odds:
    ...     finish = staticmethod(lambda p: p / (1 - p))
    >>> finished({"loss": 2.0, "odds": 0.75}, {"odds": Odds})
    {'loss': 2.0, 'odds': 3.0}
    """
    row = {}
    for name, value in means.items():
        finish = getattr(metrics.get(name), "finish", None)
        row[name] = value if finish is None else finish(value)
    return row
