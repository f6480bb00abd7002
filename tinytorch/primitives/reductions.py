"""Reductions and running sums: many numbers become one, along axes. (`sum` is in broadcasting.py.)

Knows orders and products. NaN is larger and smaller than everything, so it wins: `max` of anything
with a NaN is NaN, and `argmax` says where.
"""

from __future__ import annotations

import math

import numpy as np

from tinytorch.base.dtypes import int64
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.arithmetic import divided, mul, scaled
from tinytorch.primitives.broadcasting import (
    accumulator,
    broadcast_to,
    kept_shape,
    reduced_shape,
    sum_,
)
from tinytorch.primitives.casting import cast_like
from tinytorch.primitives.comparison import equal
from tinytorch.primitives.movement import cut, flip, pad
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    ErrorSample,
    OpClass,
    Primitive,
    Sample,
    Spec,
)
from tinytorch.primitives.quiet import quiet_call, quietly
from tinytorch.primitives.reshaping import permute, reshape
from tinytorch.primitives.samples import flags, numbers, strided
from tinytorch.primitives.shapes import BOOL, NUMBER, check_axis, check_kind


def _operations(ins, outs, **params) -> int:
    return ins[0].size


def _rule(name: str, kinds: str, needs_one: bool = False, out=None):
    def infer(x: Spec, *, axes: tuple[int, ...], keepdims: bool) -> Spec:
        check_kind(name, "x", x, kinds)
        shape = reduced_shape(name, x, axes, keepdims)
        if needs_one:
            _check_not_empty(name, x, axes)
        return Spec(shape, out or x.dtype)

    return infer


def _check_not_empty(name: str, x: Spec, axes: tuple[int, ...]) -> None:
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(
            f"{name}: there is nothing to choose from",
            got=f"x {x.shape}, reduced over axes {axes}",
            rule="each reduced axis has at least one element",
            fix="leave out empty inputs, or concatenate a default first",
        )


def _rule_arg(name: str):
    def infer(x: Spec, *, axis: int) -> Spec:
        check_kind(name, "x", x, NUMBER)
        check_axis(name, len(x.shape), axis)
        _check_not_empty(name, x, (axis,))
        return Spec((*x.shape[:axis], *x.shape[axis + 1 :]), int64)

    return infer


def _running(x: Spec, *, axis: int) -> Spec:
    check_kind("cumsum", "x", x, NUMBER)
    check_axis("cumsum", len(x.shape), axis)
    return x


def _extreme_vjp(g, out, x, *, axes, keepdims, final=False):
    """All elements that are the extreme share the gradient equally, as in PyTorch's amax."""
    shape = tuple(x.shape)
    kept = kept_shape(shape, axes)
    winners = cast_like(equal(x, reshape(out, shape=kept)), g)
    share = divided(reshape(g, shape=kept), sum_(winners, axes=axes, keepdims=True), final)
    return (mul(winners, share),)


def _products_before(x, axis: int):
    """out[i] = x[0] * ... * x[i-1] along an axis, by doubling (Hillis and Steele 1986)."""
    shape = tuple(x.shape)
    n, none = shape[axis], (0,) * len(shape)

    def shifted(y, by):
        before = (*none[:axis], by, *none[axis + 1 :])
        return pad(cut(y, axis, 0, n - by), before=before, after=none, value=1.0)

    product, reach = shifted(x, 1), 1
    while reach < n:
        product, reach = mul(product, shifted(product, reach)), 2 * reach
    return product


def _prod_vjp(g, out, x, *, axes, keepdims, final=False):
    """g times the product of all others: of those before and those after, so zeros do no harm."""
    shape = tuple(x.shape)
    if 0 in shape or not axes:
        return (broadcast_to(reshape(g, shape=kept_shape(shape, axes)), shape=shape),)
    others = tuple(i for i in range(len(shape)) if i not in axes)
    order = others + tuple(axes)
    moved = permute(x, axes=order)
    rest = tuple(shape[i] for i in others)
    flat = reshape(moved, shape=(*rest, int(np.prod([shape[i] for i in axes]))))
    last = len(rest)
    after = flip(_products_before(flip(flat, axes=(last,)), last), axes=(last,))
    of_others = mul(_products_before(flat, last), after)
    g_flat = scaled(reshape(g, shape=(*rest, 1)), of_others, final)
    g_moved = reshape(g_flat, shape=tuple(moved.shape))
    return (permute(g_moved, axes=tuple(order.index(i) for i in range(len(shape)))),)


@quietly
def _prod(x, *, axes, keepdims):
    wide = np.multiply.reduce(x, axis=axes, dtype=accumulator(x.dtype), keepdims=keepdims)
    return wide if wide.dtype == x.dtype else wide.astype(x.dtype)


@quietly
def _cumsum(x, *, axis):
    return np.add.accumulate(x, axis=axis, dtype=accumulator(x.dtype)).astype(x.dtype, copy=False)


def _samples():
    return [
        Sample((numbers(),), {"axes": (), "keepdims": False}),
        Sample((numbers(2, 3, 5),), {"axes": (0, 2), "keepdims": False}),
        Sample((numbers(2, 3, 5),), {"axes": (1,), "keepdims": True}),
        Sample((strided(3, 4),), {"axes": (1, 0), "keepdims": False}),
        Sample((numbers(3, 0),), {"axes": (0,), "keepdims": True}),
        Sample((numbers(7),), {"axes": (0,), "keepdims": False}),
        Sample((numbers(5, low=0, high=9, dtype="uint8"),), {"axes": (0,), "keepdims": False}),
        Sample((np.array([[1.0, np.nan], [np.inf, 2.0]]),), {"axes": (1,), "keepdims": False}),
    ]


def _errors(good, refused, choosing: bool):
    over = {"axes": (0,), "keepdims": False}
    made = [
        ErrorSample((refused,), TypeError, "does not take", over),
        ErrorSample((good,), ValueError, "does not exist", {"axes": (1,), "keepdims": False}),
    ]
    if choosing:
        made.append(ErrorSample((numbers(0, 2),), ValueError, "nothing to choose from", over))
    return made


def _reduction(name, numpy, vjp, doc, combines, needs_one=False, selects=()):
    return Primitive(
        name,
        _rule(name, NUMBER, needs_one),
        numpy,
        vjp=vjp,
        flops=_operations,
        samples=_samples,
        error_samples=lambda: _errors(numbers(3), flags(3), needs_one),
        op_class=OpClass.REDUCTION,
        combines=combines,
        selects=selects,
        doc=doc,
    )


max_ = _reduction(
    "max",
    lambda x, *, axes, keepdims: quiet_call(np.maximum.reduce, x, axes, None, None, keepdims),
    _extreme_vjp,
    "The largest element over axes; NaN wins; ties share the gradient.",
    ("maximum", -math.inf),
    needs_one=True,
    selects=(0,),
)
min_ = _reduction(
    "min",
    lambda x, *, axes, keepdims: quiet_call(np.minimum.reduce, x, axes, None, None, keepdims),
    _extreme_vjp,
    "The smallest element over axes; NaN wins; ties share the gradient.",
    ("minimum", math.inf),
    needs_one=True,
    selects=(0,),
)
prod = _reduction(
    "prod", _prod, _prod_vjp, "The product over axes. Keeps the dtype: integers wrap.", ("mul", 1)
)


def _position(name, numpy, doc):
    return Primitive(
        name,
        _rule_arg(name),
        numpy,
        vjp=NOT_DIFFERENTIABLE,
        flops=_operations,
        samples=lambda: [
            Sample((numbers(7),), {"axis": 0}),
            Sample((strided(3, 4),), {"axis": 1}),
            Sample((numbers(2, 1, 3),), {"axis": 1}),
            Sample((numbers(0, 2),), {"axis": 1}),
            Sample((np.array([[2, 5, 5, 1, 1], [0, 0, 0, 0, 0]], np.int8),), {"axis": 1}),
            Sample((np.array([1.0, np.nan, np.inf, np.nan]),), {"axis": 0}),
        ],
        error_samples=lambda: [
            ErrorSample((numbers(2, 0),), ValueError, "nothing to choose from", {"axis": 1}),
            ErrorSample((numbers(2),), ValueError, "does not exist", {"axis": 1}),
            ErrorSample((flags(2),), TypeError, "does not take", {"axis": 0}),
        ],
        op_class=OpClass.ARG_REDUCTION,
        doc=doc,
    )


argmax = _position(
    "argmax", lambda x, *, axis: np.argmax(x, axis), "Position of the first largest (or NaN)."
)
argmin = _position(
    "argmin", lambda x, *, axis: np.argmin(x, axis), "Position of the first smallest (or NaN)."
)


def _verdict(name, ufunc, doc, combines):
    return Primitive(
        name,
        _rule(name, BOOL),
        lambda x, *, axes, keepdims: ufunc.reduce(x, axis=axes, keepdims=keepdims),
        vjp=NOT_DIFFERENTIABLE,
        flops=_operations,
        samples=lambda: [
            Sample((flags(2, 3),), {"axes": (1,), "keepdims": False}),
            Sample((flags(2, 3),), {"axes": (0, 1), "keepdims": True}),
            Sample((flags(0, 3),), {"axes": (0,), "keepdims": False}),
            Sample((flags(),), {"axes": (), "keepdims": False}),
        ],
        error_samples=lambda: _errors(flags(3), numbers(3), False),
        op_class=OpClass.REDUCTION,
        combines=combines,
        doc=doc,
    )


any_ = _verdict(
    "any", np.logical_or, "Whether one is true; false of nothing.", ("logical_or", False)
)
all_ = _verdict(
    "all", np.logical_and, "Whether every one is true; true of nothing.", ("logical_and", True)
)
cumsum = Primitive(
    "cumsum",
    _running,
    _cumsum,
    vjp=lambda g, out, x, *, axis: (flip(cumsum(flip(g, axes=(axis,)), axis=axis), axes=(axis,)),),
    samples=lambda: [
        Sample((numbers(7),), {"axis": 0}),
        Sample((strided(3, 4),), {"axis": 1}),
        Sample((numbers(2, 0, 3),), {"axis": 1}),
        Sample((numbers(2, 0, 3),), {"axis": 0}),
        Sample((np.array([100, 100, 100], np.int8),), {"axis": 0}),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(),), ValueError, "does not exist", {"axis": 0}),
        ErrorSample((flags(2),), TypeError, "does not take", {"axis": 0}),
    ],
    op_class=OpClass.SCAN,
    keeps_order=True,
    doc="out[i] = x[0] + ... + x[i] along an axis. Keeps the dtype.",
)
