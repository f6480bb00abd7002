"""The Python array API standard 2024.12: its names with its meaning, over the same functions.

Knows names only. In `tinytorch` a name that PyTorch and the standard share means what it means in
PyTorch; where that is something else (`max`, `sort`, `equal`, `nonzero`, `meshgrid`, `var`, ...),
the standard's meaning is here. `x.__array_namespace__()` gives this module.

Differs from the standard: no complex numbers, no uint16 and uint64.

    >>> import tinytorch.array_api as xp
    >>> xp.max(xp.asarray([[1.0, 3.0], [2.0, 0.0]]), axis=1).tolist()
    [3.0, 2.0]
"""

from __future__ import annotations

import builtins
from typing import Any

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.dtypes import (  # noqa: F401
    bool_,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint32,
)
from tinytorch.base.errors import ShapeError
from tinytorch.tensor import elementwise, reductions, shaping
from tinytorch.tensor.functions import *  # noqa: F403  # pyright: ignore[reportAssignmentType]
from tinytorch.tensor.functions import __array_namespace_info__  # noqa: F401
from tinytorch.tensor.operands import tensor_of

bool = bool_
max, min, equal = reductions.amax, reductions.amin, elementwise.eq

STANDARD = """
e inf nan newaxis pi
arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid ones ones_like tril
triu zeros zeros_like
astype can_cast finfo iinfo isdtype result_type
bool int8 int16 int32 int64 uint8 uint32 float32 float64
__array_namespace_info__
abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert
bitwise_or bitwise_right_shift bitwise_xor ceil clip copysign cos cosh divide equal exp expm1
floor floor_divide greater greater_equal hypot isfinite isinf isnan less less_equal log log1p
log2 log10 logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply
negative nextafter not_equal positive pow reciprocal remainder round sign signbit sin sinh
square sqrt subtract tan tanh trunc
take take_along_axis
matmul matrix_transpose tensordot vecdot
broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat reshape roll
squeeze stack tile unstack
argmax argmin count_nonzero nonzero searchsorted where
unique_all unique_counts unique_inverse unique_values
argsort sort
cumulative_prod cumulative_sum max mean min prod std sum var
all any diff
"""
__all__ = STANDARD.split()  # pyright: ignore[reportUnsupportedDunderAll]


def sort(
    x, /, *, axis: int = -1, descending: builtins.bool = False, stable: builtins.bool = True
) -> Any:
    """x in order along an axis: the values alone."""
    return reductions.sort_values(x, axis, descending)


def nonzero(x, /) -> tuple[Any, ...]:
    """The positions of the elements that are not 0: one vector for each axis."""
    x = tensor_of(x)
    if not x.shape:
        raise ShapeError(
            "nonzero: a number has no axes",
            got="a tensor of shape ()",
            rule="at least one axis, says the standard",
            fix="xp.reshape(x, (1,))",
        )
    return reductions.nonzero(x, as_tuple=True)


def meshgrid(*arrays, indexing: str = "xy") -> list[Any]:
    """Grids of coordinates, the first along axis 1."""
    return shaping.meshgrid(*arrays, indexing=indexing)


def var(x, /, *, axis=None, correction: float = 0.0, keepdims: builtins.bool = False) -> Any:
    """The variance; its divisor is n - correction."""
    return reductions.var(x, axis, correction=correction, keepdim=keepdims)


def std(x, /, *, axis=None, correction: float = 0.0, keepdims: builtins.bool = False) -> Any:
    """The square root of the variance."""
    return reductions.std(x, axis, correction=correction, keepdim=keepdims)


def squeeze(x, /, axis: int | tuple[int, ...]) -> Any:
    """Without these axes, whose sizes are 1.

    Raises:
        ShapeError: an axis has another size.
    """
    x = tensor_of(x)
    for at in shaping.axes_of(x, axis):
        if x.shape[at] != 1:
            raise ShapeError(
                "squeeze: an axis holds more than one element",
                got=f"axis {at} of a tensor {x.shape}",
                rule="sizes of 1",
                fix="xp.reshape(x, ...)",
            )
    return shaping.squeeze(x, axis)


_explain_all(globals(), __all__)
