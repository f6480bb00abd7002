"""Dropout, Dropout2d, DropPath: in training a random part is set to zero.

Knows how large a part; the arithmetic is in `functional`.
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


class Dropout2d(Module):
    """In training each channel is 0 with probability p, else divided by 1 - p; else unchanged.

    Args:
        p: probability of a zero, in [0, 1]; default 0.5.

    Shapes: (N, C, ...) -> the same.

    Source: Tompson et al. 2014, https://arxiv.org/abs/1411.4280, section 3.2.
    """

    def __init__(self, p: float = 0.5):
        self.p = number("Dropout2d", "p", p, "[0, 1]")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.dropout2d(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p:g}"


class DropPath(Module):
    """In training each sample is 0 with probability p, else divided by 1 - p; else unchanged.

    Put it on the branch beside a residual connection: `x + drop_path(block(x))`. A dropped sample
    skips the block, so a deep network trains as a mixture of shallower ones.

    Args:
        p: probability of dropping a sample, in [0, 1]; default 0.1.

    Shapes: (N, ...) -> the same.

    Source: Huang et al. 2016, https://arxiv.org/abs/1603.09382 (stochastic depth).

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.DropPath(1.0)(tt.ones(2, 3)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, p: float = 0.1):
        self.p = number("DropPath", "p", p, "[0, 1]")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.drop_path(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p:g}"
