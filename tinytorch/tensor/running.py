"""Running sums and products along an axis, and differences, which undo them.

Knows one axis at a time.
"""

from __future__ import annotations

from operator import index
from typing import Any

from tinytorch.base.dtypes import as_dtype, int64
from tinytorch.base.errors import SettingError
from tinytorch.tensor.creation import ones, zeros
from tinytorch.tensor.dispatch import copied, tensor_of, to_dtype
from tinytorch.tensor.elementwise import not_equal
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.reductions import cumsum
from tinytorch.tensor.shaping import as_vector, axis_of, concat, pad, slice_along


def _line(x: Any, axis: int | None, dtype: Any) -> tuple[Any, int]:
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


def _first(x: Any, axis: int, made: Any) -> Any:
    return made((*x.shape[:axis], 1, *x.shape[axis + 1 :]), dtype=x.dtype)


def cumulative_sum(x, *, axis: int | None = None, dtype=None, include_initial: bool = False) -> Any:
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
    x, at = _line(x, axis, dtype)
    out = cumsum(x, at, dtype=x.dtype)
    return concat([_first(x, at, zeros), out], at) if include_initial else out


@in_float32()
def cumulative_prod(
    x, *, axis: int | None = None, dtype=None, include_initial: bool = False
) -> Any:
    """Running products along an axis; bools and integers are multiplied as int64.

    Args: as `cumulative_sum`; `include_initial` begins with 1.

    Source: Hillis and Steele 1986, "Data parallel algorithms": log2(n) products of all.
    """
    if dtype is not None and as_dtype(dtype).is_float:
        wide = to_dtype(tensor_of(x), as_dtype(dtype))
        return cumulative_prod(wide, axis=axis, include_initial=include_initial)
    x, at = _line(x, axis, dtype)
    n, none = x.shape[at], (0,) * len(x.shape)
    reach = 1
    out = x
    while reach < n:
        before = (*none[:at], reach, *none[at + 1 :])
        out = out * pad(slice_along(out, at, 0, n - reach), before, none, 1)
        reach *= 2
    return concat([_first(x, at, ones), out], at) if include_initial else out


@as_vector
def cumprod(x, dim: int, *, dtype=None) -> Any:
    """`cumulative_prod` by PyTorch's name."""
    return cumulative_prod(x, axis=dim, dtype=dtype)


def diff(
    x, n: int = 1, dim: int = -1, prepend=None, append=None, *, axis: int | None = None
) -> Any:
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
    x = concat(parts, at) if len(parts) > 1 else x
    for _ in range(min(index(n), x.shape[at] + 1)):  # from then on there is nothing left
        size = x.shape[at]
        later, earlier = (
            slice_along(x, at, min(1, size), size),
            slice_along(x, at, 0, max(size - 1, 0)),
        )
        x = not_equal(later, earlier) if x.dtype.kind == "b" else later - earlier
    return x
