"""Metrics: how good is an output, as one number; their averages over batches; confusion of classes.

Knows outputs and targets, names and numbers, never models. A metric is a function of (output,
target) that gives a 0-d Tensor, the mean over the batch; an attribute `finish`, if it has one, is
applied to the mean over the epoch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.errors import IndexRangeError, SettingError, ShapeError
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.losses import CrossEntropyLoss
from tinytorch.tensor.creation import iota
from tinytorch.tensor.indexing import gather
from tinytorch.tensor.shaping import moveaxis
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.loss import setting


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


def accuracy(output: Tensor, target: Tensor, ignore_index: int | None = None) -> Tensor:
    """Share of the samples whose largest number stands at the target's place.

    Args:
        output: (N, K, ...), a number for each class on axis 1.
        target: integers (N, ...), or probabilities (N, K, ...), whose largest counts.
        ignore_index: a label that does not count.

    Returns:
        0-d float32 in [0, 1]; of equal numbers the first is the largest.

    Raises:
        ShapeError: the shapes do not belong together.

    Example:
        >>> import tinytorch as tt
        >>> accuracy(tt.Tensor([[0.1, 0.9], [0.8, 0.2]]), tt.tensor([1, 1])).item()
        0.5
    """
    labels = _labels("accuracy", output, target)
    right = output.detach().argmax(1).astype("int64") == labels
    return _share(right, labels, ignore_index)


def top_k(k: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A metric: share of the samples whose right class is among the k largest numbers.

    Args:
        k: at least 1; of equal numbers the earlier class stands higher.

    Returns:
        function of output (N, K, ...) and target, as `accuracy`.

    Example:
        >>> import tinytorch as tt
        >>> output = tt.Tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> top_k(2)(output, tt.tensor([1, 2])).item()
        0.5
    """
    most = whole("top_k", "k", k, at_least=1)

    def among_the_largest(output: Tensor, target: Tensor) -> Tensor:
        labels = _labels("top_k", output, target)
        numbers = moveaxis(output.detach(), 1, -1)  # (N, ..., K)
        places = iota(numbers.shape, len(numbers.shape) - 1)
        chosen = gather(numbers, -1, labels.unsqueeze(-1))  # (N, ..., 1)
        before = (numbers > chosen) | ((numbers == chosen) & (places < labels.unsqueeze(-1)))
        rank = before.astype("int64").sum(-1)
        there = (chosen == chosen).squeeze(-1)  # what is no number has no rank
        return _share((rank < most) & there, labels, None)

    return among_the_largest


class Perplexity:
    """exp(mean cross-entropy): among how many equally likely answers the model hesitates.

    The cross-entropy is averaged over the epoch first, and exp taken then.

    Args:
        ignore_index: a label that does not count.

    Example:
        >>> import tinytorch as tt
        >>> metric = Perplexity()
        >>> mean = metric(tt.zeros(5, 8), tt.tensor([0, 1, 2, 3, 4])).item()
        >>> round(metric.finish(mean), 4)
        8.0
    """

    def __init__(self, ignore_index: int | None = None):
        self.ignore_index = ignore_index

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of a batch."""
        if self.ignore_index is None:
            return cross_entropy(output, target)
        return cross_entropy(output, target, ignore_index=self.ignore_index)

    @staticmethod
    def finish(mean: float) -> float:
        """The perplexity."""
        return math.exp(mean) if mean < 709 else math.inf  # exp(709.8) is the largest float64


def mean_absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean of |output - target|, 0-d.

    Args:
        output: any shape.
        target: the same shape.

    Raises:
        ShapeError: shapes differ; broadcasting would hide a mistake here.

    Example:
        >>> import tinytorch as tt
        >>> mean_absolute_error(tt.Tensor([1.0, 5.0]), tt.Tensor([1.0, 2.0])).item()
        1.5
    """
    if tuple(output.shape) != tuple(target.shape):
        raise ShapeError(
            "mean_absolute_error: output and target have different shapes",
            got=f"output {tuple(output.shape)}, target {tuple(target.shape)}",
            rule="equal shapes",
            fix=f"target.reshape{tuple(output.shape)}",
        )
    return (output - target).abs().mean()


def named_metrics(metrics: Mapping[str, Callable] | None, loss: Callable) -> dict[str, Callable]:
    """The metrics of a Trainer by name: those given, or the ones that belong to its loss.

    Args:
        metrics: name -> function, or None.
        loss: the loss that is trained with.

    Raises:
        SettingError: there is something else in `metrics`.
    """
    if metrics is None:
        return default_metrics(loss)
    if not isinstance(metrics, Mapping) or not all(map(callable, metrics.values())):
        raise SettingError(
            "Trainer: metrics are names and functions",
            got=f"metrics={metrics!r}",
            rule="name -> function of (output, target); the name is a column of the history",
            fix='metrics={"accuracy": accuracy}',
        )
    return dict(metrics)


def default_metrics(loss: Callable) -> dict[str, Callable]:
    """Accuracy where the loss is cross-entropy, nothing elsewhere."""
    base = loss.func if isinstance(loss, functools.partial) else loss
    if base is not cross_entropy and not isinstance(base, CrossEntropyLoss):
        return {}
    ignored = setting(loss, "ignore_index")
    return {
        "accuracy": accuracy
        if ignored is None
        else functools.partial(accuracy, ignore_index=ignored)
    }


def _labels(owner: str, output: Tensor, target: Tensor) -> Tensor:
    """Integers (N, ...)."""
    shape, wanted = tuple(output.shape), tuple(target.shape)
    if len(shape) >= 2 and wanted == shape and target.dtype.is_float:
        return target.argmax(1).astype("int64")
    if len(shape) < 2 or wanted != (shape[0], *shape[2:]):
        raise ShapeError(
            f"{owner}: output and target do not belong together",
            got=f"output {shape}, target {wanted}",
            rule="output (N, K, ...) and target (N, ...), the right class of each sample",
            fix="output.reshape(-1, K), target.reshape(-1)",
        )
    return target.astype("int64")


def _share(right: Tensor, labels: Tensor, ignore_index: int | None) -> Tensor:
    if ignore_index is None:
        return right.astype("float32").mean()
    counts = labels != ignore_index
    return (right & counts).astype("float32").sum() / counts.astype("float32").sum()


class ConfusionMatrix:
    """Counts of (right class, answer), and what follows from them.

    Args:
        classes: K, at least 1.

    Example:
        >>> matrix = ConfusionMatrix(2)
        >>> matrix.add(np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), np.array([0, 1, 0]))
        >>> matrix.counts
        array([[1, 1],
               [0, 1]])
        >>> matrix.recall().tolist(), matrix.precision().tolist(), round(matrix.accuracy(), 3)
        ([0.5, 1.0], [1.0, 0.5], 0.667)
    """

    def __init__(self, classes: int):
        size = whole("ConfusionMatrix", "classes", classes, at_least=1)
        self.counts = np.zeros((size, size), np.int64)  # [right class, answer]

    def add(self, output: Any, target: Any) -> None:
        """Count a batch.

        Args:
            output: (N, K), whose largest number is the answer, or the answers (N,).
            target: (N,), the right classes.

        Raises:
            ShapeError: the shapes do not belong together.
            IndexRangeError: a class outside [0, K).
        """
        answers, labels = _numbers(output), _numbers(target)
        size = len(self.counts)
        if answers.ndim == 2 and answers.shape[1] == size:
            answers = answers.argmax(1)
        if answers.ndim != 1 or answers.shape != labels.shape:
            raise ShapeError(
                "ConfusionMatrix: outputs and targets do not belong together",
                got=f"output {np.shape(output)}, target {np.shape(target)}",
                rule=f"output (N, {size}) or answers (N,), and target (N,)",
                fix="output.reshape(-1, K), target.reshape(-1)",
            )
        outside = [x for part in (answers, labels) for x in part if not 0 <= x < size]
        if outside:
            raise IndexRangeError(
                "ConfusionMatrix: there is no such class",
                got=outside[0],
                rule=f"0 <= class < {size}",
                fix=f"ConfusionMatrix({int(max(outside)) + 1})",
            )
        np.add.at(self.counts, (labels.astype(np.int64), answers.astype(np.int64)), 1)

    def accuracy(self) -> float:
        """Share of right answers."""
        return float(_divided(np.trace(self.counts), self.counts.sum()))

    def recall(self) -> np.ndarray:
        """For each class, the share of its samples that were found, (K,); nan without samples."""
        return _divided(self.counts.diagonal(), self.counts.sum(1))

    def precision(self) -> np.ndarray:
        """For each class, the share of such answers that are right, (K,); nan without answers."""
        return _divided(self.counts.diagonal(), self.counts.sum(0))

    def f1(self) -> np.ndarray:
        """2 / (1 / precision + 1 / recall) for each class, (K,); nan where it never occurred."""
        return _divided(2 * self.counts.diagonal(), self.counts.sum(0) + self.counts.sum(1))

    def __str__(self) -> str:
        size = len(self.counts)
        cells = [["right \\ answer", *map(str, range(size)), "recall"]]
        for i, (row, found) in enumerate(zip(self.counts, self.recall(), strict=True)):
            cells.append([str(i), *map(str, row), "-" if np.isnan(found) else f"{found:.3f}"])
        widths = [max(len(line[j]) for line in cells) for j in range(size + 2)]
        return "\n".join(
            "  ".join(x.rjust(w) for x, w in zip(line, widths, strict=True)) for line in cells
        )


def _numbers(x: Any) -> np.ndarray:
    return x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _divided(a: Any, b: Any) -> np.ndarray:
    """a / b, nan where b is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a) / np.asarray(b)
