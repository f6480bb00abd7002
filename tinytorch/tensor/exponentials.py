"""Relatives of exp and log that stay exact near 0, and logarithms to other bases.

Knows formulas made of rows of the table; their gradients are given, not those of the formulas.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.base.dtypes import float32
from tinytorch.tensor.dispatch import common, in_float32, to_dtype, with_slope
from tinytorch.tensor.elementwise import abs, exp, log, maximum, minimum, where
from tinytorch.tensor.operands import tensor_of


def _float(x: Any) -> Any:
    x = tensor_of(x)
    return x if x.dtype.is_float else to_dtype(x, float32)


@with_slope(lambda x: 1.0 / (1.0 + x))
def _log1p(x: Any) -> Any:
    u = 1.0 + x
    exact = (u == 1.0) | (u == math.inf)
    return where(exact, where(u == 1.0, x, u), log(u) * (x / where(exact, 1.0, u - 1.0)))


@in_float32()
def log1p(x) -> Any:
    """log(1 + x), exact for small x; derivative 1 / (1 + x).

    Source: Kahan's form, as in Goldberg 1991, "What every computer scientist should know about
    floating-point arithmetic", theorem 4: log(u) * x / (u - 1) with u = 1 + x rounded.
    """
    return _log1p(_float(x))


@with_slope(exp)
def _expm1(x: Any) -> Any:
    u = exp(x)
    ordinary = (u != 1.0) & (u > 0.0) & (u != math.inf)
    safe = where(ordinary, u, 2.0)
    series = (safe - 1.0) * (x / log(safe))
    rest = where(u == 1.0, x, u - 1.0)
    return where(ordinary & (abs(x) < 1.0), series, rest)


@in_float32()
def expm1(x) -> Any:
    """exp(x) - 1, exact for small x; derivative exp(x).

    Source: W. Kahan, as in N. Higham 2002, "Accuracy and stability of numerical algorithms",
    1.14.1: (u - 1) * x / log(u) with u = exp(x) rounded.
    """
    return _expm1(_float(x))


@in_float32()
def log2(x) -> Any:
    """Logarithm to base 2, as log(x) / log(2)."""
    return log(x) * (1.0 / math.log(2.0))


@in_float32()
def log10(x) -> Any:
    """Logarithm to base 10, as log(x) / log(10)."""
    return log(x) * (1.0 / math.log(10.0))


@in_float32("a", "b")
def logaddexp(a, b) -> Any:
    """log(exp(a) + exp(b)), shifted by the larger so that nothing overflows."""
    a, b = common(a, b)
    a, b = _float(a), _float(b)
    low, high = minimum(a, b), maximum(a, b)
    same = high == low  # infinities among them: their difference is no number
    apart = where(same, 0.0, low - high)
    return high + log1p(exp(apart))
