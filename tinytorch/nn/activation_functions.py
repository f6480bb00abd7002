"""Activations as functions: each number becomes another, or a row becomes a distribution.

Knows formulas. None overflows where its value is finite, in value or in gradient: what would
overflow on one side of zero is computed from numbers of the other side only.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.base.checks import number
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.tensor.dispatch import in_float32, to_dtype
from tinytorch.tensor.elementwise import abs as magnitude
from tinytorch.tensor.elementwise import (
    erf,
    exp,
    sigmoid,
    tanh,
    where,
)
from tinytorch.tensor.exponentials import log1p
from tinytorch.tensor.operands import check_one_float
from tinytorch.tensor.reductions import softmax
from tinytorch.tensor.shaping import chunk
from tinytorch.tensor.tensor import Tensor


@in_float32()
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


@in_float32()
def leaky_relu(input: Tensor, negative_slope: Any = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x.

    Args:
        input: any shape.
        negative_slope: for negative numbers, a number or a 0-d Tensor; default 0.01, as in PyTorch.

    Source: Maas, Hannun, Ng 2013, section 2.
    """
    return where(input > 0.0, input, input * negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight * x, the weight learned.

    Args:
        input: (N, C, ...) or any shape with one weight.
        weight: (C,), one slope for each channel, or (1,).

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, equation 1.
    """
    check_one_float("prelu", input=input, weight=weight)
    if weight.size == 1:
        slope = weight.reshape(())
    elif len(input.shape) < 2 or input.shape[1] != weight.shape[0]:
        raise ShapeError(
            "prelu: one slope for each channel",
            got=f"input {tuple(input.shape)}, weight {tuple(weight.shape)}",
            rule="input (N, C, ...), weight (C,) or (1,)",
            fix=f"PReLU({input.shape[1] if len(input.shape) > 1 else 1})",
        )
    else:
        slope = weight.reshape(-1, *(1,) * (len(input.shape) - 2))
    return where(input > 0.0, input, input * slope)


@in_float32()
def elu(input: Tensor, alpha: Any = 1.0) -> Tensor:
    """x where x > 0, else alpha (exp(x) - 1).

    Args:
        input: any shape.
        alpha: minus the limit for negative numbers, a number or a 0-d Tensor; default 1.

    Source: Clevert, Unterthiner, Hochreiter 2015, https://arxiv.org/abs/1511.07289, equation 15.
    """
    negative = where(input > 0.0, 0.0, input)  # exp of a large number would make inf * 0 behind
    return where(input > 0.0, input, (exp(negative) - 1.0) * alpha)


@in_float32()
def selu(input: Tensor) -> Tensor:
    """scale * elu(x, alpha): keeps mean 0 and variance 1 from layer to layer.

    Args:
        input: any shape.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515; both constants are the fixed
    point of its equations 4 and 5, as printed on page 3 with more digits.
    """
    alpha, scale = 1.6732632423543772848, 1.0507009873554804934
    return elu(input, alpha) * scale


@in_float32()
def silu(input: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish.

    Args:
        input: any shape.

    Source: Elfwing, Uchibe, Doya 2017, https://arxiv.org/abs/1702.03118.
    """
    return input * sigmoid(input)


@in_float32()
def mish(input: Tensor) -> Tensor:
    """x * tanh(softplus(x)).

    Args:
        input: any shape.

    Source: Misra 2019, https://arxiv.org/abs/1908.08681, equation 1.
    """
    return input * tanh(softplus(input))


@in_float32()
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, without overflow.

        max(x, 0) + log(1 + exp(-|beta x|)) / beta

    Args:
        input: any shape.
        beta: sharpness, in (0, inf).
        threshold: where beta x is larger the result is x. Nothing overflows without it, and from 20
            on, the default, it is not looked at: there the formula is x to rounding.
    """
    beta = number("softplus", "beta", beta, "(0, inf)")
    threshold = number("softplus", "threshold", threshold, "(-inf, inf)")
    scaled = input if beta == 1.0 else input * beta
    # |x| is written by a comparison: at 0 the slope must be 1/2, where that of abs() is 0
    distance = where(scaled >= 0.0, scaled, -scaled)
    out = where(scaled >= 0.0, scaled, 0.0) + log1p(exp(-distance))
    out = out if beta == 1.0 else out * (1.0 / beta)
    return out if threshold >= 20.0 else where(scaled > threshold, input, out)


@in_float32()
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x).

    Args:
        input: any shape.
    """
    return -softplus(-input)


@in_float32()
def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|).

    Args:
        input: any shape.
    """
    return input / (magnitude(input) + 1.0)


def relu6(input: Tensor) -> Tensor:
    """min(max(x, 0), 6).

    Args:
        input: any shape.
    """
    return hardtanh(input, 0.0, 6.0)


def hardtanh(input: Tensor, min_val: Any = -1.0, max_val: Any = 1.0) -> Tensor:
    """x held between two numbers.

    Args:
        input: any shape.
        min_val: smallest result, a number or a 0-d Tensor.
        max_val: largest result, not below min_val.
    """
    of_tensors = isinstance(min_val, Tensor) or isinstance(max_val, Tensor)
    if not of_tensors and not min_val <= max_val:
        raise SettingError(
            "hardtanh: the bounds are the wrong way round",
            got=f"min_val={min_val}, max_val={max_val}",
            rule="min_val <= max_val",
            fix="hardtanh(x, -1.0, 1.0)",
        )
    held = where(input >= max_val, _bound(max_val, input), input)
    return where(input <= min_val, _bound(min_val, input), held)


def _bound(value: Any, input: Tensor) -> Any:
    """A bound in the number type of input."""
    if isinstance(value, Tensor):
        return to_dtype(value, input.dtype)
    return float(value) if input.dtype.is_float else int(value)


@in_float32()
def hardsigmoid(input: Tensor) -> Tensor:
    """(x + 3) / 6 held between 0 and 1.

    Args:
        input: any shape.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2.
    """
    return hardtanh(input + 3.0, 0.0, 6.0) * (1.0 / 6.0)


@in_float32()
def hardswish(input: Tensor) -> Tensor:
    """x * hardsigmoid(x).

    Args:
        input: any shape.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2.
    """
    return input * hardsigmoid(input)


@in_float32()
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """One half of an axis times the sigmoid of the other.

    Args:
        input: even size along dim.
        dim: the axis that is halved; default the last.

    Source: Dauphin et al. 2016, https://arxiv.org/abs/1612.08083, equation 1.
    """
    if not input.shape or input.shape[dim] % 2:
        raise ShapeError(
            "glu: the axis cannot be halved",
            got=f"input {tuple(input.shape)}, dim={dim}",
            rule="an even size along dim",
            fix="give the layer before it twice the features",
        )
    value, gate = chunk(input, 2, dim)
    return value * sigmoid(gate)


@in_float32()
def softmin(input: Tensor, dim: int = -1, *, dtype=None) -> Tensor:
    """softmax(-x) along an axis.

    Args:
        input: any shape.
        dim: the axis.
        dtype: input is converted to it first.
    """
    return softmax(-input, dim, dtype=dtype)
