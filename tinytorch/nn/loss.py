"""Losses as modules: CrossEntropyLoss and MSELoss.

Knows the settings of a loss; the arithmetic is in `functional`.
"""

from __future__ import annotations

from tinytorch.nn import functional as F
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class CrossEntropyLoss(Module):
    """Mean of logsumexp(logits) - logits[label].

    Args:
        ignore_index: a label that does not count; default None: every label counts.
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target spread evenly over all classes, in [0, 1].

    Shapes: logits (N, K), labels (N,) -> 0-d.

    Differs from PyTorch: ignore_index has no default (there -100); no class weights.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.CrossEntropyLoss()(tt.Tensor([[0.0, 50.0]]), tt.Tensor([1])).item()
        0.0
    """

    def __init__(
        self, ignore_index: int | None = None, reduction: str = "mean", label_smoothing: float = 0.0
    ):
        self.ignore_index, self.reduction, self.label_smoothing = (
            ignore_index,
            reduction,
            label_smoothing,
        )

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (N, K) and labels (N,) -> 0-d."""
        return F.cross_entropy(
            input, target, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Settings that are not the default."""
        given = (("ignore_index", None), ("reduction", "mean"), ("label_smoothing", 0.0))
        return ", ".join(
            f"{n}={getattr(self, n)!r}" for n, default in given if getattr(self, n) != default
        )


class MSELoss(Module):
    """Mean of squared differences.

    Shapes: two of the same shape -> 0-d.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.MSELoss()(tt.Tensor([1.0, 2.0]), tt.Tensor([1.0, 4.0])).item()
        2.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two Tensors of one shape -> 0-d."""
        return F.mse_loss(input, target)
