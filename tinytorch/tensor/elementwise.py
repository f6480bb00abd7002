"""Elementwise functions of Tensors: those of one row each, and these, which are more than a row.

Knows which rows each is made of, and which number types it wants: arithmetic and choices with
options, then logarithms, angles and hyperbolas, which are formulas.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.base.dtypes import as_dtype, bfloat16, bool_, float16, float32, float64, int64
from tinytorch.base.errors import DTypeError, SettingError
from tinytorch.primitives import TABLE
from tinytorch.tensor.dispatch import (
    apply,
    as_float,
    as_floats,
    binary,
    common,
    copied,
    custom_vjp,
    elementwise,
    in_float32,
    number,
    tensor_in,
    to_dtype,
    with_slope,
)
from tinytorch.tensor.interpreter import STATE, no_grad
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.operands import Operand, make, plain, tensor_of
from tinytorch.tensor.row_functions import *  # noqa: F403
from tinytorch.tensor.row_functions import (
    abs,
    cos,
    eq,
    exp,
    floor_divide,
    greater,
    less,
    log,
    logical_and,
    logical_not,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    reciprocal,
    rsqrt,
    sign,
    sin,
    sqrt,
)

__all__ = [
    "acos", "acosh", "add", "allclose", "asin", "asinh", "astype", "atan", "atan2", "atanh", "ceil",
    "clip", "copysign", "cosh", "divide", "expm1", "floor", "hypot", "isclose", "log10", "log1p",
    "log2", "logaddexp", "logical_xor", "nextafter", "positive", "power", "relu", "round",
    "sigmoid", "signbit", "sinh", "square", "subtract", "tan", "trunc", "where",
]  # fmt: skip


def add(a: Operand, b: Operand, *, alpha: Any = 1) -> Any:
    """a + alpha * b; of bools: a or b."""
    return binary(TABLE["add"], a, b if type(alpha) is int and alpha == 1 else times(b, alpha))


def subtract(a: Operand, b: Operand, *, alpha: Any = 1) -> Any:
    """a - alpha * b."""
    return binary(TABLE["sub"], a, b if type(alpha) is int and alpha == 1 else times(b, alpha))


def times(x: Operand, alpha: Any) -> Any:
    """alpha * x, or x as it is for the number 1; a Tensor is not asked what it is."""
    return x if isinstance(alpha, (int, float)) and alpha == 1 else multiply(x, alpha)


def divide(a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Any:
    """a / b; integers are divided as float32.

    Args:
        a: Tensor, array or number.
        b: the divisor.
        rounding_mode: None, "floor" (as `floor_divide`) or "trunc" (the fraction is dropped; an
            integer divided by 0 gives 0). Rounded quotients keep integers, and have no gradient.

    Raises:
        SettingError: another rounding_mode.
    """
    if rounding_mode is not None:
        return _rounded_quotient(a, b, rounding_mode)
    a, b = as_floats(a, b)
    return elementwise(TABLE["div"], (a, b))


def _rounded_quotient(a: Any, b: Any, mode: str) -> Any:
    if mode not in ("floor", "trunc"):
        raise SettingError(
            "divide: no such rounding",
            got=f"rounding_mode={mode!r}",
            rule='None, "floor" or "trunc"',
            fix='rounding_mode="floor"',
        )
    a, b = common(a, b)
    if mode == "trunc" and a.dtype.is_float:
        return trunc(divide(a, b))
    if a.dtype is bool_:
        a, b = to_dtype(a, int64), to_dtype(b, int64)
    down = floor_divide(a, b)
    if mode == "floor" or a.dtype.kind == "u":
        return down
    below = logical_and(less(multiply(sign(a), sign(b)), 0), not_equal(multiply(down, b), a))
    return add(down, to_dtype(below, down.dtype))


def power(a: Operand, b: Operand) -> Any:
    """a to the power b; the powers 2, 3, 0.5, -0.5, -1, 1 by cheaper rows."""
    if isinstance(a, TensorBase) and isinstance(b, (int, float)):
        if isinstance(b, int) and b < 0 and not a.dtype.is_float:
            a = to_dtype(a, float32)
        short = _POWERS.get(b)
        if short is not None and (a.dtype.is_float or (isinstance(b, int) and b in (2, 3))):
            return short(a)
    return binary(TABLE["pow"], a, b)


def absorb(p: Operand, g: Operand) -> Any:
    """p, a product with the factor g; 0 where p is NaN and g is 0: 0 times anything is 0.

    Not for users: `where` and the losses say what they mean (see Primitive's Note).
    """
    return elementwise(TABLE["absorb"], (p, g))


def gelu(x: Operand) -> Any:
    """x times the probability that a standard normal number is below x.

    For nn/activation.py, which says what users are offered.
    """
    return elementwise(TABLE["gelu"], (as_float(x),))


def square(x: Operand) -> Any:
    """x * x; bools as int64."""
    x = tensor_of(x)
    x = to_dtype(x, int64) if x.dtype is bool_ else x
    return multiply(x, x)


def sigmoid(x: Operand) -> Any:
    """1 / (1 + exp(-x)); derivative sigmoid(x) sigmoid(-x), exact far out on both sides."""
    x = tensor_of(x)
    dtype = x.dtype
    if dtype is float16 or dtype is bfloat16:  # rounded once, as in_float32 does
        return to_dtype(_sigmoid(to_dtype(x, float32)), dtype)
    return _sigmoid(x if dtype.is_float else to_dtype(x, float32))


def _sigmoid_slope(x: Any) -> Any:
    return sigmoid(x) * sigmoid(negative(x))


@with_slope(_sigmoid_slope)
def _sigmoid(x: Any) -> Any:
    """Where exp(-x) is infinite it is 0, to rounding."""
    return reciprocal(exp(negative(x)) + 1.0)


def relu(x: Operand) -> Any:
    """max(x, 0); the gradient at 0 is 0, as in PyTorch; NaN stays NaN."""
    x = tensor_of(x)
    zero = number(0, x.dtype)
    return apply(TABLE["where"], (elementwise(TABLE["less_equal"], (x, zero)), zero, x), {})


def floor(x: Operand) -> Any:
    """The largest whole number <= x."""
    return _rounded("floor", x)


def ceil(x: Operand) -> Any:
    """The smallest whole number >= x."""
    return _rounded("ceil", x)


def round(x: Operand, *, decimals: int = 0) -> Any:
    """The nearest whole number, halves to even; or the nearest multiple of 10^-decimals.

    Args:
        x: any shape.
        decimals: digits after the point; negative: zeros before it.
    """
    if type(decimals) is int and not decimals:
        return _rounded("round", x)
    plain("round", decimals=decimals)
    if not decimals:
        return _rounded("round", x)
    scale = 10.0**-decimals if decimals < 0 else 10.0**decimals
    x = tensor_of(x)
    if not x.dtype.is_float:
        tens = round(to_dtype(x, float64), decimals=decimals) if decimals < 0 else x
        return to_dtype(tens, x.dtype) if decimals < 0 else copied(x)
    return round(x / scale) * scale if decimals < 0 else round(x * scale) / scale


def _rounded(name: str, x: Any) -> Any:
    x = tensor_of(x)
    return elementwise(TABLE[name], (x,)) if x.dtype.is_float else copied(x)


def trunc(x: Operand) -> Any:
    """The whole number between x and 0 that is nearest to x: the fraction is dropped."""
    x = tensor_of(x)
    return where(x < 0, ceil(x), floor(x)) if x.dtype.is_float else copied(x)


def positive(x: Operand) -> Any:
    """+x: x itself."""
    return tensor_of(x)


def signbit(x: Operand) -> Any:
    """Whether the sign of x is minus, that of -0.0 and of a NaN too."""
    x = tensor_of(x)
    return elementwise(TABLE["signbit"], (x,)) if x.dtype.is_float else x < 0


def copysign(a: Operand, b: Operand) -> Any:
    """The size of a with the sign of b."""
    a, b = as_floats(a, b)
    return where(logical_xor(signbit(a), signbit(b)), negative(a), a)


def nextafter(a: Operand, b: Operand) -> Any:
    """The next number after a on the way to b, in their type; never compiled.

    Its gradient is that of a, as in PyTorch.
    """
    a, b = common(a, b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    wide = a if a.shape == shape else apply(TABLE["broadcast_to"], (a,), {"shape": shape})
    return _next(wide, b)


@custom_vjp
def _next(a: Any, b: Any) -> Any:
    return make(np.nextafter(a.read("nextafter"), b.read("nextafter")), a.dtype)


def _next_forward(a: Any, b: Any) -> tuple[Any, None]:
    return _next.function(a, b), None


def _next_backward(kept: None, g: Any) -> tuple[Any, None]:
    return g, None


_next.define(_next_forward, _next_backward)


def isclose(
    a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether |a - b| <= atol + rtol |b|, elementwise; equal infinities are close.

    Args:
        a: Tensor, array or number.
        b: the reference.
        rtol: allowed difference relative to |b|.
        atol: allowed difference besides.
        equal_nan: NaN is close to NaN.
    """
    a, b = common(a, b)
    if a.dtype is bool_:
        return eq(a, b)
    near = abs(a - b) <= abs(b) * rtol + atol
    out = (a == b) | (near & (abs(b) != float("inf"))) if a.dtype.is_float else near
    return out | ((a != a) & (b != b)) if equal_nan else out


def allclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all of a and b are close; see `isclose`.

    Args: as `isclose`.
    """
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


def clip(x: Operand, min: Operand | None = None, max: Operand | None = None) -> Any:
    """x, but at least `min` and at most `max` (None: no bound); `max` wins where they cross.

    The gradient at a bound goes to x, as in PyTorch, and beyond it to the bound, if that is a
    Tensor with a gradient.

    Args:
        x: any shape.
        min: smallest result; Tensor, array or number.
        max: largest result.
    """
    if min is None and max is None:
        return copied(x)
    x = x if min is None else _held(maximum, less, x, min)
    return x if max is None else _held(minimum, greater, x, max)


def _held(extreme: Any, beyond: Any, x: Any, bound: Any) -> Any:
    """The extreme of both, whose gradient at a tie is that of x."""
    x, bound = common(x, bound)
    if STATE.recording and not (x._node is None and bound._node is None):
        return where(beyond(x, bound) | (bound != bound), bound, x)
    return extreme(x, bound)


def logical_xor(a: Operand, b: Operand) -> Any:
    """Whether exactly one of a and b is different from 0."""
    return binary(TABLE["not_equal"], logical_not(logical_not(a)), logical_not(logical_not(b)))


def where(condition: Operand, a: Operand, b: Operand) -> Any:
    """a where condition is true, b elsewhere.

    Args:
        condition: bool; broadcasts with a and b.
        a: taken where true; Tensor, array or number.
        b: taken where false.

    Raises:
        DTypeError: the condition is not of bools.

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([-1.0, 2.0])
        >>> tt.where(x > 0, x, 0).tolist()
        [0.0, 2.0]
    """
    condition = tensor_of(condition)
    if condition.dtype is not bool_:
        raise DTypeError(
            "where: the condition is not of bools",
            got=f"condition of dtype {condition.dtype.name}",
            rule="each element says yes or no",
            fix="tt.where(x != 0, a, b)",
        )
    if isinstance(a, (bool, int, float)) and isinstance(b, (bool, int, float)):
        kind = (
            float
            if isinstance(a, float) or isinstance(b, float)
            else np.result_type(type(a), type(b))
        )
        a, b = number(a, as_dtype(kind)), number(b, as_dtype(kind))
    else:
        a, b = common(a, b)
    return apply(TABLE["where"], (condition, a, b), {})


def masked_fill(x: Operand, mask: Operand, value: Operand) -> Any:
    """`value` where `mask` is true, x elsewhere, in x's number type.

    Args:
        x: any shape.
        mask: bool; broadcasts with x.
        value: as for an assignment: a fraction is dropped where x is of integers, what does not fit
            is refused, a Tensor is cast.
    """
    x = tensor_of(x)
    return where(mask, tensor_in(value, x.dtype), x)


def astype(x: Operand, dtype: Any) -> Any:
    """The numbers in another type, always in memory of their own, as in the array API.

    Out-of-range floats become the nearest integer, NaN 0. `x.to(dtype)` gives x itself where the
    type is that already.
    """
    x, wanted = tensor_of(x), as_dtype(dtype)
    return copied(x) if x.dtype is wanted else to_dtype(x, wanted)


def cube(x: Operand) -> Any:
    """x * x * x."""
    return multiply(multiply(x, x), x)


_POWERS = {2: square, 3: cube, 0.5: sqrt, -0.5: rsqrt, -1: reciprocal, 1: copied}


# --- functions of analysis that are composed of rows ---
#
# Where a formula is an approximation, or exact only in the function itself, the gradient is given:
# a derivative is exact, not that of the formula.


@with_slope(lambda x: 1.0 / (1.0 + x))
def _log1p(x: Any) -> Any:
    u = 1.0 + x
    exact = (u == 1.0) | (u == math.inf)
    return where(exact, where(u == 1.0, x, u), log(u) * (x / where(exact, 1.0, u - 1.0)))


@in_float32()
def log1p(x: Operand) -> Any:
    """log(1 + x), exact for small x; derivative 1 / (1 + x).

    Source: Kahan's form, as in Goldberg 1991, "What every computer scientist should know about
    floating-point arithmetic", theorem 4: log(u) * x / (u - 1) with u = 1 + x rounded.
    """
    return _log1p(as_float(x))


@with_slope(exp)
def _expm1(x: Any) -> Any:
    u = exp(x)
    ordinary = (u != 1.0) & (u > 0.0) & (u != math.inf)
    safe = where(ordinary, u, 2.0)
    series = (safe - 1.0) * (x / log(safe))
    rest = where(u == 1.0, x, u - 1.0)
    return where(ordinary & (abs(x) < 1.0), series, rest)


@in_float32()
def expm1(x: Operand) -> Any:
    """exp(x) - 1, exact for small x; derivative exp(x).

    Source: W. Kahan, as in N. Higham 2002, "Accuracy and stability of numerical algorithms",
    1.14.1: (u - 1) * x / log(u) with u = exp(x) rounded.
    """
    return _expm1(as_float(x))


@in_float32()
def log2(x: Operand) -> Any:
    """Logarithm to base 2, as log(x) / log(2)."""
    return log(x) * (1.0 / math.log(2.0))


@in_float32()
def log10(x: Operand) -> Any:
    """Logarithm to base 10, as log(x) / log(10)."""
    return log(x) * (1.0 / math.log(10.0))


@in_float32("a", "b")
def logaddexp(a: Operand, b: Operand) -> Any:
    """log(exp(a) + exp(b)), shifted by the larger so that nothing overflows."""
    a, b = as_floats(a, b)
    low, high = minimum(a, b), maximum(a, b)
    same = high == low  # infinities among them: their difference is no number
    apart = where(same, 0.0, low - high)
    return high + log1p(exp(apart))


# --- angles and hyperbolas ---


@in_float32()
def tan(x: Operand) -> Any:
    """sin(x) / cos(x) of an angle in radians."""
    x = as_float(x)
    return divide(sin(x), cos(x))


# Source: S. Moshier, Cephes, atan.c (double): atan(x) = x + x z P(z) / Q(z), z = x^2, |x| <= 0.66;
# relative error 2e-16.
_P = (-8.750608600031904122785e-1, -1.615753718733365076637e1, -7.500855792314704667340e1,
      -1.228866684490136173410e2, -6.485021904942025371773e1)  # fmt: skip
_Q = (1.0, 2.485846490142306297962e1, 1.650270098316988542046e2, 4.328810604912902668951e2,
      4.853903996359136964868e2, 1.945506571482613964425e2)  # fmt: skip
_MORE_BITS = 6.123233995736765886130e-17  # pi / 2 - float64(pi / 2)


def _polynomial(z: Any, coefficients: tuple[float, ...]) -> Any:
    out = number(coefficients[0], z.dtype)
    for c in coefficients[1:]:
        out = out * z + c
    return out


@with_slope(lambda x: 1.0 / (x * x + 1.0))
def _atan(x: Any) -> Any:
    """Beyond tan(3 pi / 8): pi/2 - atan(1/x); beyond 0.66: pi/4 + atan((x - 1) / (x + 1))."""
    size = abs(x)
    large, middle = size > 2.414213562373095, size > 0.66
    reduced = where(
        large, -1.0 / where(large, size, 1.0), where(middle, (size - 1) / (size + 1), size)
    )
    z = reduced * reduced
    series = reduced + reduced * (z * (_polynomial(z, _P) / _polynomial(z, _Q)))
    base = _choice(large, math.pi / 2, _choice(middle, math.pi / 4, 0.0, z), z)
    rest = _choice(large, _MORE_BITS, _choice(middle, _MORE_BITS / 2, 0.0, z), z)
    out = base + (series + rest)
    out = where(size == math.inf, math.pi / 2, where(size != size, size, out))
    return where(signbit(x), negative(out), out)


def _choice(condition: Any, a: Any, b: Any, like: Any) -> Any:
    """Where of two numbers, in the type of `like` (two Python numbers would be float32)."""
    pick = [number(v, like.dtype) if isinstance(v, float) else v for v in (a, b)]
    return where(condition, *pick)


@in_float32()
def atan(x: Operand) -> Any:
    """The angle whose tangent is x, between -pi/2 and pi/2; derivative 1 / (1 + x^2).

    Example:
        >>> import tinytorch as tt
        >>> (tt.atan(tt.Tensor(1.0)) * 4).item()
        3.1415927410125732
    """
    return _atan(as_float(x))


@in_float32("a", "b")
def atan2(a: Operand, b: Operand) -> Any:
    """The angle of the point (b, a) seen from 0, between -pi and pi; signs of zero as IEEE 754.

    Its gradient at (0, 0), where there is no angle, is 0.
    """
    a, b = as_floats(a, b)
    with no_grad():
        steep = abs(a) > abs(b)
        both = ((a == 0) & (b == 0)) | ((abs(a) == math.inf) & (abs(b) == math.inf))
    flat = atan(divide(a, where(steep | both, 1.0, b)))
    turn = _choice(signbit(a), -math.pi, math.pi, a)
    upright = _choice(signbit(a), -math.pi / 2, math.pi / 2, a)
    steep_angle = upright - atan(divide(b, where(steep, a, 1.0)))
    out = where(steep, steep_angle, where(signbit(b), flat + turn, flat))  # -0 + 0 is +0
    if _any(both):  # both zero: 0 or pi; both infinite: a diagonal
        zero = _choice(signbit(b), math.pi, 0.0, a)
        diagonal = _choice(signbit(b), 0.75 * math.pi, 0.25 * math.pi, a)
        size = where(a == 0, zero, diagonal)
        out = where(both, where(signbit(a), negative(size), size), out)
    return where((a != a) | (b != b), add(a, b), out)


def _any(mask: Any) -> bool:
    """Whether the special points must be treated: always, in a program whose values are unknown."""
    return mask._buffer is None or mask._value is not None or bool(mask._buffer.array.any())


def _arc_slope(x: Any) -> Any:
    return rsqrt((1.0 - x) * (1.0 + x))


@with_slope(_arc_slope)
def _asin(x: Any) -> Any:
    return atan2(x, sqrt((1.0 - x) * (1.0 + x)))


@with_slope(lambda x: negative(_arc_slope(x)))
def _acos(x: Any) -> Any:
    return atan2(sqrt((1.0 - x) * (1.0 + x)), x)


@in_float32()
def asin(x: Operand) -> Any:
    """The angle whose sine is x, between -pi/2 and pi/2; NaN outside -1 .. 1."""
    return _asin(as_float(x))


@in_float32()
def acos(x: Operand) -> Any:
    """The angle whose cosine is x, between 0 and pi; NaN outside -1 .. 1."""
    return _acos(as_float(x))


_LARGE = 22.0  # exp(-44) is below a unit in the last place of float64: one of the two terms is left
_LOG2 = math.log(2.0)
_FAR = 1e4  # x^-4 is below a unit in the last place beside log(x)


@with_slope(lambda x: cosh(x))
def _sinh(x: Any) -> Any:
    size = abs(x)
    e = expm1(minimum(size, _LARGE))
    out = where(size < _LARGE, (e + e / (e + 1.0)) * 0.5, exp(size - _LOG2))
    return where(signbit(x), negative(out), out)


@with_slope(lambda x: sinh(x))
def _cosh(x: Any) -> Any:
    size = abs(x)
    e = exp(minimum(size, _LARGE))
    return where(size < _LARGE, (e + reciprocal(e)) * 0.5, exp(size - _LOG2))


@with_slope(lambda x: 1.0 / hypot(x, 1.0))
def _asinh(x: Any) -> Any:
    size = abs(x)
    low, high = minimum(size, _FAR), maximum(size, _FAR)
    near = log1p(low + low * low / (1.0 + sqrt(low * low + 1.0)))
    out = where(size < _FAR, near, log(high) + _LOG2 + 0.25 / high / high)
    return where(signbit(x), negative(out), out)


@with_slope(lambda x: 1.0 / (sqrt(x - 1.0) * sqrt(x + 1.0)))
def _acosh(x: Any) -> Any:
    low, high = minimum(x, _FAR) - 1.0, maximum(x, _FAR)
    near = log1p(low + sqrt(low * (low + 2.0)))
    return where(x < _FAR, near, log(high) + _LOG2 - 0.25 / high / high)


@with_slope(lambda x: 1.0 / ((1.0 - x) * (1.0 + x)))
def _atanh(x: Any) -> Any:
    size = abs(x)
    out = 0.5 * log1p(2.0 * size / (1.0 - size))
    return where(signbit(x), negative(out), out)


@in_float32()
def sinh(x: Operand) -> Any:
    """(exp(x) - exp(-x)) / 2, by expm1 so that small x stay exact."""
    return _sinh(as_float(x))


@in_float32()
def cosh(x: Operand) -> Any:
    """(exp(x) + exp(-x)) / 2."""
    return _cosh(as_float(x))


@in_float32()
def asinh(x: Operand) -> Any:
    """log(x + sqrt(x^2 + 1)), by log1p so that small x stay exact."""
    return _asinh(as_float(x))


@in_float32()
def acosh(x: Operand) -> Any:
    """log(x + sqrt(x^2 - 1)), for x >= 1; NaN below."""
    return _acosh(as_float(x))


@in_float32()
def atanh(x: Operand) -> Any:
    """log((1 + x) / (1 - x)) / 2, for -1 < x < 1, by log1p so that small x stay exact."""
    return _atanh(as_float(x))


@in_float32("a", "b")
def hypot(a: Operand, b: Operand) -> Any:
    """sqrt(a^2 + b^2), scaled by the larger so that nothing overflows.

    Its gradient at (0, 0) is 0, as that of `norm`.
    """
    a, b = as_floats(a, b)
    with no_grad():
        scale = maximum(abs(a), abs(b))
        scale = where((scale == 0) | (scale == math.inf), 1.0, scale).detach()
    p, q = a / scale, b / scale
    out = root_of_squares(p * p + q * q) * scale
    return where((abs(a) == math.inf) | (abs(b) == math.inf), math.inf, out)


def root_of_squares(squares: Any) -> Any:
    """Square root of a sum of squares; where it is 0 no gradient goes back into them."""
    if squares._node is None:
        return sqrt(squares)
    return where(squares == 0, number(0.0, squares.dtype), sqrt(squares))
