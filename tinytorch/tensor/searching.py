"""Looking for elements: extrema and order with their places, nonzero, searchsorted, unique values.

Knows orders. What has as many results as the values say (`nonzero`, `unique_*`) needs the values,
so a compiled function refuses it; everything else has a static shape.
"""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

import numpy as np

from tinytorch.base.dtypes import float64, int32, int64
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.primitives import TABLE
from tinytorch.tensor.base import TensorBase, make
from tinytorch.tensor.dispatch import alias, apply, common, tensor_of, to_dtype
from tinytorch.tensor.elementwise import equal as eq
from tinytorch.tensor.elementwise import maximum, minimum
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.reductions import all, amax, amin, any, argmax, argmin, argsort, sum
from tinytorch.tensor.shaping import as_vector, axes_of, axis_of, reshape, slice_along, squeeze


class ValuesIndices(NamedTuple):
    """Elements along an axis, and where they were: what `max`, `min`, `sort` and `topk` give."""

    values: Any
    indices: Any


def _extreme(name: str, x: Any, dim: Any, keepdim: bool) -> Any:
    amount, place = (amax, argmax) if name == "max" else (amin, argmin)
    if dim is None:
        return amount(x, None, keepdim)
    if isinstance(dim, TensorBase):
        return (maximum if name == "max" else minimum)(x, dim)
    if not isinstance(dim, (int, np.integer)):
        raise ShapeError(
            f"{name}: positions are along one axis",
            got=f"dim={dim!r}",
            rule="a whole number; over several axes only the value is known",
            fix=f"tt.a{name}(x, dim={dim!r})",
        )
    if not x.shape:
        axes_of(x, dim)  # refuses what no number has
        return ValuesIndices(amount(x), place(x))
    at = axis_of(x, dim)
    index = place(x, at, True)
    out = ValuesIndices(apply(TABLE["take_along"], (x, index), {"axis": at}), index)
    return out if keepdim else ValuesIndices(*(squeeze(part, at) for part in out))


def max(x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False) -> Any:
    """The largest element (NaN if one is NaN), or along an axis the largest and where they are.

    Args:
        x: any shape.
        dim: None: over all elements, the value alone. A whole number: along this axis. A Tensor:
            `maximum(x, dim)`, as in PyTorch.
        keepdim: keep the axis, with size 1.
        axis: another name of `dim`.
        keepdims: another name of `keepdim`.

    Returns:
        one number for dim=None, else a pair (values, indices); of equal elements the first, and
        it alone gets the gradient (`amax` shares it among them).

    Raises:
        ShapeError: no such axis, several axes (`amax` takes them), or nothing to choose from.

    Differs from the array API, whose `max(x, axis=...)` is `amax`: tinytorch.array_api has it.

    Example:
        >>> import tinytorch as tt
        >>> values, indices = tt.max(tt.tensor([[3.0, 1.0], [2.0, 5.0]]), 1)
        >>> values.tolist(), indices.tolist()
        ([3.0, 5.0], [0, 1])
    """
    return _extreme("max", tensor_of(x), dim if axis is None else axis, keepdim or keepdims)


def min(x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False) -> Any:
    """The smallest element, or along an axis the smallest and where they are; as `max`."""
    return _extreme("min", tensor_of(x), dim if axis is None else axis, keepdim or keepdims)


def sort(
    x, dim: int = -1, descending: bool = False, stable: bool = True, *, axis: int | None = None
) -> ValuesIndices:
    """x in ascending (or descending) order along an axis, and where each element was.

    Args:
        x: any shape; a number counts as (1,).
        dim: the axis.
        descending: the largest first.
        stable: kept for PyTorch's order of arguments; equal elements always keep their order.
        axis: another name of `dim`.

    Returns:
        values, indices, both of x's shape; NaN is last, or first if descending.

    Cost: n log n comparisons, by NumPy, also in a compiled function.

    Example:
        >>> import tinytorch as tt
        >>> values, indices = tt.sort(tt.tensor([3.0, 1.0, 2.0]))
        >>> values.tolist(), indices.tolist()
        ([1.0, 2.0, 3.0], [1, 2, 0])
    """
    x = tensor_of(x)
    along = dim if axis is None else axis
    index = argsort(x, along, descending)
    if not x.shape:
        return ValuesIndices(alias(x), index)
    return ValuesIndices(apply(TABLE["take_along"], (x, index), {"axis": axis_of(x, along)}), index)


def equal(a, b) -> bool:
    """Whether two Tensors have the same shape and the same elements; NaN is equal to nothing.

    Differs from the array API, whose `equal` compares element by element: `a == b`, `tt.eq`.

    Example:
        >>> import tinytorch as tt
        >>> tt.equal(tt.ones(2), tt.ones(2)), tt.equal(tt.ones(2), tt.ones(1, 2))
        (True, False)
    """
    a, b = tensor_of(a), tensor_of(b)
    if a.shape != b.shape:
        return False
    return bool(all(eq(a, b)).read("equal(), whose answer is a value"))


def nonzero(x, *, as_tuple: bool = False) -> Any:
    """The positions of the elements that are not 0.

    Args:
        x: any shape.
        as_tuple: False: one row for each element, (N, ndim); True: one vector (N,) for each axis,
            with which x can be indexed.

    Example:
        >>> import tinytorch as tt
        >>> tt.nonzero(tt.tensor([[0, 2], [3, 0]])).tolist()
        [[0, 1], [1, 0]]
    """
    if not as_tuple:
        return argwhere(x)
    array = np.atleast_1d(tensor_of(x).read("nonzero(), whose size depends on values"))
    return tuple(make(i.astype(np.int64)) for i in array.nonzero())


def argwhere(x) -> Any:
    """The positions of the elements that are not 0, one row for each."""
    array = tensor_of(x).read("argwhere(), whose size depends on values")
    return make(np.argwhere(array).astype(np.int64))


def count_nonzero(x, dim=None, *, axis=None, keepdims: bool = False) -> Any:
    """How many elements are not 0, over axes (None: all)."""
    return sum(tensor_of(x) != 0, dim if axis is None else axis, keepdims)


def searchsorted(
    x1, x2, *, out_int32: bool = False, right: bool = False, side: str | None = None, sorter=None
) -> Any:
    """Where each element of x2 would be inserted into the ascending vector x1; NaN sorts last.

    Args:
        x1: ascending, (N,); or (..., N), a vector for each row of x2.
        x2: any shape; or (..., M) with the leading axes of x1.
        out_int32: give int32 in place of int64.
        right: behind equal elements, as side="right".
        side: "left" (default): before equal elements, "right": behind them.
        sorter: positions that put x1 in order, if it is not; shaped like x1.

    Raises:
        ShapeError: x1 is a number, or its leading axes are not those of x2.
        SettingError: another side, or right=True with side="left".

    Cost: N comparisons an element in compiled code, and where x1 has several rows; by bisection
        otherwise.
    """
    if side not in (None, "left", "right") or (right and side == "left"):
        raise SettingError(
            "searchsorted: no such side",
            got=f"side={side!r}, right={right}",
            rule='"left", or "right", which right=True means too',
            fix='side="right"',
        )
    side = "right" if right or side == "right" else "left"
    x1, x2 = common(x1, x2)
    if not x1.shape or (len(x1.shape) > 1 and x1.shape[:-1] != x2.shape[:-1]):
        raise ShapeError(
            "searchsorted: the sorted numbers do not belong to those that are looked for",
            got=f"x1 {x1.shape}, x2 {x2.shape}",
            rule="x1 (N,), or x1 (..., N) and x2 (..., M) with equal leading axes",
            fix="x1.reshape(-1)",
        )
    if sorter is not None:
        order = {"axis": len(x1.shape) - 1}
        x1 = apply(TABLE["take_along"], (x1, tensor_of(sorter)), order)
    kind = int32 if out_int32 else int64
    if STATE.interpreter is None and len(x1.shape) == 1:
        found = np.searchsorted(x1.numpy(), x2.numpy(), side=side)
        return make(found.astype(kind.storage))
    column = reshape(x2, (*x2.shape, 1))
    if len(x1.shape) > 1:
        x1 = reshape(x1, (*x1.shape[:-1], 1, x1.shape[-1]))
    before = x1 < column if side == "left" else x1 <= column
    if x1.dtype.is_float:  # a NaN is behind every number, and equal to a NaN
        nan = column != column
        before = before | (nan & (x1 == x1) if side == "left" else nan)
    return sum(before, -1, dtype=kind)


def isin(x, values, *, invert: bool = False) -> Any:
    """Whether each element of x is among `values`.

    Args:
        x: any shape.
        values: any shape.
        invert: answer the opposite.

    Cost: one comparison for each pair.
    """
    x, values = common(x, values)
    found = any(reshape(x, (*x.shape, 1)) == reshape(values, -1), -1)
    return found == False if invert else found  # noqa: E712


@as_vector
def topk(x, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k largest (or smallest) elements along an axis, and their positions.

    Args:
        x: any shape.
        k: how many, 0 <= k <= size of the axis.
        dim: the axis.
        largest: False: the smallest.
        sorted: kept for PyTorch's order of arguments; they always come in order.

    Returns:
        a pair (values, indices); equal elements in the order of their positions.

    Example:
        >>> import tinytorch as tt
        >>> values, indices = tt.topk(tt.Tensor([3.0, 1.0, 2.0]), 2)
        >>> values.tolist(), indices.tolist()
        ([3.0, 2.0], [0, 2])
    """
    x = tensor_of(x)
    axis = axis_of(x, dim)
    if not 0 <= k <= x.shape[axis]:
        raise SettingError(
            "topk: there are not so many elements",
            got=f"k={k} along an axis of {x.shape[axis]}",
            rule=f"0 <= k <= {x.shape[axis]}",
            fix=f"k={x.shape[axis]}",
        )
    index = slice_along(argsort(x, axis, descending=largest), axis, 0, k)
    return ValuesIndices(apply(TABLE["take_along"], (x, index), {"axis": axis}), index)


class UniqueAll(NamedTuple):
    """What `unique_all` finds."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """What `unique_counts` finds."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """What `unique_inverse` finds."""

    values: Any
    inverse_indices: Any


def unique_all(x) -> UniqueAll:
    """The different values of x in ascending order; where each is first, where x has it, how often.

    Each NaN is a value of its own, as the array API asks.
    """
    x = tensor_of(x)
    array = x.read("unique values, whose number depends on values")
    values, first, inverse, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    back = to_dtype(make(values), x.dtype)
    index = [make(i.astype(np.int64)) for i in (first, inverse.reshape(array.shape), counts)]
    return UniqueAll(back, *index)


def unique_values(x) -> Any:
    """The different values of x, in ascending order.

    Example:
        >>> import tinytorch as tt
        >>> tt.unique_values(tt.tensor([3, 1, 3])).tolist()
        [1, 3]
    """
    return unique_all(x).values


def unique_counts(x) -> UniqueCounts:
    """The different values of x, and how often each is there."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x) -> UniqueInverse:
    """The different values of x, and for each element of x the position of its value."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def bincount(x, weights=None, minlength: int = 0) -> Any:
    """How often each whole number 0, 1, ... is in a vector, or the sum of its weights.

    Args:
        x: whole numbers >= 0, (N,).
        weights: what each element counts, (N,); the sums are of its type (integers: float64).
            Default: 1, and the counts are int64.
        minlength: least length of the result; in compiled code its length, which must suffice.
    """
    x = tensor_of(x)
    if STATE.interpreter is None:
        array = x.numpy()
        minlength = builtins.max(minlength, int(array.max()) + 1 if array.size else 0)
    if weights is None:
        weights = x.ones_like(int64)
    else:
        weights = tensor_of(weights)
        if weights.shape != x.shape:
            raise ShapeError(
                "bincount: there is not one weight for each element",
                got=f"weights {weights.shape}, x {x.shape}",
                rule="equal shapes (N,)",
                fix="bincount(x, minlength=6), if the least length is meant",
            )
        weights = weights if weights.dtype.is_float else to_dtype(weights, float64)
    return apply(TABLE["scatter_add"], (weights, x), {"axis": 0, "size": minlength})
