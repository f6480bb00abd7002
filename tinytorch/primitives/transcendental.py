"""Elementwise functions of analysis: powers, exponentials, logarithms, roots, circles, erf.

Knows one float at a time, and keeps its dtype. Integers have only `pow`. docs/extending.md adds
such a function: a row here, its instructions in compiler/loops/elementwise.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.primitives.creation import full_like
from tinytorch.primitives.elementwise import (
    BOTH,
    Needs,
    UnaryRule,
    binary_row,
    divided,
    equal,
    mul,
    neg,
    scaled,
    sub,
    unary_row,
    where,
)
from tinytorch.primitives.ieee import ieee, ieee_steps
from tinytorch.primitives.movement import fold_to
from tinytorch.primitives.primitive import (
    Array,
    Cotangents,
    Operand,
    Primitive,
    Sample,
    one,
    sample,
    two,
)
from tinytorch.primitives.shapes import FLOAT, NUMBER

_TWO_BY_ROOT_PI = 1.1283791670955126  # 2 / sqrt(pi), the slope of erf at 0
_BY_ROOT_TWO_PI = 0.3989422804014327  # 1 / sqrt(2 pi), the normal density at 0
_ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 5e-324])


def _row(
    name: str,
    numpy: Callable[[Array], Array],
    vjp: UnaryRule,
    doc: str,
    low: float = -2.0,
    high: float = 2.0,
    **facts: Any,
) -> Primitive:
    """A function of one float, tried between `low` and `high` and at odd numbers."""
    return unary_row(
        name, FLOAT, numpy, vjp, doc, lambda: [*one(low, high)(), sample(_ODD)],
        expensive=True, **facts,
    )  # fmt: skip


@ieee_steps
def _rsqrt(x: Array) -> Array:
    return np.reciprocal(np.sqrt(x))


exp = _row(
    "exp", ieee(np.exp),
    lambda g, out, x, *, final=False: (scaled(g, out, final),),
    "e to the x.", selects=(0,),
)  # fmt: skip
log = _row(
    "log", ieee(np.log),
    lambda g, out, x, *, final=False: (divided(g, x, final),),
    "The natural logarithm.", 0.5, 3.0,
)  # fmt: skip
sqrt = _row(
    "sqrt", ieee(np.sqrt),
    lambda g, out, x, *, final=False: (divided(mul(g, full_like(g, 0.5)), out, final),),
    "The square root; NaN below 0.", 0.5, 3.0,
)  # fmt: skip
rsqrt = _row(
    "rsqrt", _rsqrt,
    lambda g, out, x, *, final=False: (
        scaled(mul(g, full_like(g, -0.5)), mul(out, mul(out, out)), final),
    ),
    "1 / sqrt(x).", 0.5, 3.0,
)  # fmt: skip
sin: Primitive = _row(
    "sin", ieee(np.sin),
    lambda g, out, x, *, final=False: (scaled(g, cos(x), final),),
    "The sine of an angle in radians.",
)  # fmt: skip
cos: Primitive = _row(
    "cos", ieee(np.cos),
    lambda g, out, x, *, final=False: (neg(scaled(g, sin(x), final)),),
    "The cosine of an angle in radians.",
)  # fmt: skip
tanh = _row(
    "tanh", ieee(np.tanh),
    lambda g, out, x, *, final=False: (
        sub(g, scaled(g, mul(out, out), final)),  # g * (1 - tanh^2)
    ),
    "The hyperbolic tangent.", selects=(0,),
)  # fmt: skip


# --- pow ---


@ieee_steps
def _pow(a: Array, b: Array) -> Array:
    if a.dtype.kind != "i" or not (b.size and b.min() < 0):
        return np.power(a, b)
    # integers: 1 / a^|b| without its fraction, which leaves only a = 1 and a = -1; 1 / 0 is 0
    a, b = np.broadcast_arrays(a, b)
    power = np.power(a, np.where(b < 0, b & 1, b))
    return np.where((b < 0) & (np.abs(a) != 1), np.zeros((), a.dtype), power)


def _pow_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH, final: bool = False
) -> Cotangents:
    """d/da = b a^(b-1), 0 where b is 0; d/db = a^b log a, 0 where a is 0 (the limit for b > 0)."""
    zero, one_ = full_like(g, 0.0), full_like(g, 1.0)
    g_a = g_b = None
    if needs[0]:
        slope = where(equal(b, zero), zero, mul(b, pow_(a, sub(b, one_))))
        g_a = fold_to(scaled(g, slope, final), tuple(a.shape))
    if needs[1]:
        at_zero = equal(a, zero)
        growth = where(at_zero, zero, mul(out, log(where(at_zero, one_, a))))
        g_b = fold_to(scaled(g, growth, final), tuple(b.shape))
    return g_a, g_b


def _whole_powers() -> list[Sample]:
    a = np.array([-3, -2, -1, 0, 1, 2, 3], np.int8)
    odd = np.array([[0.0], [np.nan], [np.inf], [-2.0]])
    return [
        *two(0.5, 2.0, -2.0, 2.0)(),
        sample(a[:, None], np.array([-2, -1, 0, 1, 2, 7], np.int8)),
        sample(odd, np.array([0.0, 2.0, -1.0, 0.5, np.inf])),
    ]


pow_ = binary_row(
    "pow", NUMBER, _pow, _pow_vjp,
    "a to the b. Integers: a negative power drops its fraction, 0 to a negative power is 0.",
    _whole_powers, functions=(), expensive=True,
)  # fmt: skip


# --- erf: the integral of the normal curve, to 2 units in the last place of float64 ---
# Up to |x| = 1 its Taylor series, whose terms shrink like 1 / n!; beyond, 1 - erfc(x) with the
# rational functions of W. J. Cody, "Rational Chebyshev approximations for the error function",
# Mathematics of Computation 23 (1969) 631-637, as in his Fortran program CALERF (SPECFUN, 1990).

# |x| <= 1: erf(x) = x * sum of (-1)^n 2 / sqrt(pi) / (n! (2n + 1)) * x^2n; that of n = 18 is 4e-18.
# Cody's own form ends at 0.46875, where 1 - erfc still loses 4 units (measured against libm).
_TAYLOR = tuple(
    (-1) ** n * 2 / math.sqrt(math.pi) / (math.factorial(n) * (2 * n + 1))
    for n in range(18, -1, -1)
)
# 0.46875 <= |x| <= 4: erfc(x) = exp(-x^2) * C(x) / D(x); highest power first, here and below
_C = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
    6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
    1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3
)  # fmt: skip
_D = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
    1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
    3.43936767414372164e3, 1.23033935480374942e3
)  # fmt: skip
_SMALL, _LARGE = 1.0, 4.0
_BLOCK = 16384  # numbers at a time: the temporaries stay in a 2 MB cache, four times faster
_ONE = 5.92158719165638  # erfc is below 2^-54 from here on, so erf rounds to 1
# |x| > 4: erfc(x) = exp(-x^2) / x * (1 / sqrt(pi) - P(1 / x^2) / (x^2 Q(1 / x^2)))
_TAIL_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
    1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4
)  # fmt: skip
_TAIL_Q = (
    1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1,
    6.05183413124413191e-2, 2.33520497626869185e-3
)  # fmt: skip
_INVERSE_ROOT_PI = 0.56418958354775628695


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule; highest power first."""
    out = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        out *= x
        out += c
    return out


def _exp_of_minus_square(y: Array) -> Array:
    """exp(-y^2), with y^2 split so that its rounding does not reach the result (Cody's device)."""
    coarse = np.trunc(y * 16.0) / 16.0  # its square is exact
    return np.exp(-coarse * coarse) * np.exp(-(y - coarse) * (y + coarse))


def _middle(y: Array) -> Array:
    return _exp_of_minus_square(y) * (_polynomial(_C, y) / _polynomial(_D, y))


def _tail(y: Array) -> Array:
    z = 1.0 / (y * y)
    return (
        _exp_of_minus_square(y)
        / y
        * (_INVERSE_ROOT_PI - z * (_polynomial(_TAIL_P, z) / _polynomial(_TAIL_Q, z)))
    )


@ieee_steps
def erf_of(x: Array) -> Array:
    """erf(x) = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x, in x's dtype.

    Args:
        x: floats, any shape.

    Returns:
        The same shape and dtype. Narrower types are computed in float64 and rounded once.

    Cost: about 40 multiplications, and two exponentials where 1 < |x| < 6; 25 ns an element.

    >>> erf_of(np.array([0.0, 1.0, -np.inf, np.nan]))
    array([ 0.        ,  0.84270079, -1.        ,         nan])
    """
    return _in_blocks(_erf_of_float64, x)


def _in_blocks(function: Callable[[Array], Array], x: Array) -> Array:
    """A function of float64 arrays, in x's dtype, through blocks of a flat copy."""
    flat = x.ravel()
    out: Array = np.empty_like(flat)
    for i in range(0, flat.size, _BLOCK):
        out[i : i + _BLOCK] = function(flat[i : i + _BLOCK].astype(np.float64))
    return out.reshape(x.shape)


def _erf_of_float64(x: Array) -> Array:
    y = np.abs(x)
    out = np.ones_like(y)
    small = np.flatnonzero(y <= _SMALL)
    middle = np.flatnonzero((y > _SMALL) & (y <= _LARGE))
    tail = np.flatnonzero((y > _LARGE) & (y < _ONE))
    if small.size:
        near = y[small]
        out[small] = near * _polynomial(_TAYLOR, near * near)
    if middle.size:
        out[middle] = 1.0 - _middle(y[middle])
    if tail.size:
        out[tail] = 1.0 - _tail(y[tail])
    out = np.copysign(out, x)
    out[np.isnan(x)] = np.nan
    return out


erf = _row(
    "erf", erf_of,
    lambda g, out, x, *, final=False: (
        scaled(mul(g, full_like(g, _TWO_BY_ROOT_PI)), exp(neg(mul(x, x))), final),
    ),
    "The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.", selects=(0,),
    keeps_order=False,  # it goes through blocks of a flat copy
)  # fmt: skip


# --- gelu: x times the probability that a standard normal number is below x ---
# A row of its own, and its slope another: as a formula of products and erf its gradient takes erf,
# exp and nine products; from a table of polynomials each of the two is 20 instructions
# (codegen/vector_math.py).


def _below(x: Array) -> Array:
    """P(normal number < x)."""
    return 0.5 * (1.0 + _erf_of_float64(x * math.sqrt(0.5)))


def _gelu_of_float64(x: Array) -> Array:
    below = _below(x)
    return np.where(below == 0.0, 0.0, x * below)


def _slope_of_float64(x: Array) -> Array:
    density = np.exp(-0.5 * x * x)
    moved = np.where(density == 0.0, 0.0, x * _BY_ROOT_TWO_PI * density)
    return _below(x) + moved


@ieee_steps
def gelu_of(x: Array) -> Array:
    """x P(normal number < x), in x's dtype; the limit 0 at -inf.

    Cost: as erf.

    >>> gelu_of(np.array([0.0, 3.0, -np.inf])).round(3)
    array([0.   , 2.996, 0.   ])
    """
    return _in_blocks(_gelu_of_float64, x)


@ieee_steps
def gelu_slope_of(x: Array) -> Array:
    """P(normal number < x) + x exp(-x^2 / 2) / sqrt(2 pi), in x's dtype.

    Cost: as erf, and one more exponential.

    >>> gelu_slope_of(np.array([0.0, 9.0, -np.inf]))
    array([0.5, 1. , 0. ])
    """
    return _in_blocks(_slope_of_float64, x)


def _gelu_slope_vjp(g: Operand, out: Operand, x: Operand, *, final: bool = False) -> Cotangents:
    """d/dx = (2 - x^2) exp(-x^2 / 2) / sqrt(2 pi), 0 far out."""
    square = mul(x, x)
    density = exp(mul(square, full_like(x, -0.5)))
    zero = full_like(x, 0.0)
    bend = mul(sub(full_like(x, 2.0), square), mul(density, full_like(x, _BY_ROOT_TWO_PI)))
    return (scaled(g, where(equal(density, zero), zero, bend), final),)


gelu = _row(
    "gelu", gelu_of,
    lambda g, out, x, *, final=False: (scaled(g, gelu_slope(x), final),),
    "x times the probability that a standard normal number is below x.", -1.0, 2.0,
    functions=(), keeps_order=False,
)  # fmt: skip
gelu_slope: Primitive = _row(
    "gelu_slope", gelu_slope_of, _gelu_slope_vjp,
    "The slope of gelu.", -0.5, 2.0, functions=(), keeps_order=False,
)  # fmt: skip
