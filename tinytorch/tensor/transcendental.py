"""Functions of analysis that are composed of rows: log1p, logarithms, angles, hyperbolas, hypot.

Knows formulas. Where a formula is an approximation, or exact only in the function itself, the
gradient is given: a derivative is exact, not that of the formula.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.tensor.dispatch import in_float32, number, with_slope
from tinytorch.tensor.elementwise import (
    abs,
    add,
    cos,
    divide,
    exp,
    log,
    maximum,
    minimum,
    negative,
    reciprocal,
    rsqrt,
    signbit,
    sin,
    sqrt,
    where,
)
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.operands import Operand
from tinytorch.tensor.reductions import root_of_squares
from tinytorch.tensor.row_functions import as_float, as_floats


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
