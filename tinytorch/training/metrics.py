"""Metrics: how good is an output, as one number; and averages over batches of different sizes.

Knows outputs and targets, never models.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

from tinytorch.base.errors import ShapeError
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.loss import CrossEntropyLoss
from tinytorch.tensor.tensor import Tensor


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Share of the rows whose largest number stands at the target's place.

    Args:
        output: (N, K), one number per class.
        target: integers (N,).

    Returns:
        0-d float32 in [0, 1].

    Raises:
        ShapeError: the shapes do not belong together.

    Example:
        >>> import tinytorch as tt
        >>> accuracy(tt.Tensor([[0.1, 0.9], [0.8, 0.2]]), tt.Tensor([1, 1])).item()
        0.5
    """
    if len(output.shape) != 2 or tuple(target.shape) != tuple(output.shape[:1]):
        raise ShapeError(
            "accuracy: output and target do not belong together",
            got=f"output {tuple(output.shape)}, target {tuple(target.shape)}",
            rule="output (N, K) and target (N,), the right class of each row",
            fix="output.reshape(-1, K), target.reshape(-1)",
        )
    right = output.detach().argmax(1).astype("int64") == target.astype("int64")
    return right.astype("float32").mean()


def default_metrics(loss: Callable) -> dict[str, Callable]:
    """Accuracy where the loss is cross-entropy, nothing elsewhere."""
    base = loss.func if isinstance(loss, functools.partial) else loss
    classifies = base is cross_entropy or isinstance(base, CrossEntropyLoss)
    return {"accuracy": accuracy} if classifies else {}


def finished(means: dict[str, float], metrics: Mapping[str, Callable]) -> dict[str, float]:
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

    def add(self, values: dict[str, float], weight: float) -> None:
        """Take values that count `weight`."""
        for name, value in values.items():
            entry = self.sums.get(name)
            if entry is None:
                entry = self.sums[name] = [0.0, 0.0]
            if weight:  # a batch of which nothing counts has no mean
                entry[0] += value * weight
                entry[1] += weight

    def take(self, values: dict[str, float], weight: float, samples: float) -> None:
        """Take a batch: its loss counts `weight`, everything else `samples`."""
        for name, value in values.items():
            self.add({name: value}, weight if name == "loss" else samples)

    def means(self) -> dict[str, float]:
        """The averages so far; empty before the first batch."""
        return {name: total / weight if weight else math.nan
                for name, (total, weight) in self.sums.items()}  # fmt: skip

    def state_dict(self) -> dict[str, list[float]]:
        """Sums by name."""
        return {name: list(entry) for name, entry in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Take what `state_dict` gave."""
        self.sums = {name: list(entry) for name, entry in state.items()}
