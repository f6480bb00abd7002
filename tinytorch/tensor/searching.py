"""Looking for elements: nonzero, searchsorted, topk, unique values, membership.

Knows orders. What has as many results as the values say (`nonzero`, `unique_*`) needs the values,
so a compiled function refuses it; everything else has a static shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinytorch.base.dtypes import int64
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.primitives import TABLE
from tinytorch.tensor.base import make
from tinytorch.tensor.dispatch import apply, common, tensor_of, to_dtype
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.reductions import any, argsort, sum
from tinytorch.tensor.shaping import as_vector, axis_of, reshape, slice_along


def nonzero(x) -> tuple[Any, ...]:
    """The positions of the elements that are not 0: one vector of indices for each axis.

    Example:
        >>> import tinytorch as tt
        >>> [i.tolist() for i in tt.nonzero(tt.Tensor([[0, 2], [3, 0]]))]
        [[0, 1], [1, 0]]
    """
    array = np.atleast_1d(tensor_of(x).read("nonzero(), whose size depends on values"))
    return tuple(make(i.astype(np.int64)) for i in array.nonzero())


def argwhere(x) -> Any:
    """The positions of the elements that are not 0, one row for each (PyTorch's `nonzero`)."""
    array = tensor_of(x).read("argwhere(), whose size depends on values")
    return make(np.argwhere(array).astype(np.int64))


def count_nonzero(x, dim=None, *, axis=None, keepdims: bool = False) -> Any:
    """How many elements are not 0, over axes (None: all)."""
    return sum(tensor_of(x) != 0, dim if axis is None else axis, keepdims)


def searchsorted(x1, x2, *, side: str = "left", sorter=None) -> Any:
    """Where each element of x2 would be inserted into the ascending vector x1; NaN sorts last.

    Args:
        x1: ascending, (N,).
        x2: any shape.
        side: "left": before equal elements, "right": behind them.
        sorter: positions that put x1 in order, if it is not.

    Raises:
        ShapeError: x1 is no vector.
        SettingError: another side.

    Cost: N comparisons an element in compiled code; by bisection otherwise.
    """
    if side not in ("left", "right"):
        raise SettingError(
            "searchsorted: no such side", got=repr(side), rule='"left" or "right"', fix='"left"'
        )
    x1, x2 = common(x1, x2)
    if len(x1.shape) != 1:
        raise ShapeError(
            "searchsorted: the sorted numbers are no vector",
            got=f"x1 {x1.shape}",
            rule="one axis",
            fix="x1.reshape(-1)",
        )
    if sorter is not None:
        x1 = x1[tensor_of(sorter)]
    if STATE.interpreter is None:
        return make(np.searchsorted(x1.numpy(), x2.numpy(), side=side).astype(np.int64))
    column = reshape(x2, (*x2.shape, 1))
    before = x1 < column if side == "left" else x1 <= column
    if x1.dtype.is_float:  # a NaN is behind every number, and equal to a NaN
        nan = column != column
        before = before | (nan & (x1 == x1) if side == "left" else nan)
    return sum(before, -1)


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
def topk(x, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Any, Any]:
    """The k largest (or smallest) elements along an axis, and their positions.

    Args:
        x: any shape.
        k: how many, 0 <= k <= size of the axis.
        dim: the axis.
        largest: False: the smallest.
        sorted: kept for PyTorch's order of arguments; they always come in order.

    Returns:
        values, indices; equal elements in the order of their positions.

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
    return apply(TABLE["take_along"], (x, index), {"axis": axis}), index


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
        >>> tt.unique_values(tt.Tensor([3, 1, 3])).tolist()
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


def bincount(x, minlength: int = 0) -> Any:
    """How often each whole number 0, 1, ... is in a vector.

    Args:
        x: whole numbers >= 0, (N,).
        minlength: least length of the result; in compiled code its length, which must suffice.
    """
    x = tensor_of(x)
    if STATE.interpreter is None:
        array = x.numpy()
        minlength = max(minlength, int(array.max()) + 1 if array.size else 0)
    ones = x.ones_like(int64)
    return apply(TABLE["scatter_add"], (ones, x), {"axis": 0, "size": minlength})
