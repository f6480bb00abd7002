"""Flatten: the step from images to rows of features.

Knows shapes alone.
"""

from __future__ import annotations

from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class Flatten(Module):
    """(N, ...) -> (N, product of the rest).

    Differs from PyTorch: always from axis 1 to the last, its defaults.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Flatten()(tt.zeros(2, 3, 4, 4)).shape
        (2, 48)
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, features)."""
        features = 1  # counted here: reshape's -1 cannot be worked out for an empty batch
        for size in x.shape[1:]:
            features *= size
        return x.reshape(x.shape[0], features)
