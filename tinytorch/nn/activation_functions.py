"""Activations as functions: each number becomes another, or a row becomes a distribution.

Knows formulas. None overflows where its value is finite.
"""

from __future__ import annotations

import math

from tinytorch.base.errors import SettingError
from tinytorch.tensor.elementwise import erf, tanh
from tinytorch.tensor.tensor import Tensor


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * P(normal number < x), exactly by erf or approximately by tanh.

    Args:
        input: any shape.
        approximate: "none" or "tanh".

    Source: Hendrycks, Gimpel 2016, https://arxiv.org/abs/1606.08415; 0.044715 is section 2's.

    Example:
        >>> import tinytorch as tt
        >>> gelu(tt.Tensor([0.0, 3.0])).numpy().round(3)
        array([0.   , 2.996], dtype=float32)
    """
    if approximate == "none":
        return input * 0.5 * (erf(input * math.sqrt(0.5)) + 1.0)
    if approximate != "tanh":
        raise SettingError(
            "gelu: approximate has two values",
            got=f"approximate={approximate!r}",
            rule='"none" or "tanh"',
            fix='gelu(x, approximate="tanh")',
        )
    inner = (input + 0.044715 * (input * input * input)) * math.sqrt(2.0 / math.pi)
    return input * 0.5 * (tanh(inner) + 1.0)
