"""Reductions, positions of extremes, running sums, sorting. (`sum` is in movement.py.)

Knows orders and products. NaN is larger and smaller than everything, so it wins: `max` of anything
with a NaN is NaN, and `argmax` says where. Sorting puts NaN last, equal elements in their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType, int64
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.elementwise import cast_like, divided, equal, mul, scaled
from tinytorch.primitives.ieee import ieee_call, ieee_steps, row_major
from tinytorch.primitives.indexing import scatter_along
from tinytorch.primitives.movement import (
    Sizes,
    accumulator,
    broadcast_to,
    cut,
    flip,
    kept_shape,
    over,
    pad,
    permute,
    reduced_flops,
    reduced_shape,
    reshape,
    sum_,
)
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    Array,
    Cotangents,
    ErrorSample,
    OpClass,
    Operand,
    Primitive,
    Spec,
    flags,
    numbers,
    refused,
    sample,
    strided,
)
from tinytorch.primitives.shapes import BOOL, NUMBER, check_axis, check_kind


def _rule(name: str, kinds: str, needs_one: bool = False) -> Callable[..., Spec]:
    def infer(x: Spec, *, axes: Sizes, keepdims: bool) -> Spec:
        check_kind(name, "x", x, kinds)
        shape = reduced_shape(name, x, axes, keepdims)
        if needs_one:
            _check_not_empty(name, x, axes)
        return Spec(shape, x.dtype)

    return infer


def _check_not_empty(name: str, x: Spec, axes: Sizes) -> None:
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(
            f"{name}: there is nothing to choose from",
            got=f"x {x.shape}, reduced over axes {axes}",
            rule="each reduced axis has at least one element",
            fix="leave out empty inputs, or concatenate a default first",
        )


def _errors(good: Array, other: Array, choosing: bool) -> list[ErrorSample]:
    made = [
        refused(TypeError, "does not take", other, **over(0)),
        refused(ValueError, "does not exist", good, **over(1)),
    ]
    if choosing:
        made.append(refused(ValueError, "nothing to choose from", numbers(0, 2), **over(0)))
    return made


def _extreme_vjp(
    g: Operand, out: Operand, x: Operand, *, axes: Sizes, keepdims: bool, final: bool = False
) -> Cotangents:
    """All elements that are the extreme share the gradient equally, as in PyTorch's amax."""
    shape = tuple(x.shape)
    kept = kept_shape(shape, axes)
    winners = cast_like(equal(x, reshape(out, shape=kept)), g)
    share = divided(reshape(g, shape=kept), sum_(winners, axes=axes, keepdims=True), final)
    return (mul(winners, share),)


def _products_before(x: Operand, axis: int) -> Operand:
    """out[i] = x[0] * ... * x[i-1] along an axis, by doubling (Hillis and Steele 1986)."""
    shape = tuple(x.shape)
    n, none = shape[axis], (0,) * len(shape)

    def shifted(y: Operand, by: int) -> Operand:
        before = (*none[:axis], by, *none[axis + 1 :])
        return pad(cut(y, axis, 0, n - by), before=before, after=none, value=1.0)

    product, reach = shifted(x, 1), 1
    while reach < n:
        product, reach = mul(product, shifted(product, reach)), 2 * reach
    return product


def _prod_vjp(
    g: Operand, out: Operand, x: Operand, *, axes: Sizes, keepdims: bool, final: bool = False
) -> Cotangents:
    """g times the product of all others: of those before and those after, so zeros do no harm."""
    shape = tuple(x.shape)
    if 0 in shape or not axes:
        return (broadcast_to(reshape(g, shape=kept_shape(shape, axes)), shape=shape),)
    others = tuple(i for i in range(len(shape)) if i not in axes)
    order = others + tuple(axes)
    moved = permute(x, axes=order)
    rest = tuple(shape[i] for i in others)
    flat = reshape(moved, shape=(*rest, math.prod(shape[i] for i in axes)))
    last = len(rest)
    after = flip(_products_before(flip(flat, axes=(last,)), last), axes=(last,))
    of_others = mul(_products_before(flat, last), after)
    g_flat = scaled(reshape(g, shape=(*rest, 1)), of_others, final)
    g_moved = reshape(g_flat, shape=tuple(moved.shape))
    return (permute(g_moved, axes=tuple(order.index(i) for i in range(len(shape)))),)


@ieee_steps
def _prod(x: Array, *, axes: Sizes, keepdims: bool) -> Array:
    wide: Array = np.multiply.reduce(x, axis=axes, dtype=accumulator(x.dtype), keepdims=keepdims)
    return row_major(wide if wide.dtype == x.dtype else wide.astype(x.dtype))


def _cumsum_vjp(g: Operand, out: Operand, x: Operand, *, axis: int) -> Cotangents:
    return (flip(cumsum(flip(g, axes=(axis,)), axis=axis), axes=(axis,)),)


@ieee_steps
def _cumsum(x: Array, *, axis: int) -> Array:
    wide: Array = np.add.accumulate(x, axis=axis, dtype=accumulator(x.dtype))
    return wide.astype(x.dtype, copy=False)


def _reduction(
    name: str,
    numpy: Callable[..., Array],
    vjp: Callable[..., Cotangents],
    doc: str,
    combines: tuple[str, float],
    selects: tuple[int, ...] = (),
) -> Primitive:
    needs_one = math.isinf(combines[1])
    return Primitive(
        name, _rule(name, NUMBER, needs_one), numpy, vjp=vjp, flops=reduced_flops,
        error_samples=lambda: _errors(numbers(3), flags(3), needs_one),
        op_class=OpClass.REDUCTION, combines=combines, selects=selects,
        samples=lambda: [
            sample(numbers(), **over()),
            sample(numbers(2, 3, 5), **over(0, 2)),
            sample(numbers(2, 3, 5), **over(1, keepdims=True)),
            sample(strided(3, 4), **over(1, 0)),
            sample(numbers(3, 0), **over(0, keepdims=True)),
            sample(numbers(7), **over(0)),
            sample(numbers(5, low=0, high=9, dtype="uint8"), **over(0)),
            sample(np.array([[1.0, np.nan], [np.inf, 2.0]]), **over(1)),
        ],
        doc=doc,
    )  # fmt: skip


def _max(x: Array, *, axes: Sizes, keepdims: bool) -> Array:
    return row_major(ieee_call(np.maximum.reduce, x, axes, None, None, keepdims))


def _min(x: Array, *, axes: Sizes, keepdims: bool) -> Array:
    return row_major(ieee_call(np.minimum.reduce, x, axes, None, None, keepdims))


max_ = _reduction(
    "max", _max, _extreme_vjp, "The largest element over axes; NaN wins; ties share the gradient.",
    ("maximum", -math.inf), selects=(0,),
)  # fmt: skip
min_ = _reduction(
    "min", _min, _extreme_vjp, "The smallest element over axes; NaN wins; ties share the gradient.",
    ("minimum", math.inf), selects=(0,),
)  # fmt: skip
prod = _reduction(
    "prod", _prod, _prod_vjp, "The product over axes. Keeps the dtype: integers wrap.", ("mul", 1)
)


def _verdict(name: str, ufunc: np.ufunc, doc: str, combines: tuple[str, bool]) -> Primitive:
    def numpy(x: Array, *, axes: Sizes, keepdims: bool) -> Array:
        return row_major(ufunc.reduce(x, axis=axes, keepdims=keepdims))

    return Primitive(
        name, _rule(name, BOOL), numpy, vjp=NOT_DIFFERENTIABLE, flops=reduced_flops,
        error_samples=lambda: _errors(flags(3), numbers(3), False), op_class=OpClass.REDUCTION,
        combines=combines,
        samples=lambda: [
            sample(flags(2, 3), **over(1)),
            sample(flags(2, 3), **over(0, 1, keepdims=True)),
            sample(flags(0, 3), **over(0)),
            sample(flags(), **over()),
        ],
        doc=doc,
    )  # fmt: skip


any_ = _verdict(
    "any", np.logical_or, "Whether one is true; false of nothing.", ("logical_or", False)
)
all_ = _verdict(
    "all", np.logical_and, "Whether every one is true; true of nothing.", ("logical_and", True)
)


# --- along one axis: positions of extremes, running sums, sorting ---


def _along(axis: int) -> dict[str, Any]:
    return {"axis": axis}


def _rule_along(name: str, out: DType | None = None) -> Callable[..., Spec]:
    def infer(x: Spec, *, axis: int) -> Spec:
        check_kind(name, "x", x, NUMBER)
        check_axis(name, len(x.shape), axis)
        return Spec(x.shape, out or x.dtype)

    return infer


def _errors_along() -> list[ErrorSample]:
    return [
        refused(ValueError, "does not exist", numbers(3), **_along(1)),
        refused(TypeError, "does not take", flags(3), **_along(0)),
    ]


def _position(name: str, ufunc: Callable[[Array, int], Array], doc: str) -> Primitive:
    def infer(x: Spec, *, axis: int) -> Spec:
        out = _rule_along(name, int64)(x, axis=axis)
        _check_not_empty(name, x, (axis,))
        return Spec((*x.shape[:axis], *x.shape[axis + 1 :]), out.dtype)

    def numpy(x: Array, *, axis: int) -> Array:
        return ufunc(x, axis)

    return Primitive(
        name, infer, numpy, vjp=NOT_DIFFERENTIABLE, flops=reduced_flops,
        op_class=OpClass.ARG_REDUCTION,
        samples=lambda: [
            sample(numbers(7), **_along(0)),
            sample(strided(3, 4), **_along(1)),
            sample(numbers(2, 1, 3), **_along(1)),
            sample(numbers(0, 2), **_along(1)),
            sample(np.array([[2, 5, 5, 1, 1], [0, 0, 0, 0, 0]], np.int8), **_along(1)),
            sample(np.array([1.0, np.nan, np.inf, np.nan]), **_along(0)),
        ],
        error_samples=lambda: [
            refused(ValueError, "nothing to choose from", numbers(2, 0), **_along(1)),
            *_errors_along(),
        ],
        doc=doc,
    )  # fmt: skip


argmax = _position("argmax", np.argmax, "Position of the first largest (or NaN).")
argmin = _position("argmin", np.argmin, "Position of the first smallest (or NaN).")
cumsum = Primitive(
    "cumsum", _rule_along("cumsum"), _cumsum, vjp=_cumsum_vjp, op_class=OpClass.SCAN,
    keeps_order=True,
    samples=lambda: [
        sample(numbers(7), **_along(0)),
        sample(strided(3, 4), **_along(1)),
        sample(numbers(2, 0, 3), **_along(1)),
        sample(numbers(2, 0, 3), **_along(0)),
        sample(np.array([100, 100, 100], np.int8), **_along(0)),
    ],
    error_samples=lambda: [
        refused(ValueError, "does not exist", numbers(), **_along(0)),
        *_errors_along(),
    ],
    doc="out[i] = x[0] + ... + x[i] along an axis. Keeps the dtype.",
)  # fmt: skip


def _comparisons(ins: Sequence[Spec], outs: Sequence[Spec], *, axis: int) -> int:
    n = ins[0].shape[axis]
    return int(ins[0].size * max(math.log2(n), 1)) if n else 0


def _sorting(
    name: str, out: DType | None, function: Callable[..., Array],
    vjp: Callable[..., Cotangents] | str, doc: str,
) -> Primitive:  # fmt: skip
    def numpy(x: Array, *, axis: int) -> Array:
        return function(x, axis, kind="stable")

    return Primitive(
        name, _rule_along(name, out), numpy, vjp=vjp, flops=_comparisons,
        error_samples=_errors_along, op_class=OpClass.SORT,
        keeps_order=out is None,  # what is sorted is a copy that lies as x does
        samples=lambda: [
            sample(numbers(7), **_along(0)),
            sample(strided(3, 4), **_along(1)),
            sample(numbers(3, 1, 5), **_along(0)),
            sample(numbers(2, 0), **_along(1)),
            sample(np.array([3, 1, 3, 1, 2], np.int8), **_along(0)),
            sample(np.array([1.0, np.nan, -np.inf, np.inf, 0.0]), **_along(0)),
        ],
        doc=doc,
    )  # fmt: skip


def _sort_vjp(g: Operand, out: Operand, x: Operand, *, axis: int) -> Cotangents:
    places = argsort(x, axis=axis)
    return (scatter_along(g, places, axis=axis, size=x.shape[axis]),)


argsort = _sorting(
    "argsort", int64, np.argsort, NOT_DIFFERENTIABLE, "The positions that sort x along an axis."
)
sort = _sorting("sort", None, np.sort, _sort_vjp, "x in ascending order along an axis.")
