"""Upsample: images enlarged by whole numbers.

Knows the factor; the arithmetic is `functional.interpolate`.
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.checks import pair
from tinytorch.nn import functional as F
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class Upsample(Module):
    """Each pixel becomes a block of its copies.

    Args:
        scale_factor: whole number, or a pair (vertical, horizontal); default 2.

    Shapes: (N, C, H, W) -> (N, C, H * vertical, W * horizontal).

    Differs from PyTorch: whole factors and nearest only; scale_factor comes first.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Upsample()(tt.Tensor([[[[1.0, 2.0]]]])).tolist()
        [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]
    """

    def __init__(self, scale_factor: Any = 2):
        self.scale_factor = pair("Upsample", "scale_factor", scale_factor, at_least=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same, enlarged."""
        return F.interpolate(x, scale_factor=self.scale_factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"scale_factor={self.scale_factor}"
