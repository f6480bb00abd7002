"""Comparisons, logic and selection: rows that answer yes or no, and `where`, which acts on it.

Knows one element of each operand at a time. NaN compares unequal to everything, as in IEEE 754
(NumPy's comparisons clear the floating-point flags themselves: no warning to silence).
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import bool_
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.broadcasting import fold_to
from tinytorch.primitives.creation import full_like
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    ErrorSample,
    OpClass,
    Primitive,
    Sample,
    Spec,
)
from tinytorch.primitives.quiet import quiet_call
from tinytorch.primitives.samples import flags, numbers, one, strided, two, wrong_kind, wrong_pair
from tinytorch.primitives.selection import select
from tinytorch.primitives.shapes import (
    ANY,
    BOOL,
    FLOAT,
    binary,
    broadcast_shapes,
    check_kind,
    check_same_dtype,
    unary,
)


def _ties():
    """Pairs with equal elements among them, and the numbers that compare in their own ways."""
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])
    return [
        *two()(),
        Sample((odd[:, None], odd[None, :])),
        Sample(
            (
                numbers(9, low=-3, high=3, dtype="int32"),
                numbers(9, low=-3, high=3, seed=1, dtype="int32"),
            )
        ),
        Sample((flags(5), flags(5, seed=1))),
    ]


def _comparison(name: str, ufunc, doc: str, commutes: bool = False) -> Primitive:
    return Primitive(
        name,
        binary(name, ANY, bool_),
        ufunc,
        vjp=NOT_DIFFERENTIABLE,
        samples=_ties,
        error_samples=wrong_pair("float32", other="float64"),
        op_class=OpClass.ELEMENTWISE,
        commutes=commutes,
        doc=doc,
    )


def _question(name: str, ufunc, doc: str) -> Primitive:
    return Primitive(
        name,
        unary(name, FLOAT, bool_),
        ufunc,
        vjp=NOT_DIFFERENTIABLE,
        samples=lambda: [
            *one()(),
            Sample((np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0]),)),
        ],
        error_samples=wrong_kind("int32"),
        op_class=OpClass.ELEMENTWISE,
        doc=doc,
    )


def _chosen(condition: Spec, a: Spec, b: Spec) -> Spec:
    check_kind("where", "condition", condition, BOOL)
    check_same_dtype("where", ("a", "b"), (a, b))
    shapes = (condition.shape, a.shape, b.shape)
    return Spec(broadcast_shapes("where", ("condition", "a", "b"), shapes), a.dtype)


def _where_vjp(g, out, condition, a, b, *, needs=(False, True, True)):
    zero = full_like(g, 0.0)
    return (
        None,
        fold_to(where(condition, g, zero), tuple(a.shape)) if needs[1] else None,
        fold_to(where(condition, zero, g), tuple(b.shape)) if needs[2] else None,
    )


def _fits(p: Spec, g: Spec) -> Spec:
    out = binary("absorb", FLOAT)(p, g)
    if out.shape != p.shape:
        raise ShapeError(
            "absorb: g does not broadcast to p",
            got=f"p {p.shape}, g {g.shape}",
            rule="p has the shape of the product",
            fix="broadcast p first",
        )
    return out


def _absorb(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """A sum of squares is NaN if and only if one of them is: the cheapest way to find out."""
    if p.dtype.char in "fd":
        flat = p.ravel("K")  # in the order of memory: a view of what has no gaps
        squares = quiet_call(np.dot, flat, flat)
        if squares == squares:
            return p
    return np.where(np.isnan(p) & (g == 0), np.zeros((), p.dtype), p)


def _absorb_vjp(c, out, p, g):
    """c where p was taken: it follows g by the product that p is."""
    lost = logical_and(isnan(p), equal(g, full_like(g, 0.0, ())))
    return where(lost, full_like(c, 0.0), c), None


equal = _comparison("equal", np.equal, "a == b.", commutes=True)
not_equal = _comparison("not_equal", np.not_equal, "a != b.", commutes=True)
less = _comparison("less", np.less, "a < b.")
less_equal = _comparison("less_equal", np.less_equal, "a <= b.")
greater = _comparison("greater", np.greater, "a > b.")
greater_equal = _comparison("greater_equal", np.greater_equal, "a >= b.")
logical_and = _comparison(
    "logical_and", np.logical_and, "a and b, where anything but 0 is true.", commutes=True
)
logical_or = _comparison(
    "logical_or", np.logical_or, "a or b, where anything but 0 is true.", commutes=True
)
isnan = _question("isnan", np.isnan, "Whether x is not a number.")
isinf = _question("isinf", np.isinf, "Whether x is infinite.")
signbit = _question(
    "signbit", np.signbit, "Whether the sign of x is minus; that of -0.0 and of a NaN counts."
)
isfinite = _question("isfinite", np.isfinite, "Whether x is neither infinite nor NaN.")

logical_not = Primitive(
    "logical_not",
    unary("logical_not", ANY, bool_),
    np.logical_not,
    vjp=NOT_DIFFERENTIABLE,
    samples=lambda: [*one()(), Sample((flags(5),)), Sample((np.array([0, 3], np.int8),))],
    error_samples=lambda: [
        ErrorSample((np.zeros(2, np.complex64),), TypeError, "not a number type")
    ],
    op_class=OpClass.ELEMENTWISE,
    doc="Whether x is 0.",
)
where = Primitive(
    "where",
    _chosen,
    select,
    vjp=_where_vjp,
    samples=lambda: [
        Sample((flags(), numbers(), numbers(seed=1))),
        Sample((flags(2, 3), numbers(2, 3), numbers(2, 3, seed=1))),
        Sample((flags(3), numbers(2, 1), numbers(seed=1))),
        Sample((flags(4, 1, 1), numbers(5, 1), strided(3, seed=1))),
        Sample((flags(0), numbers(1), numbers(0, seed=1))),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(2), numbers(2), numbers(2)), TypeError, "condition"),
        ErrorSample(
            (flags(2), numbers(2), numbers(2, dtype="float32")), TypeError, "different number"
        ),
        ErrorSample((flags(2), numbers(3), numbers(3)), ValueError, "do not fit together"),
    ],
    op_class=OpClass.ELEMENTWISE,
    selects=(1, 2),
    exact=True,
    doc="a where condition is true, b elsewhere.",
)
absorb = Primitive(
    "absorb",
    _fits,
    _absorb,
    vjp=_absorb_vjp,
    samples=lambda: [
        Sample((numbers(3), numbers(3, seed=1))),
        Sample((numbers(2, 3), numbers(2, 1, seed=1))),
        Sample((np.array([np.nan, np.nan, np.inf, 2.0]), np.array([0.0, 1.0, 0.0, -0.0]))),
        Sample((strided(3, 4), strided(3, 4, seed=1))),
        Sample((numbers(0), numbers(0))),
    ],
    error_samples=lambda: [
        ErrorSample((flags(2), flags(2)), TypeError, "does not take"),
        ErrorSample((numbers(1), numbers(3)), ValueError, "does not broadcast"),
    ],
    op_class=OpClass.ELEMENTWISE,
    selects=(0,),
    doc="p, a product with the factor g; 0 where p is NaN and g is 0. See Primitive's Note.",
)
