"""Metrics: how good is an output, as one number; and averages over batches of different sizes.

Knows outputs and targets, never models.
"""

from __future__ import annotations

from tinytorch.base.errors import ShapeError
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


class Averages:
    """Averages of named numbers, each batch weighted by its samples.

    Example:
        >>> averages = Averages()
        >>> averages.add({"loss": 1.0}, 3)
        >>> averages.add({"loss": 2.0}, 1)
        >>> averages.means()
        {'loss': 1.25}
    """

    def __init__(self):
        self.samples = 0
        self._sums: dict[str, float] = {}

    def add(self, values: dict[str, float], samples: int) -> None:
        """Count a batch of so many samples."""
        self.samples += samples
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * samples

    def means(self) -> dict[str, float]:
        """The averages so far; empty before the first batch."""
        return (
            {name: total / self.samples for name, total in self._sums.items()}
            if self.samples
            else {}
        )
