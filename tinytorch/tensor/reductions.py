"""Functions along axes: sums, means, extrema, softmax, running sums, sorting and searching.

Knows axes by both names: PyTorch's `dim`, `keepdim` and the array API's `axis`, `keepdims`. What
has as many results as the values say (`nonzero`, `unique_*`) needs the values, so a compiled
function refuses it; everything else has a static shape.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import builtins
import math
from operator import index
from typing import Any, NamedTuple

import numpy as np

from tinytorch.base.dtypes import (
    Array,
    DTypeLike,
    as_dtype,
    bool_,
    float64,
    int32,
    int64,
    uint8,
)
from tinytorch.base.errors import DTypeError, SettingError, ShapeError
from tinytorch.primitives import TABLE
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import GradientRule
from tinytorch.tensor.dispatch import (
    alias,
    apply,
    as_float,
    common,
    copied,
    in_float32,
    prepared,
    to_dtype,
)
from tinytorch.tensor.elementwise import (
    abs,
    eq,
    exp,
    log,
    maximum,
    minimum,
    not_equal,
    root_of_squares,
    where,
)
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.operands import Axes, Operand, entries_of, make, tensor_of
from tinytorch.tensor.shaping import (
    as_vector,
    axes_of,
    axis_of,
    concat,
    pad,
    refuse_bool,
    reshape,
    slice_along,
    squeeze,
)

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "argwhere", "bincount",
    "count_nonzero", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diff", "equal",
    "isin", "log_softmax", "logsumexp", "max", "mean", "min", "nonzero", "norm", "prod",
    "searchsorted", "softmax", "sort", "std", "sum", "topk", "unique_all", "unique_counts",
    "unique_inverse", "unique_values", "var",
]  # fmt: skip

_MAY_BE_BOOLS = (tuple, bool)


def _over(x: TensorBase, axes: Axes, keepdim: bool) -> dict[str, Any]:
    return {"axes": axes_of(x, axes), "keepdims": bool(keepdim)}


def _reduce(name: str, x: TensorBase, axes: Axes, keepdim: bool) -> Any:
    if type(axes) in _MAY_BE_BOOLS:  # what is remembered of axis 0 would be found for False
        for axis in entries_of(axes):
            if axis is False or axis is True:
                refuse_bool(axes)
    return prepared(TABLE[name], x, _over, axes, keepdim)


def _countable(x: Operand, dtype: DTypeLike | None) -> TensorBase:
    """What is added up: bools and integers as int64, unless `dtype` says otherwise."""
    x = tensor_of(x)
    if dtype is not None:
        return to_dtype(x, as_dtype(dtype))
    return x if x.dtype.is_float else to_dtype(x, int64)


def _as(x: Operand, dtype: DTypeLike, owner: str) -> TensorBase:
    """x in the floating-point type that a composite is asked to compute in."""
    wanted = as_dtype(dtype)
    if not wanted.is_float:
        raise DTypeError(
            f"{owner}: the result is no whole number",
            got=f"dtype={wanted.name}",
            rule="a floating-point type",
            fix="dtype=tt.float32",
        )
    return to_dtype(tensor_of(x), wanted)


def sum(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False, dtype: DTypeLike | None = None,
) -> Any:  # fmt: skip
    """Sum over axes (None: all); bools and integers are added up as int64.

    Example:
        >>> import tinytorch as tt
        >>> tt.sum(tt.ones(2, 3), dim=0).tolist()
        [2.0, 2.0, 2.0]
    """
    return _reduce("sum", _countable(x, dtype), dim if axis is None else axis, keepdim or keepdims)


def prod(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False, dtype: DTypeLike | None = None,
) -> Any:  # fmt: skip
    """Product over axes (None: all); bools and integers are multiplied as int64."""
    return _reduce("prod", _countable(x, dtype), dim if axis is None else axis, keepdim or keepdims)


def _count(x: TensorBase, axes: Axes) -> int:
    n = 1
    for a in axes_of(x, axes):
        n *= x.shape[a]
    return n


@in_float32()
def mean(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False, dtype: DTypeLike | None = None,
) -> Any:  # fmt: skip
    """Sum over axes divided by the number of elements; integers as float32, or all as `dtype`."""
    if dtype is not None:
        return mean(_as(x, dtype, "mean"), dim if axis is None else axis, keepdim or keepdims)
    x = as_float(x)
    axes = dim if axis is None else axis
    total = _reduce("sum", x, axes, keepdim or keepdims)
    count = _count(x, axes)
    return total * (1.0 / count) if count else total / 0.0


def _correction(dim: Any, unbiased: bool | None, correction: float | None) -> tuple[Any, float]:
    """The axes, and what is taken from the count, of PyTorch's ways to say it."""
    if isinstance(dim, bool):  # x.std(False): all axes
        dim, unbiased = None, dim
    if unbiased is not None:
        return dim, int(unbiased)
    return dim, 1 if correction is None else correction


@in_float32()
def var(
    x: Operand, dim: Axes = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: float | None = 1, axis: Axes = None, keepdims: bool = False,
) -> Any:  # fmt: skip
    """Sum of squared distances from the mean, divided by n - correction.

    Args:
        x: any shape; integers as float32.
        dim: axis or axes; None: all. A bool stands for `unbiased`, as in PyTorch's `x.var(False)`.
        unbiased: True is correction 1, False is 0.
        keepdim: keep the axes, with size 1.
        correction: default (and None) 1, the unbiased variance; NaN or inf if n <= correction.
        axis: the array API's name of `dim`.
        keepdims: the array API's name of `keepdim`.
    """
    dim, correction = _correction(dim, unbiased, correction)
    x = as_float(x)
    axes = dim if axis is None else axis
    distance = x - mean(x, axes, True)
    total = _reduce("sum", distance * distance, axes, keepdim or keepdims)
    count = _count(x, axes) - correction
    return total * (1.0 / count) if count > 0 else total / 0.0


@in_float32()
def std(
    x: Operand, dim: Axes = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: float | None = 1, axis: Axes = None, keepdims: bool = False,
) -> Any:  # fmt: skip
    """Square root of the variance, arguments as `var`; its gradient where that is 0 is 0."""
    return root_of_squares(
        var(x, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims)
    )


def amax(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """The largest element along axes (None: all), or NaN; ties share the gradient."""
    return _extreme("max", "any", x, dim if axis is None else axis, keepdim or keepdims)


def amin(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """The smallest element along axes (None: all), or NaN; ties share the gradient."""
    return _extreme("min", "all", x, dim if axis is None else axis, keepdim or keepdims)


def _extreme(name: str, of_bools: str, x: Operand, axes: Axes, keepdim: bool) -> Any:
    x = tensor_of(x)
    return _reduce(of_bools if x.dtype is bool_ else name, x, axes, keepdim)


def _position(name: str, x: Operand, dim: Any, keepdim: bool) -> Any:
    x = tensor_of(x)
    x = to_dtype(x, uint8) if x.dtype is bool_ else x
    if dim is None or not x.shape:
        axes_of(x, dim)  # refuses what no number has
        flat = apply(TABLE["reshape"], (x,), {"shape": (x.size,)})
        out = apply(TABLE[name], (flat,), {"axis": 0})
        return out.reshape((1,) * x.ndim) if keepdim else out
    at = axis_of(x, dim)
    out = apply(TABLE[name], (x,), {"axis": at})
    return out.unsqueeze(at) if keepdim else out


def argmax(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """Where the largest element is along an axis (None: of the flattened x); first wins."""
    return _position("argmax", x, dim if axis is None else axis, keepdim or keepdims)


def argmin(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """Where the smallest element is along an axis (None: of the flattened x); first wins."""
    return _position("argmin", x, dim if axis is None else axis, keepdim or keepdims)


def _truth(x: Operand) -> Any:
    x = tensor_of(x)
    return x if x.dtype is bool_ else x != 0


def any(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """Whether some element is not 0."""
    return _reduce("any", _truth(x), dim if axis is None else axis, keepdim or keepdims)


def all(
    x: Operand, dim: Axes = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """Whether no element is 0."""
    return _reduce("all", _truth(x), dim if axis is None else axis, keepdim or keepdims)


@as_vector
def cumsum(
    x: Operand, dim: int = -1, *, axis: int | None = None, dtype: DTypeLike | None = None
) -> Any:
    """Running sum along an axis; bools and integers are added up as int64, or as `dtype`."""
    x = _countable(x, dtype)
    return apply(TABLE["cumsum"], (x,), {"axis": axis_of(x, dim if axis is None else axis)})


@as_vector
def sort_values(
    x: Operand, dim: int = -1, descending: bool = False, *, axis: int | None = None,
    stable: bool = True,
) -> Any:  # fmt: skip
    """x in ascending (or descending) order along an axis; NaN last, or first if descending.

    The values alone; `sort` gives the positions too. A gradient goes to the places that `argsort`
    with the same arguments says, equal elements too.
    """
    x = tensor_of(x)
    at = axis_of(x, dim if axis is None else axis)
    if x.dtype is bool_:
        return to_dtype(sort_values(to_dtype(x, uint8), at, descending), bool_)
    if not descending:
        return apply(TABLE["sort"], (x,), {"axis": at})
    turned = {"axes": (at,)}  # as argsort, so that of equal elements each keeps its own gradient
    backwards = apply(TABLE["sort"], (apply(TABLE["flip"], (x,), turned),), {"axis": at})
    return apply(TABLE["flip"], (backwards,), turned)


@as_vector
def argsort(
    x: Operand, dim: int = -1, descending: bool = False, *, axis: int | None = None,
    stable: bool = True,
) -> Any:  # fmt: skip
    """The positions that put x in order along an axis; equal elements keep theirs."""
    x = tensor_of(x)
    at = axis_of(x, dim if axis is None else axis)
    x = to_dtype(x, uint8) if x.dtype is bool_ else x
    if not descending:
        return apply(TABLE["argsort"], (x,), {"axis": at})
    turned = {"axes": (at,)}  # the ascending order of the reversed x, read backwards
    backwards = apply(TABLE["argsort"], (apply(TABLE["flip"], (x,), turned),), {"axis": at})
    return (x.shape[at] - 1) - apply(TABLE["flip"], (backwards,), turned)


def shift_of(x: Any, dim: Any) -> Any:
    """What exponentials over axes are shifted by, axes kept: the largest element; 0 of none."""
    empty = 0 in x.shape and not _count(x, dim)
    out = (sum if empty else amax)(x, dim, True)
    out._node = None  # a Tensor of its own that nobody else has seen: no view is needed
    return out


@in_float32()
def softmax(x: Operand, dim: int = -1, dtype: DTypeLike | None = None) -> Any:
    """exp(x) / sum(exp(x)) along an axis, shifted by the largest element so that nothing overflows.

    Args:
        x: any shape; integers as float32.
        dim: the axis.
        dtype: x is converted to it first.

    Example:
        >>> import tinytorch as tt
        >>> tt.softmax(tt.Tensor([1000.0, 1000.0])).tolist()
        [0.5, 0.5]
    """
    if dtype is not None:
        return softmax(_as(x, dtype, "softmax"), dim)
    x = as_float(x)
    powers = exp(x - shift_of(x, dim))
    return powers / sum(powers, dim, True)


@in_float32()
def log_softmax(x: Operand, dim: int = -1, dtype: DTypeLike | None = None) -> Any:
    """log(softmax(x)) along an axis, without computing the softmax: it does not underflow.

    Args: as `softmax`.
    """
    if dtype is not None:
        return log_softmax(_as(x, dtype, "log_softmax"), dim)
    x = as_float(x)
    shifted = x - shift_of(x, dim)
    return shifted - log(sum(exp(shifted), dim, True))


@in_float32()
def logsumexp(x: Operand, dim: int = -1, keepdim: bool = False) -> Any:
    """log(sum(exp(x))) along axes, shifted so that nothing overflows.

    All -inf gives -inf, and the gradient 0: there is nothing whose share could grow.
    """
    x = as_float(x)
    exponentials, total, shift = _exponentials(x.detach(), dim)
    out = log(total) + shift
    if STATE.recording and x._node is not None:
        out = autograd.record(_LogSumExp(exponentials, total, dim), (x,), {}, out)
    return out if keepdim else out.squeeze(dim)


def _exponentials(x: Any, dim: Any) -> tuple[Any, Any, Any]:
    """exp(x - shift), their sum, and the shift: the largest, or 0 where that is infinite."""
    largest = shift_of(x, dim)
    shift = where(largest - largest == 0, largest, 0.0)
    exponentials = exp(x - shift)
    return exponentials, sum(exponentials, dim, True), shift


class _LogSumExp(GradientRule):
    """Stands in the tape for logsumexp: one entry for four, 40 us less."""

    name = "logsumexp"

    asks_final = True

    def __init__(self, exponentials: Any, total: Any, dim: Any):
        self.exponentials, self.total, self.dim = exponentials, total, dim

    def vjp(self, g: Any, out: Any, x: Any, *, final: bool = False) -> tuple[Any, ...]:
        """g times softmax(x); recorded, for a second derivative, softmax is computed again."""
        powers, total = self.exponentials, self.total
        if STATE.recording:
            powers, total, _ = _exponentials(x, self.dim)
        # a sum is at least 1, the largest power, or 0: then there is no share to divide
        product = powers * (g / maximum(total, 0.5))
        return (TABLE["absorb"](product, g) if final else product,)


@in_float32()
def norm(x: Operand, p: float | str | None = 2, dim: Axes = None, keepdim: bool = False) -> Any:
    """The p-norm over axes: (sum of |x|^p)^(1/p), PyTorch's order of arguments.

    Its gradient at 0 is 0, the least of its subgradients, as in PyTorch.

    Args:
        x: any shape; integers as float32.
        p: 2, "fro" or None: square root of the sum of squares; 1: sum of sizes; inf, -inf: largest,
            smallest size; 0: how many are not 0; any other number: the formula.
        dim: axis or axes; None: all.
        keepdim: keep the axes, with size 1.

    Raises:
        SettingError: p is no number (there are no norms of matrices but "fro").

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([3.0, -4.0])
        >>> x.norm().item(), x.norm(1).item(), x.norm(math.inf).item()
        (5.0, 7.0, 4.0)
    """
    x = as_float(x)
    if not isinstance(p, TensorBase) and p in (2, "fro", None):
        return root_of_squares(_reduce("sum", x * x, dim, keepdim))
    if isinstance(p, bool) or not isinstance(p, (int, float)) or p != p:
        raise SettingError(
            "norm: no such norm", got=f"p={p!r}", rule='a number, inf, -inf or "fro"', fix="p=2"
        )
    if p == 0:
        return to_dtype(_reduce("sum", to_dtype(x != 0, x.dtype), dim, keepdim), x.dtype)
    size = abs(x)
    if p in (math.inf, -math.inf):
        return _reduce("max" if p > 0 else "min", size, dim, keepdim)
    if p == 1:
        return _reduce("sum", size, dim, keepdim)
    zero, at_zero = x == 0, 0.0 if p > 0 else math.inf  # below 1 the slope there is infinite
    powers = size**p if p > 1 else where(zero, at_zero, where(zero, 1.0, size) ** p)
    mass = _reduce("sum", powers, dim, keepdim)
    known = mass > 0  # a root has no slope at 0
    return where(known, where(known, mass, 1.0) ** (1.0 / p), mass if p > 0 else 0.0)


# --- running sums and products, and differences, which undo them ---


def _line(x: Operand, axis: int | None, dtype: DTypeLike | None) -> tuple[TensorBase, int]:
    x = tensor_of(x)
    if axis is None:
        if len(x.shape) != 1:
            raise SettingError(
                "cumulative sums and products run along one axis",
                got=f"axis=None for a tensor {x.shape}",
                rule="an axis, where there is more than one",
                fix="axis=-1",
            )
        axis = 0
    wanted = x.dtype if x.dtype.is_float else int64
    return to_dtype(x, as_dtype(dtype) if dtype else wanted), axis_of(x, axis)


def _first(x: Any, axis: int, value: int) -> Any:
    """What stands in front of the first element."""
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    return apply(TABLE["full"], (), {"shape": shape, "value": value, "dtype": x.dtype})


def cumulative_sum(
    x: Operand, *, axis: int | None = None, dtype: DTypeLike | None = None,
    include_initial: bool = False,
) -> Any:  # fmt: skip
    """Running sums along an axis; bools and integers are added up as int64 unless `dtype` is given.

    Args:
        x: any shape.
        axis: may be left out for a vector.
        dtype: number type of the sums; whole numbers wrap around in it.
        include_initial: begin with 0, one element more.

    Example:
        >>> import tinytorch as tt
        >>> tt.cumulative_sum(tt.arange(4)).tolist()
        [0, 1, 3, 6]
    """
    line, at = _line(x, axis, dtype)
    out = cumsum(line, at, dtype=line.dtype)
    return concat([_first(line, at, 0), out], at) if include_initial else out


@in_float32()
def cumulative_prod(
    x: Operand, *, axis: int | None = None, dtype: DTypeLike | None = None,
    include_initial: bool = False,
) -> Any:  # fmt: skip
    """Running products along an axis; bools and integers are multiplied as int64.

    Args: as `cumulative_sum`; `include_initial` begins with 1.

    Source: Hillis and Steele 1986, "Data parallel algorithms": log2(n) products of all.
    """
    if dtype is not None and as_dtype(dtype).is_float:
        wide = to_dtype(tensor_of(x), as_dtype(dtype))
        return cumulative_prod(wide, axis=axis, include_initial=include_initial)
    line, at = _line(x, axis, dtype)
    n, none = line.shape[at], (0,) * len(line.shape)
    reach = 1
    out: Any = line
    while reach < n:
        before = (*none[:at], reach, *none[at + 1 :])
        out = out * pad(slice_along(out, at, 0, n - reach), before, none, 1)
        reach *= 2
    return concat([_first(line, at, 1), out], at) if include_initial else out


@as_vector
def cumprod(x: Operand, dim: int, *, dtype: DTypeLike | None = None) -> Any:
    """`cumulative_prod` by PyTorch's name."""
    return cumulative_prod(x, axis=dim, dtype=dtype)


def diff(
    x: Operand, n: int = 1, dim: int = -1, prepend: Operand | None = None,
    append: Operand | None = None, *, axis: int | None = None,
) -> Any:  # fmt: skip
    """Each element minus the one before it, along an axis, n times; of bools: are they different?

    Args:
        x: at least one axis.
        n: how often, >= 0.
        dim: along which.
        prepend: what is put in front first.
        append: what is put behind first.
        axis: `dim` by the array API's name.
    """
    x = tensor_of(x)
    at = axis_of(x, dim if axis is None else axis)
    if n < 0:
        raise SettingError("diff: n is negative", got=f"n={n}", rule="n >= 0", fix="n=1")
    if n == 0:
        return copied(x)
    parts = [tensor_of(p) for p in (prepend, x, append) if p is not None]
    out: Any = concat(parts, at) if len(parts) > 1 else x
    for _ in range(builtins.min(index(n), out.shape[at] + 1)):  # then there is nothing left
        size = out.shape[at]
        later = slice_along(out, at, builtins.min(1, size), size)
        earlier = slice_along(out, at, 0, builtins.max(size - 1, 0))
        out = not_equal(later, earlier) if out.dtype.kind == "b" else later - earlier
    return out


# --- extrema and order with their places, nonzero, searchsorted, unique values ---


class ValuesIndices(NamedTuple):
    """Elements along an axis, and where they were: what `max`, `min`, `sort` and `topk` give."""

    values: Any
    indices: Any


def _extreme_and_place(name: str, x: Any, dim: Any, keepdim: bool) -> Any:
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


def max(
    x: Operand, dim: Axes | TensorBase = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False,
) -> Any:  # fmt: skip
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
    return _extreme_and_place(
        "max", tensor_of(x), dim if axis is None else axis, keepdim or keepdims
    )


def min(
    x: Operand, dim: Axes | TensorBase = None, keepdim: bool = False, *, axis: Axes = None,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """The smallest element, or along an axis the smallest and where they are; as `max`."""
    return _extreme_and_place(
        "min", tensor_of(x), dim if axis is None else axis, keepdim or keepdims
    )


def sort(
    x: Operand, dim: int = -1, descending: bool = False, stable: bool = True, *,
    axis: int | None = None,
) -> ValuesIndices:  # fmt: skip
    """x in ascending (or descending) order along an axis, and where each element was.

    Args:
        x: any shape; a number counts as (1,).
        dim: the axis.
        descending: the largest first.
        stable: kept for PyTorch's order of arguments; equal elements always keep their order.
        axis: another name of `dim`.

    Returns:
        values, indices, both of x's shape; NaN is last, or first if descending.

    Cost: n log n comparisons, by NumPy; compiled about 1 ns a byte of each element.

    Example:
        >>> import tinytorch as tt
        >>> values, indices = tt.sort(tt.tensor([3.0, 1.0, 2.0]))
        >>> values.tolist(), indices.tolist()
        ([1.0, 2.0, 3.0], [1, 2, 0])
    """
    x = tensor_of(x)
    place = dim if axis is None else axis
    index = argsort(x, place, descending)
    if not x.shape:
        return ValuesIndices(alias(x), index)
    return ValuesIndices(apply(TABLE["take_along"], (x, index), {"axis": axis_of(x, place)}), index)


def equal(a: Operand, b: Operand) -> bool:
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


def nonzero(x: Operand, *, as_tuple: bool = False) -> Any:
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


def argwhere(x: Operand) -> Any:
    """The positions of the elements that are not 0, one row for each."""
    array = tensor_of(x).read("argwhere(), whose size depends on values")
    return make(np.argwhere(array).astype(np.int64))


def count_nonzero(
    x: Operand, dim: Axes = None, *, axis: Axes = None, keepdims: bool = False
) -> Any:
    """How many elements are not 0, over axes (None: all)."""
    return sum(tensor_of(x) != 0, dim if axis is None else axis, keepdims)


def searchsorted(
    x1: Operand, x2: Operand, *, out_int32: bool = False, right: bool = False,
    side: str | None = None, sorter: Operand | None = None,
) -> Any:  # fmt: skip
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
    line: Any = x1
    if sorter is not None:
        order = {"axis": len(x1.shape) - 1}
        line = apply(TABLE["take_along"], (x1, tensor_of(sorter)), order)
    kind = int32 if out_int32 else int64
    if STATE.interpreter is None and len(x1.shape) == 1:
        found: Array = np.searchsorted(  # type: ignore[assignment]
            line.read("numpy()"), x2.read("numpy()"), side=side
        )
        return make(found.astype(kind.storage))
    column = reshape(x2, (*x2.shape, 1))
    if len(line.shape) > 1:
        line = reshape(line, (*line.shape[:-1], 1, line.shape[-1]))
    before = line < column if side == "left" else line <= column
    if line.dtype.is_float:  # a NaN is behind every number, and equal to a NaN
        nan = column != column
        before = before | (nan & (line == line) if side == "left" else nan)
    return sum(before, -1, dtype=kind)


def isin(x: Operand, values: Operand, *, invert: bool = False) -> Any:
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
def topk(x: Operand, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
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


def unique_all(x: Operand) -> UniqueAll:
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


def unique_values(x: Operand) -> Any:
    """The different values of x, in ascending order.

    Example:
        >>> import tinytorch as tt
        >>> tt.unique_values(tt.tensor([3, 1, 3])).tolist()
        [1, 3]
    """
    return unique_all(x).values


def unique_counts(x: Operand) -> UniqueCounts:
    """The different values of x, and how often each is there."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Operand) -> UniqueInverse:
    """The different values of x, and for each element of x the position of its value."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def bincount(x: Operand, weights: Operand | None = None, minlength: int = 0) -> Any:
    """How often each whole number 0, 1, ... is in a vector, or the sum of its weights.

    Args:
        x: whole numbers >= 0, (N,).
        weights: what each element counts, (N,); the sums are of its type (integers: float64).
            Default: 1, and the counts are int64.
        minlength: least length of the result; in compiled code its length, which must suffice.
    """
    x = tensor_of(x)
    if STATE.interpreter is None:
        array = x.read("numpy()")
        minlength = builtins.max(minlength, int(array.max()) + 1 if array.size else 0)
    if weights is None:
        weights = apply(TABLE["full"], (), {"shape": x.shape, "value": 1, "dtype": int64})
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
