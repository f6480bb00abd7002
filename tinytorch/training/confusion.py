"""Confusion: which class was taken for which.

Knows counts, never models.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.checks import whole
from tinytorch.base.errors import IndexRangeError, ShapeError
from tinytorch.tensor.tensor import Tensor


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
