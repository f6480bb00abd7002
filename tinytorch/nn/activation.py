"""Activations as modules, for use in Sequential: ReLU, GELU, Tanh, Sigmoid, Softmax.

Knows which function; the arithmetic is in `functional`.
"""

from __future__ import annotations

from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class ReLU(Module):
    """max(x, 0).

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.ReLU()(tt.Tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.relu(x)


class GELU(Module):
    """x times the probability that a standard normal number is below x.

    Args:
        approximate: "none" for x (1 + erf(x / sqrt 2)) / 2, or "tanh" for the formula with tanh.

    Source: Hendrycks, Gimpel 2016, https://arxiv.org/abs/1606.08415.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.GELU()(tt.Tensor([-1.0, 2.0])).numpy().round(4)
        array([-0.1587,  1.9545], dtype=float32)
    """

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise SettingError(
                "GELU: approximate has two values",
                got=f"approximate={approximate!r}",
                rule='"none" or "tanh"',
                fix='GELU(approximate="tanh")',
            )
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Which formula, if not the exact one."""
        return "" if self.approximate == "none" else f"approximate={self.approximate!r}"


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.sigmoid(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis: positive numbers with sum 1.

    Args:
        dim: the axis; default the last.
    """

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"
