"""Tensors out of nothing: constants, ranges, identity matrices, triangles.

Knows shapes and values; during a capture everything here becomes part of the program.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType, as_dtype, bool_, float32, int64
from tinytorch.base.errors import SettingError
from tinytorch.primitives import TABLE
from tinytorch.tensor.autograd import Leaf
from tinytorch.tensor.base import TensorBase, from_buffer, make
from tinytorch.tensor.buffer import Buffer
from tinytorch.tensor.buffer import empty as empty_array
from tinytorch.tensor.dispatch import apply, elementwise, to_dtype
from tinytorch.tensor.interpreter import STATE


def _shape(sizes: tuple) -> tuple[int, ...]:
    """`zeros(2, 3)` and `zeros((2, 3))` mean the same."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    shape = tuple([int(n) for n in sizes])
    if any(n < 0 for n in shape):
        raise SettingError(
            "a size is negative",
            got=f"shape {shape}",
            rule="sizes are whole numbers >= 0",
            fix=f"shape {tuple(max(n, 0) for n in shape)}",
        )
    return shape


def _filled(shape: tuple[int, ...], value: Any, dtype: DType, requires_grad: bool) -> Any:
    if STATE.interpreter is not None:
        out = STATE.interpreter.apply(
            TABLE["full"], (), {"shape": shape, "value": value, "dtype": dtype}
        )
    else:
        array = empty_array(shape, dtype)
        array[...] = TABLE["full"](shape=(), value=value, dtype=dtype)
        out = from_buffer(Buffer(array, dtype))
    return out.requires_grad_() if requires_grad else out


def full(shape, value, dtype=None, requires_grad: bool = False) -> Any:
    """A Tensor of `shape` with `value` everywhere; dtype that of the value (float: float32).

    Example:
        >>> import tinytorch as tt
        >>> tt.full((2,), 7.0).tolist()
        [7.0, 7.0]
    """
    if isinstance(value, TensorBase):
        out: Any = value if dtype is None else to_dtype(value, as_dtype(dtype))
        return apply(TABLE["broadcast_to"], (out,), {"shape": _shape((shape,))})
    if isinstance(value, np.generic):
        value = value.item()
    default = bool_ if isinstance(value, bool) else int64 if isinstance(value, int) else float32
    sizes = (shape,) if isinstance(shape, int) else shape
    return _filled(_shape((sizes,)), value, as_dtype(dtype) if dtype else default, requires_grad)


def zeros(*shape, dtype=float32, requires_grad: bool = False) -> Any:
    """A Tensor of zeros.

    Example:
        >>> import tinytorch as tt
        >>> tt.zeros(2, 3).shape, tt.zeros((2, 3), dtype="int64").dtype
        ((2, 3), tinytorch.int64)
    """
    return _filled(_shape(shape), 0, as_dtype(dtype or float32), requires_grad)


def ones(*shape, dtype=float32, requires_grad: bool = False) -> Any:
    """A Tensor of ones."""
    return _filled(_shape(shape), 1, as_dtype(dtype or float32), requires_grad)


def empty(*shape, dtype=float32, requires_grad: bool = False) -> Any:
    """A Tensor whose numbers do not matter: zeros, so that every run is the same."""
    return zeros(*shape, dtype=dtype, requires_grad=requires_grad)


def full_like(x, value, dtype=None) -> Any:
    """A Tensor shaped like `x` with `value` everywhere, of its dtype unless given."""
    return _filled(tuple(x.shape), value, as_dtype(dtype or x.dtype), False)


def zeros_like(x, dtype=None) -> Any:
    """Zeros shaped like `x`, of its dtype unless given."""
    return full_like(x, 0, dtype)


def ones_like(x, dtype=None) -> Any:
    """Ones shaped like `x`, of its dtype unless given."""
    return full_like(x, 1, dtype)


def iota(shape: tuple[int, ...], axis: int, dtype=int64) -> Any:
    """A Tensor whose elements are their own index along `axis`."""
    return apply(TABLE["iota"], (), {"shape": tuple(shape), "axis": axis, "dtype": as_dtype(dtype)})


def arange(start, stop=None, step=1, dtype=None) -> Any:
    """start, start + step, ... below stop (`arange(stop)` starts at 0); whole numbers are int64.

    Example:
        >>> import tinytorch as tt
        >>> tt.arange(4).tolist(), tt.arange(1, 2, 0.5).tolist()
        ([0, 1, 2, 3], [1.0, 1.5])
    """
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise SettingError("arange: step is 0", got="step=0", rule="step != 0", fix="step=1")
    whole = all(isinstance(v, (int, np.integer)) for v in (start, stop, step))
    count = max(0, math.ceil((stop - start) / step))
    out = as_dtype(dtype) if dtype else int64 if whole else float32
    if whole and start == 0 and step == 1:
        return iota((count,), 0, out)
    # start + i * step in the widest type, rounded once.
    return make(np.arange(count, dtype=np.int64 if whole else np.float64) * step + start, out)


def linspace(start: float, stop: float, num: int, dtype=float32) -> Any:
    """`num` numbers from start to stop, both included, equally far apart."""
    return make(np.linspace(start, stop, num), as_dtype(dtype))


def eye(n: int, m: int | None = None, dtype=float32) -> Any:
    """Ones where row = column, zeros elsewhere, (n, m)."""
    shape = (n, n if m is None else m)
    same = elementwise(TABLE["equal"], (iota(shape, 0), iota(shape, 1)))
    return to_dtype(same, as_dtype(dtype))


def _triangle(x: Any, primitive: str, diagonal: int) -> Any:
    rows, columns = x.shape[-2:]
    row, column = iota((rows, columns), 0), iota((rows, columns), 1)
    keep = elementwise(TABLE[primitive], (column, row + diagonal))
    return apply(TABLE["where"], (keep, x, zeros((), dtype=x.dtype)), {})


def tril(x, diagonal: int = 0) -> Any:
    """`x` where column <= row + diagonal, 0 elsewhere: the lower triangle of each matrix."""
    return _triangle(x, "less_equal", diagonal)


def triu(x, diagonal: int = 0) -> Any:
    """`x` where column >= row + diagonal, 0 elsewhere: the upper triangle of each matrix."""
    return _triangle(x, "greater_equal", diagonal)


def asarray(x, dtype=None, copy: bool = False) -> Any:
    """A Tensor of `x` (list, number, NumPy array, Tensor, DLPack object).

    Args:
        x: the numbers.
        dtype: number type; default that of `x` (Python floats: float32).
        copy: False shares the memory of a NumPy array if its type fits. The Tensor will not write
            there, but will see it if you do.
    """
    wanted = as_dtype(dtype) if dtype else None
    if isinstance(x, TensorBase):
        return to_dtype(x, wanted or x.dtype)
    if not isinstance(x, (np.ndarray, np.generic, list, tuple, int, float)) and hasattr(
        x, "__dlpack__"
    ):
        x = np.from_dlpack(x)
    return make(x, wanted, copy=copy)


def from_numpy(array: np.ndarray) -> Any:
    """A Tensor over the memory of a NumPy array; see `asarray`."""
    return asarray(array)


def as_leaf(x: Any) -> Any:
    """`x` itself, from now on a place where gradients are gathered."""
    if x._node is None:
        x._node = Leaf()
    return x
