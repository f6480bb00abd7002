"""Metrics: how good is an output, as one number.

Knows outputs and targets, never models. A metric is a function of (output, target) that gives a 0-d
Tensor, the mean over the batch; an attribute `finish`, if it has one, is applied to the mean over
the epoch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.losses import CrossEntropyLoss
from tinytorch.tensor.creation import iota
from tinytorch.tensor.indexing import gather
from tinytorch.tensor.shaping import moveaxis
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.loss_weight import setting


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
