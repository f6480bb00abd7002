"""Dropout: in training a random part of the numbers is set to zero.

Knows how large a part; the arithmetic is `functional.dropout`.
"""

from __future__ import annotations

from tinytorch.base.checks import number
from tinytorch.nn import functional as F
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class Dropout(Module):
    """In training each number is 0 with probability p, else divided by 1 - p; else unchanged.

    Args:
        p: probability of a zero, in [0, 1]; default 0.5.

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.

    Example:
        >>> import tinytorch as tt
        >>> layer = tt.nn.Dropout(0.5).eval()
        >>> layer(tt.ones(3)).tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, p: float = 0.5):
        self.p = number("Dropout", "p", p, "[0, 1]")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p:g}"
