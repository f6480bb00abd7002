"""Functions that sum up along axes: sum, mean, variance, extrema, softmax, sorting.

Knows axes by both names: PyTorch's `dim`, `keepdim` and the array API's `axis`, `keepdims`.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.base.dtypes import as_dtype, bool_, float32, int64, uint8
from tinytorch.base.errors import DTypeError, SettingError
from tinytorch.primitives import TABLE
from tinytorch.tensor import autograd
from tinytorch.tensor.base import TensorBase
from tinytorch.tensor.dispatch import apply, number, planned, tensor_of, to_dtype
from tinytorch.tensor.elementwise import abs, exp, log, maximum, sqrt, where
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.shaping import as_vector, axes_of, axis_of, refuse_bool

_MAY_BE_BOOLS = (tuple, bool)


def _over(x: Any, axes: Any, keepdim: bool) -> dict:
    return {"axes": axes_of(x, axes), "keepdims": bool(keepdim)}


def _reduce(name: str, x: Any, axes: Any, keepdim: bool) -> Any:
    if type(axes) in _MAY_BE_BOOLS:  # what is remembered of axis 0 would be found for False
        for axis in axes if type(axes) is tuple else (axes,):
            if axis is False or axis is True:
                refuse_bool(axes)
    return planned(TABLE[name], x, _over, axes, keepdim)


def _countable(x: Any, dtype: Any) -> Any:
    """What is added up: bools and integers as int64, unless `dtype` says otherwise."""
    x = tensor_of(x)
    if dtype is not None:
        return to_dtype(x, as_dtype(dtype))
    return x if x.dtype.is_float else to_dtype(x, int64)


def _as(x: Any, dtype: Any, owner: str) -> Any:
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


def _float(x: Any) -> Any:
    x = tensor_of(x)
    return x if x.dtype.is_float else to_dtype(x, float32)


def sum(
    x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False, dtype=None
) -> Any:
    """Sum over axes (None: all); bools and integers are added up as int64.

    Example:
        >>> import tinytorch as tt
        >>> tt.sum(tt.ones(2, 3), dim=0).tolist()
        [2.0, 2.0, 2.0]
    """
    return _reduce("sum", _countable(x, dtype), dim if axis is None else axis, keepdim or keepdims)


def prod(
    x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False, dtype=None
) -> Any:
    """Product over axes (None: all); bools and integers are multiplied as int64."""
    return _reduce("prod", _countable(x, dtype), dim if axis is None else axis, keepdim or keepdims)


def _count(x: Any, axes: Any) -> int:
    n = 1
    for a in axes_of(x, axes):
        n *= x.shape[a]
    return n


@in_float32()
def mean(
    x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False, dtype=None
) -> Any:
    """Sum over axes divided by the number of elements; integers as float32, or all as `dtype`."""
    if dtype is not None:
        return mean(_as(x, dtype, "mean"), dim if axis is None else axis, keepdim or keepdims)
    x = _float(x)
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
    x, dim=None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: float | None = 1, axis=None, keepdims: bool = False,
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
    x = _float(x)
    axes = dim if axis is None else axis
    distance = x - mean(x, axes, True)
    total = _reduce("sum", distance * distance, axes, keepdim or keepdims)
    count = _count(x, axes) - correction
    return total * (1.0 / count) if count > 0 else total / 0.0


@in_float32()
def std(
    x, dim=None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: float | None = 1, axis=None, keepdims: bool = False,
) -> Any:  # fmt: skip
    """Square root of the variance, arguments as `var`; its gradient where that is 0 is 0."""
    return root_of_squares(
        var(x, dim, unbiased, keepdim, correction=correction, axis=axis, keepdims=keepdims)
    )


def amax(x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False) -> Any:
    """The largest element along axes (None: all), or NaN; ties share the gradient."""
    return _extreme("max", "any", x, dim if axis is None else axis, keepdim or keepdims)


def amin(x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False) -> Any:
    """The smallest element along axes (None: all), or NaN; ties share the gradient."""
    return _extreme("min", "all", x, dim if axis is None else axis, keepdim or keepdims)


def _extreme(name: str, of_bools: str, x: Any, axes: Any, keepdim: bool) -> Any:
    x = tensor_of(x)
    return _reduce(of_bools if x.dtype is bool_ else name, x, axes, keepdim)


def _position(name: str, x: Any, dim: Any, keepdim: bool) -> Any:
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


def argmax(x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False) -> Any:
    """Where the largest element is along an axis (None: of the flattened x); first wins."""
    return _position("argmax", x, dim if axis is None else axis, keepdim or keepdims)


def argmin(x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False) -> Any:
    """Where the smallest element is along an axis (None: of the flattened x); first wins."""
    return _position("argmin", x, dim if axis is None else axis, keepdim or keepdims)


def _truth(x: Any) -> Any:
    x = tensor_of(x)
    return x if x.dtype is bool_ else x != 0


def any(x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False) -> Any:
    """Whether some element is not 0."""
    return _reduce("any", _truth(x), dim if axis is None else axis, keepdim or keepdims)


def all(x, dim=None, keepdim: bool = False, *, axis=None, keepdims: bool = False) -> Any:
    """Whether no element is 0."""
    return _reduce("all", _truth(x), dim if axis is None else axis, keepdim or keepdims)


@as_vector
def cumsum(x, dim: int = -1, *, axis: int | None = None, dtype=None) -> Any:
    """Running sum along an axis; bools and integers are added up as int64, or as `dtype`."""
    x = _countable(x, dtype)
    return apply(TABLE["cumsum"], (x,), {"axis": axis_of(x, dim if axis is None else axis)})


@as_vector
def sort_values(
    x, dim: int = -1, descending: bool = False, *, axis: int | None = None, stable: bool = True
) -> Any:
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
    x, dim: int = -1, descending: bool = False, *, axis: int | None = None, stable: bool = True
) -> Any:
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
def softmax(x, dim: int = -1, dtype=None) -> Any:
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
    x = _float(x)
    powers = exp(x - shift_of(x, dim))
    return powers / sum(powers, dim, True)


@in_float32()
def log_softmax(x, dim: int = -1, dtype=None) -> Any:
    """log(softmax(x)) along an axis, without computing the softmax: it does not underflow.

    Args: as `softmax`.
    """
    if dtype is not None:
        return log_softmax(_as(x, dtype, "log_softmax"), dim)
    x = _float(x)
    shifted = x - shift_of(x, dim)
    return shifted - log(sum(exp(shifted), dim, True))


@in_float32()
def logsumexp(x, dim: int = -1, keepdim: bool = False) -> Any:
    """log(sum(exp(x))) along axes, shifted so that nothing overflows.

    All -inf gives -inf, and the gradient 0: there is nothing whose share could grow.
    """
    x = _float(x)
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


class _LogSumExp:
    """Stands in the tape for logsumexp: one entry for four, 40 us less."""

    asks_needs, asks_final = False, True

    def __init__(self, exponentials: Any, total: Any, dim: Any):
        self.exponentials, self.total, self.dim = exponentials, total, dim

    def vjp(self, g: Any, out: Any, x: Any, *, final: bool = False) -> tuple:
        """g times softmax(x); recorded, for a second derivative, softmax is computed again."""
        powers, total = self.exponentials, self.total
        if STATE.recording:
            powers, total, _ = _exponentials(x, self.dim)
        # a sum is at least 1, the largest power, or 0: then there is no share to divide
        product = powers * (g / maximum(total, 0.5))
        return (TABLE["absorb"](product, g) if final else product,)

    def __repr__(self) -> str:
        return "logsumexp"


@in_float32()
def norm(x, p: float | str | None = 2, dim=None, keepdim: bool = False) -> Any:
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
    x = _float(x)
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


def root_of_squares(squares: Any) -> Any:
    """Square root of a sum of squares; where it is 0 no gradient goes back into them."""
    if squares._node is None:
        return sqrt(squares)
    return where(squares == 0, number(0.0, squares.dtype), sqrt(squares))
