"""The elementwise arithmetic of school: + - * /, remainders, signs, roundings, the larger of two.

Knows one element of each operand at a time. Floats follow IEEE 754; integers wrap modulo 2 to their
width, and an integer divided by 0 gives 0, for `floor_div` and `remainder` both.
"""

from __future__ import annotations

import numpy as np

from tinytorch.primitives.broadcasting import fold_to
from tinytorch.primitives.comparison import absorb, equal, less, where
from tinytorch.primitives.creation import full_like
from tinytorch.primitives.primitive import OpClass, Primitive, Sample
from tinytorch.primitives.quiet import quiet
from tinytorch.primitives.samples import flags, numbers, one, two, wrong_kind, wrong_pair
from tinytorch.primitives.shapes import ANY, FLOAT, NUMBER, binary, unary

BOTH = (True, True)  # which cotangents a rule of two operands gives unless it is told


def _zero(g, out, x):
    """The gradient of a staircase: zero wherever there is one, and final."""
    return (full_like(g, 0.0, tuple(x.shape)),)


def _no_slope(g, out, a, b, *, needs=BOTH):
    return tuple(
        full_like(g, 0.0, tuple(x.shape)) if wanted else None
        for x, wanted in zip((a, b), needs, strict=True)
    )


def _add_vjp(g, out, a, b, *, needs=BOTH):
    return (
        fold_to(g, tuple(a.shape)) if needs[0] else None,
        fold_to(g, tuple(b.shape)) if needs[1] else None,
    )


def _sub_vjp(g, out, a, b, *, needs=BOTH):
    return (
        fold_to(g, tuple(a.shape)) if needs[0] else None,
        neg(fold_to(g, tuple(b.shape))) if needs[1] else None,
    )


def scaled(g, slope, final: bool):
    """g * slope; a final zero of g stays 0 whatever the slope (Note [zeros that are final])."""
    product = mul(g, slope)
    return absorb(product, g) if final else product


def divided(g, by, final: bool):
    """g / by, in the same way."""
    quotient = div(g, by)
    return absorb(quotient, g) if final else quotient


def _mul_vjp(g, out, a, b, *, needs=BOTH, final=False):
    """A single number without a gradient (x * 0.5) is not asked whether it is finite."""
    return (
        fold_to(scaled(g, b, final and (needs[1] or b.shape != ())), tuple(a.shape))
        if needs[0]
        else None,
        fold_to(scaled(g, a, final and (needs[0] or a.shape != ())), tuple(b.shape))
        if needs[1]
        else None,
    )


def _div_vjp(g, out, a, b, *, needs=BOTH, final=False):
    g_a = divided(g, b, final)
    return (
        fold_to(g_a, tuple(a.shape)) if needs[0] else None,
        fold_to(neg(scaled(g_a, out, final)), tuple(b.shape)) if needs[1] else None,
    )


def _remainder_vjp(g, out, a, b, *, needs=BOTH, final=False):
    return (
        fold_to(g, tuple(a.shape)) if needs[0] else None,
        fold_to(neg(scaled(g, floor_div(a, b), final)), tuple(b.shape)) if needs[1] else None,
    )


def _larger_vjp(g, out, a, b, *, needs=BOTH):
    return _extreme_vjp(g, a, b, (less(a, b), less(b, a)), needs)


def _smaller_vjp(g, out, a, b, *, needs=BOTH):
    return _extreme_vjp(g, a, b, (less(b, a), less(a, b)), needs)


def _extreme_vjp(g, a, b, lost, needs):
    """Ties share the gradient in halves, as in PyTorch; beside a NaN both get all of it."""
    a_lost, b_lost = lost
    zero, shared = full_like(g, 0.0), where(equal(a, b), mul(g, full_like(g, 0.5)), g)
    return (
        fold_to(where(a_lost, zero, shared), tuple(a.shape)) if needs[0] else None,
        fold_to(where(b_lost, zero, shared), tuple(b.shape)) if needs[1] else None,
    )


def _with_integers(make, bools=False):
    """Samples of floats, of integers that overflow and divide by zero, of odd floats, of bools."""
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 1e308, 5e-324])
    small = np.array([-128, -7, -1, 0, 1, 3, 127], np.int8)
    return lambda: [
        *make(),
        Sample((small[:, None], small[None, :])),
        Sample(
            (
                numbers(6, low=0, high=255, dtype="uint8"),
                numbers(6, low=0, high=9, seed=1, dtype="uint8"),
            )
        ),
        Sample((np.array([2**31 - 1, -(2**31)], np.int32), np.array([2, -1], np.int32))),
        Sample((odd[:, None], odd[None, :])),
        *([Sample((flags(5), flags(5, seed=1)))] if bools else []),
    ]


def _with_odd(make, integers: bool = True):
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e308, 5e-324])
    whole = np.array([-128, -7, 0, 3, 127], np.int8)
    return lambda: [*make(), Sample((odd,)), *([Sample((whole,))] if integers else [])]


_PAIRS = two()


def _one(name, numpy, vjp, doc, kinds=NUMBER, samples=None, integers=True, **facts):
    return Primitive(
        name,
        unary(name, kinds),
        numpy,
        vjp=vjp,
        samples=_with_odd(samples or one(), integers),
        error_samples=wrong_kind("bool"),
        op_class=OpClass.ELEMENTWISE,
        doc=doc,
        **facts,
    )


def _stairs(name, numpy, doc):
    return _one(name, numpy, _zero, doc, FLOAT, integers=False, selects=(0,))


def _two(name, numpy, vjp, doc, kinds=NUMBER, samples=_PAIRS, **facts):
    return Primitive(
        name,
        binary(name, kinds),
        numpy,
        vjp=vjp,
        samples=samples if kinds == FLOAT else _with_integers(samples, bools=kinds == ANY),
        error_samples=wrong_pair("float32", None if kinds == ANY else "bool", "float64"),
        op_class=OpClass.ELEMENTWISE,
        doc=doc,
        **facts,
    )


neg = _one("neg", np.negative, lambda g, out, x: (neg(g),), "-x; unsigned integers wrap.")
sign = _one("sign", quiet(np.sign), _zero, "-1, 0 or 1; NaN stays NaN.", selects=(0,))
abs_ = _one(
    "abs",
    np.absolute,
    lambda g, out, x, *, final=False: (scaled(g, sign(x), final),),
    "|x|; the least integer wraps to itself.",
)
floor = _stairs("floor", np.floor, "The largest whole number <= x.")
ceil = _stairs("ceil", np.ceil, "The smallest whole number >= x.")
round_ = _stairs("round", np.rint, "The nearest whole number, halves to even.")
reciprocal = _one(
    "reciprocal",
    quiet(np.reciprocal),
    lambda g, out, x, *, final=False: (neg(scaled(g, mul(out, out), final)),),
    "1 / x.",
    FLOAT,
    samples=one(0.5, 3.0),
    integers=False,
    selects=(0,),
    expensive=True,
)

add = _two(
    "add",
    quiet(np.add),
    _add_vjp,
    "a + b; of bools: a or b.",
    ANY,
    commutes=True,  # its neutral number would be -0.0: -0.0 + 0.0 is 0.0
)
sub = _two(
    "sub",
    quiet(np.subtract),
    _sub_vjp,
    "a - b.",
    neutral=0,
)
mul = _two(
    "mul",
    quiet(np.multiply),
    _mul_vjp,
    "a * b; of bools: a and b.",
    ANY,
    commutes=True,
    neutral=1,
)
div = _two(
    "div",
    quiet(np.divide),
    _div_vjp,
    "a / b of floats.",
    FLOAT,
    samples=two(-2.0, 2.0, 0.5, 3.0),
    selects=(1,),
    expensive=True,
    neutral=1,
)
floor_div = _two(
    "floor_div",
    quiet(np.floor_divide),
    _no_slope,
    "The quotient rounded down, as Python's //; an integer divided by 0 gives 0.",
    samples=two(-2.0, 2.0, 2.5, 3.0),
    selects=(0, 1),
    expensive=True,
)
remainder = _two(
    "remainder",
    quiet(np.remainder),
    _remainder_vjp,
    "What floor_div leaves, with the sign of b, as Python's %; an integer modulo 0 gives 0.",
    samples=two(0.2, 1.8, 2.5, 3.0),
    expensive=True,
)
maximum = _two(
    "maximum",
    quiet(np.maximum),
    _larger_vjp,
    "The larger of a and b; NaN if one is NaN.",
    ANY,
    selects=(0, 1),
    commutes=True,
)
minimum = _two(
    "minimum",
    quiet(np.minimum),
    _smaller_vjp,
    "The smaller of a and b; NaN if one is NaN.",
    ANY,
    selects=(0, 1),
    commutes=True,
)
