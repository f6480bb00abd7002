"""Elementwise functions of analysis: powers, exponentials, logarithms, roots, circles, erf.

Knows one float at a time, and keeps its dtype. Integers have only `pow`.
"""

from __future__ import annotations

import numpy as np

from tinytorch.primitives import error_function
from tinytorch.primitives.arithmetic import BOTH, divided, mul, neg, scaled, sub
from tinytorch.primitives.broadcasting import fold_to
from tinytorch.primitives.comparison import equal, where
from tinytorch.primitives.creation import full_like
from tinytorch.primitives.primitive import OpClass, Primitive, Sample
from tinytorch.primitives.quiet import quiet, quietly
from tinytorch.primitives.samples import one, two, wrong_kind, wrong_pair
from tinytorch.primitives.shapes import FLOAT, NUMBER, binary, unary

_TWO_BY_ROOT_PI = 1.1283791670955126  # 2 / sqrt(pi), the slope of erf at 0


@quietly
def _rsqrt(x: np.ndarray) -> np.ndarray:
    return np.reciprocal(np.sqrt(x))


@quietly
def _erf(x: np.ndarray) -> np.ndarray:
    return error_function.erf(x)


@quietly
def _pow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind != "i" or not (b.size and b.min() < 0):
        return np.power(a, b)
    # integers: 1 / a^|b| without its fraction, which leaves only a = 1 and a = -1; 1 / 0 is 0
    a, b = np.broadcast_arrays(a, b)
    power = np.power(a, np.where(b < 0, b & 1, b))
    return np.where((b < 0) & (np.abs(a) != 1), np.zeros((), a.dtype), power)


def _pow_vjp(g, out, a, b, *, needs=BOTH, final=False):
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


def _row(name, numpy, vjp, doc, low=-2.0, high=2.0, selects=(), **facts):
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 5e-324])
    return Primitive(
        name,
        unary(name, FLOAT),
        numpy,
        vjp=vjp,
        samples=lambda: [*one(low, high)(), Sample((odd,))],
        error_samples=wrong_kind("int32"),
        op_class=OpClass.ELEMENTWISE,
        selects=selects,
        expensive=True,
        doc=doc,
        **facts,
    )


def _whole_powers():
    a = np.array([-3, -2, -1, 0, 1, 2, 3], np.int8)
    return [
        *two(0.5, 2.0, -2.0, 2.0)(),
        Sample((a[:, None], np.array([-2, -1, 0, 1, 2, 7], np.int8))),
        Sample(
            (np.array([[0.0], [np.nan], [np.inf], [-2.0]]), np.array([0.0, 2.0, -1.0, 0.5, np.inf]))
        ),
    ]


exp = _row(
    "exp",
    quiet(np.exp),
    lambda g, out, x, *, final=False: (scaled(g, out, final),),
    "e to the x.",
    selects=(0,),
)
log = _row(
    "log",
    quiet(np.log),
    lambda g, out, x, *, final=False: (divided(g, x, final),),
    "The natural logarithm.",
    0.5,
    3.0,
)
sqrt = _row(
    "sqrt",
    quiet(np.sqrt),
    lambda g, out, x, *, final=False: (divided(mul(g, full_like(g, 0.5)), out, final),),
    "The square root; NaN below 0.",
    0.5,
    3.0,
)
rsqrt = _row(
    "rsqrt",
    _rsqrt,
    lambda g, out, x, *, final=False: (
        scaled(mul(g, full_like(g, -0.5)), mul(out, mul(out, out)), final),
    ),
    "1 / sqrt(x).",
    0.5,
    3.0,
)
sin = _row(
    "sin",
    quiet(np.sin),
    lambda g, out, x, *, final=False: (scaled(g, cos(x), final),),
    "The sine of an angle in radians.",
)
cos = _row(
    "cos",
    quiet(np.cos),
    lambda g, out, x, *, final=False: (neg(scaled(g, sin(x), final)),),
    "The cosine of an angle in radians.",
)
tanh = _row(
    "tanh",
    quiet(np.tanh),
    lambda g, out, x, *, final=False: (
        sub(g, scaled(g, mul(out, out), final)),  # g * (1 - tanh^2)
    ),
    "The hyperbolic tangent.",
    selects=(0,),
)
erf = _row(
    "erf",
    _erf,
    lambda g, out, x, *, final=False: (
        scaled(mul(g, full_like(g, _TWO_BY_ROOT_PI)), exp(neg(mul(x, x))), final),
    ),
    "The error function, to 2 units in the last place of float64.",
    selects=(0,),
    keeps_order=False,  # it goes through blocks of a flat copy
)
pow_ = Primitive(
    "pow",
    binary("pow", NUMBER),
    _pow,
    vjp=_pow_vjp,
    samples=_whole_powers,
    error_samples=wrong_pair("float32", refused="bool", other="float64"),
    op_class=OpClass.ELEMENTWISE,
    expensive=True,
    doc="a to the b. Integers: a negative power drops its fraction, 0 to a negative power is 0.",
)
