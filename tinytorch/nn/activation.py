"""Activations as functions and as modules: ReLU, GELU, SiLU, Tanh, Softmax and the rest.

Knows formulas. None overflows where its value is finite, in value or in gradient: what would
overflow on one side of zero is computed from numbers of the other side only. Those with an
underscore write over their input, which saves the memory of a second array. They do so outside of
recording; there the result is computed beside, and gradients are those of the numbers used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tinytorch.base.arguments import flag, number, whole
from tinytorch.base.dtypes import bfloat16, float32
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.assignment import is_tracked
from tinytorch.tensor.creation import full
from tinytorch.tensor.dispatch import in_float32, to_dtype
from tinytorch.tensor.elementwise import abs as magnitude
from tinytorch.tensor.elementwise import exp, log1p, relu, sigmoid, tanh, where
from tinytorch.tensor.elementwise import gelu as gelu_by_erf
from tinytorch.tensor.interpreter import STATE, no_grad
from tinytorch.tensor.memory import from_array, writable
from tinytorch.tensor.operands import check_one_float
from tinytorch.tensor.reductions import log_softmax, softmax
from tinytorch.tensor.shaping import chunk
from tinytorch.tensor.tensor import Tensor

BLOCK = 2**16  # numbers; 256 KiB of float32, so that what a formula keeps meanwhile stays in L2


def in_place(function: Callable[[Tensor], Tensor], input: Tensor, *settings: Any) -> Tensor:
    """`input`, which holds function(input) from now on.

    Args:
        function: elementwise: each result depends on the number at its place alone.
        input: any shape, floating point.
        settings: of the function; a Tensor among them may get a gradient.

    Raises:
        GradientError: `input` is a leaf that gathers a gradient, and operations are recorded.

    Cost: memory for one block of 65,536 numbers and what the formula needs for it. Measured on
    16 MiB of float32 numbers: 0.5 MiB in place of 20 for relu, 0.5 in place of 32 for silu, 1.6 in
    place of 49 for gelu (tests/nn/test_activation.py holds a bound).

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([-1.0, 2.0])
        >>> in_place(tt.relu, x) is x, x.tolist()
        (True, [0.0, 2.0])
    """
    recorded = STATE.recording and is_tracked(input, None)
    recorded = recorded or any(isinstance(x, Tensor) for x in settings)
    if STATE.interpreter is not None or STATE.journal is not None or recorded:
        return input.assign_(function(input))
    if not input._buffer.array.flags.c_contiguous:
        return input.assign_(function(input))
    numbers = writable(input).reshape(-1)
    with no_grad():
        for first in range(0, numbers.size, BLOCK):
            block = numbers[first : first + BLOCK]
            block[...] = function(from_array(block, input.dtype))._buffer.array
    return input


def as_kept(x: Tensor) -> Tensor:
    """x as the backward pass of an activation finds it: under `precision("bf16")` in bfloat16.

    What lies between two contractions is rounded where it is kept, as what they read is, so it
    takes half the memory. The formula is computed in float32.
    """
    if STATE.precision != "bf16" or x.dtype is not float32:
        return x
    kept: Any = to_dtype(to_dtype(x, bfloat16), float32)
    return kept


class Activation(Module):
    """Base of modules that apply a function without settings to each number."""

    function: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.function(x)


class InPlace(Activation):
    """Base of activations that may write over their input.

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.
    """

    _shown = {"inplace": False}

    def __init__(self, inplace: bool = False):
        self.inplace = flag(type(self).__name__, "inplace", inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(self.function, x) if self.inplace else self.function(x)


class OverAxis(Module):
    """Base of modules that apply a function along an axis.

    Args:
        dim: the axis; default the last.
    """

    _shown = {"dim": ...}

    function: Callable[[Tensor, int], Tensor]

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Along the axis."""
        return self.function(x, self.dim)


def relu_(input: Tensor) -> Tensor:
    """`relu`, written over its input.

    Args:
        input: any shape.
    """
    return in_place(relu, input)


class ReLU(InPlace):
    """max(x, 0).

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.ReLU()(tt.Tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    function = staticmethod(relu)


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


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`hardtanh`, written over its input.

    Args:
        input: any shape.
        min_val: smallest result.
        max_val: largest result.
    """
    return in_place(lambda x: hardtanh(x, min_val, max_val), input, min_val, max_val)


class Hardtanh(InPlace):
    """x held between two numbers.

    Args:
        min_val: smallest result; default -1.
        max_val: largest result, above min_val; default 1.
        inplace: write over the input where nobody needs its old numbers; default False.
    """

    _shown = {"min_val": ..., "max_val": ...}

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        super().__init__(inplace)
        self.min_val = number("Hardtanh", "min_val", min_val, "(-inf, inf)")
        self.max_val = number("Hardtanh", "max_val", max_val, f"({self.min_val!r}, inf)")

    def function(self, x: Tensor) -> Tensor:
        """The same shape."""
        return hardtanh(x, self.min_val, self.max_val)


def relu6(input: Tensor) -> Tensor:
    """min(max(x, 0), 6).

    Args:
        input: any shape.
    """
    return hardtanh(input, 0.0, 6.0)


class ReLU6(InPlace):
    """min(max(x, 0), 6).

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.
    """

    function = staticmethod(relu6)


@in_float32()
def leaky_relu(input: Tensor, negative_slope: Any = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x.

    Args:
        input: any shape.
        negative_slope: for negative numbers, a number or a 0-d Tensor; default 0.01, as in PyTorch.

    Source: Maas, Hannun, Ng 2013, section 2.
    """
    return where(input > 0.0, input, input * negative_slope)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`leaky_relu`, written over its input.

    Args:
        input: any shape.
        negative_slope: for negative numbers.
    """
    return in_place(lambda x: leaky_relu(x, negative_slope), input, negative_slope)


class LeakyReLU(InPlace):
    """x where x > 0, else negative_slope * x.

    Args:
        negative_slope: for negative numbers; default 0.01, as in PyTorch.
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Maas, Hannun, Ng 2013, section 2.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.LeakyReLU(0.1)(tt.Tensor([-1.0, 2.0])).numpy().round(4)
        array([-0.1,  2. ], dtype=float32)
    """

    _shown = {"negative_slope": ...}

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__(inplace)
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope, "(-inf, inf)")

    def function(self, x: Tensor) -> Tensor:
        """The same shape."""
        return leaky_relu(x, self.negative_slope)


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


class PReLU(Module):
    """x where x > 0, else weight * x, the weight learned.

    Args:
        num_parameters: C, one slope for each channel; default 1, one for all.
        init: first value of each slope; default 0.25.

    Shapes: (N, C, ...) -> the same; weight (num_parameters,).

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, equation 1 and section 2.1 (0.25).
    """

    _shown = {"num_parameters": ...}

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        self.num_parameters = whole("PReLU", "num_parameters", num_parameters, at_least=1)
        start = number("PReLU", "init", init, "(-inf, inf)")
        self.weight = Parameter(full((self.num_parameters,), start))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return prelu(x, self.weight)


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


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`elu`, written over its input.

    Args:
        input: any shape.
        alpha: minus the limit for negative numbers.
    """
    return in_place(lambda x: elu(x, alpha), input, alpha)


class ELU(InPlace):
    """x where x > 0, else alpha (exp(x) - 1).

    Args:
        alpha: minus the limit for negative numbers; default 1.
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Clevert, Unterthiner, Hochreiter 2015, https://arxiv.org/abs/1511.07289.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.ELU()(tt.Tensor([-10000.0, 2.0])).tolist()
        [-1.0, 2.0]
    """

    _shown = {"alpha": ...}

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__(inplace)
        self.alpha = number("ELU", "alpha", alpha, "(-inf, inf)")

    def function(self, x: Tensor) -> Tensor:
        """The same shape."""
        return elu(x, self.alpha)


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


def selu_(input: Tensor) -> Tensor:
    """`selu`, written over its input.

    Args:
        input: any shape.
    """
    return in_place(selu, input)


class SELU(InPlace):
    """scale * elu(x, alpha) with the constants that keep mean 0 and variance 1.

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515.
    """

    function = staticmethod(selu)


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
    input = as_kept(input)
    if approximate == "none":
        return gelu_by_erf(input)
    if approximate != "tanh":
        raise SettingError(
            "gelu: approximate has two values",
            got=f"approximate={approximate!r}",
            rule='"none" or "tanh"',
            fix='gelu(x, approximate="tanh")',
        )
    inner = (input + 0.044715 * (input * input * input)) * math.sqrt(2.0 / math.pi)
    return input * 0.5 * (tanh(inner) + 1.0)


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

    _shown = {"approximate": "none"}

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
        return gelu(x, self.approximate)


def sigmoid_(input: Tensor) -> Tensor:
    """`sigmoid`, written over its input.

    Args:
        input: any shape.
    """
    return in_place(sigmoid, input)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(sigmoid)


@in_float32()
def silu(input: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish.

    Args:
        input: any shape.

    Source: Elfwing, Uchibe, Doya 2017, https://arxiv.org/abs/1702.03118.
    """
    input = as_kept(input)
    return input * sigmoid(input)


class SiLU(InPlace):
    """x * sigmoid(x), also called swish.

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Elfwing, Uchibe, Doya 2017, https://arxiv.org/abs/1702.03118.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.SiLU()(tt.Tensor([-1.0, 2.0])).numpy().round(4)
        array([-0.2689,  1.7616], dtype=float32)
    """

    function = staticmethod(silu)


@in_float32()
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x).

    Args:
        input: any shape.
    """
    return -softplus(-input)


class LogSigmoid(Activation):
    """log(sigmoid(x)), which does not underflow.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.LogSigmoid()(tt.Tensor([-10000.0, 10000.0])).tolist()
        [-10000.0, -0.0]
    """

    function = staticmethod(logsigmoid)


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


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, a smooth ReLU that does not overflow.

    Args:
        beta: sharpness, in (0, inf); default 1.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Softplus()(tt.Tensor([-10000.0, 0.0, 10000.0])).numpy().round(4)
        array([0.000e+00, 6.931e-01, 1.000e+04], dtype=float32)
    """

    _shown = {"beta": ...}

    def __init__(self, beta: float = 1.0):
        self.beta = number("Softplus", "beta", beta, "(0, inf)")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return softplus(x, self.beta)


@in_float32()
def mish(input: Tensor) -> Tensor:
    """x * tanh(softplus(x)).

    Args:
        input: any shape.

    Source: Misra 2019, https://arxiv.org/abs/1908.08681, equation 1.
    """
    return input * tanh(softplus(input))


class Mish(InPlace):
    """x * tanh(softplus(x)).

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Misra 2019, https://arxiv.org/abs/1908.08681.
    """

    function = staticmethod(mish)


def tanh_(input: Tensor) -> Tensor:
    """`tanh`, written over its input.

    Args:
        input: any shape.
    """
    return in_place(tanh, input)


class Tanh(Activation):
    """Hyperbolic tangent."""

    function = staticmethod(tanh)


@in_float32()
def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|).

    Args:
        input: any shape.
    """
    return input / (magnitude(input) + 1.0)


class Softsign(Activation):
    """x / (1 + |x|)."""

    function = staticmethod(softsign)


@in_float32()
def hardsigmoid(input: Tensor) -> Tensor:
    """(x + 3) / 6 held between 0 and 1.

    Args:
        input: any shape.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2.
    """
    return hardtanh(input + 3.0, 0.0, 6.0) * (1.0 / 6.0)


class Hardsigmoid(InPlace):
    """(x + 3) / 6 held between 0 and 1.

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2.
    """

    function = staticmethod(hardsigmoid)


@in_float32()
def hardswish(input: Tensor) -> Tensor:
    """x * hardsigmoid(x).

    Args:
        input: any shape.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2.
    """
    return input * hardsigmoid(input)


class Hardswish(InPlace):
    """x * hardsigmoid(x).

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2.
    """

    function = staticmethod(hardswish)


class Softmax(OverAxis):
    """exp(x) / sum(exp(x)) along an axis: positive numbers with sum 1.

    Args:
        dim: the axis; default the last.
    """

    function = staticmethod(softmax)


class LogSoftmax(OverAxis):
    """log(softmax(x)) along an axis, which does not underflow.

    Args:
        dim: the axis; default the last.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.LogSoftmax()(tt.Tensor([-10000.0, 10000.0])).tolist()
        [-20000.0, 0.0]
    """

    function = staticmethod(log_softmax)


@in_float32()
def softmin(input: Tensor, dim: int = -1, *, dtype=None) -> Tensor:
    """softmax(-x) along an axis.

    Args:
        input: any shape.
        dim: the axis.
        dtype: input is converted to it first.
    """
    return softmax(-input, dim, dtype=dtype)


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


class GLU(OverAxis):
    """One half of an axis times the sigmoid of the other.

    Args:
        dim: the axis that is halved; default the last.

    Shapes: (..., 2 C) -> (..., C).

    Source: Dauphin et al. 2016, https://arxiv.org/abs/1612.08083, equation 1.
    """

    function = staticmethod(glu)
