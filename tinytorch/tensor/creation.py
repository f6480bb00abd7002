"""Tensors out of nothing: constants, ranges, identity matrices; triangles and diagonals.

Knows shapes and values; during a capture everything here becomes part of the program.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import math
from collections.abc import Iterable
from operator import index
from typing import Any

import numpy as np

from tinytorch.base.dtypes import (
    Array,
    DType,
    DTypeLike,
    as_dtype,
    bool_,
    check_fits,
    float32,
    int64,
)
from tinytorch.base.errors import DTypeError, OutOfMemoryError, SettingError, ShapeError
from tinytorch.base.lengths import Length, holds_length
from tinytorch.primitives import TABLE
from tinytorch.primitives.movement import positions
from tinytorch.primitives.shapes import sizes_of
from tinytorch.tensor.autograd import GradientRule
from tinytorch.tensor.dispatch import apply, copied, elementwise, to_dtype, viewed
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.indexing import put_slice
from tinytorch.tensor.interchange import Device, SupportsDLPack, check_device, from_dlpack
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import Buffer, TensorBase, concrete, from_buffer
from tinytorch.tensor.operands import Operand, Sizes, make, plain, tensor_of
from tinytorch.tensor.reductions import sum as total
from tinytorch.tensor.shaping import moveaxis, pad, reshape, unsqueeze

__all__ = [
    "arange", "asarray", "diag", "diagonal", "empty", "empty_like", "eye", "from_numpy", "full",
    "full_like", "linspace", "ones", "ones_like", "trace", "tril", "triu", "zeros", "zeros_like",
]  # fmt: skip

_NUMBERS = (int, float)


def shape_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """`zeros(2, 3)` and `zeros((2, 3))` mean the same."""
    shape = sizes_of(sizes)
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
        buffer = Buffer.empty(shape, dtype)
        buffer.array[...] = TABLE["full"](shape=(), value=value, dtype=dtype)
        out = from_buffer(buffer)
    return out.requires_grad_() if requires_grad else out


def full(
    shape: Sizes, value: Operand, dtype: DTypeLike | None = None, requires_grad: bool = False, *,
    device: Device = None,
) -> Any:  # fmt: skip
    """A Tensor of `shape` with `value` everywhere; dtype that of the value (float: float32).

    A Tensor as value is an operand like any other: it is broadcast, and gets the gradient.

    Example:
        >>> import tinytorch as tt
        >>> tt.full((2,), 7.0).tolist()
        [7.0, 7.0]
    """
    check_device(device)
    if isinstance(value, TensorBase):
        return _of_tensor(shape_of((shape,)), value, dtype, requires_grad)
    if isinstance(value, np.generic):
        value = value.item()
    whole = isinstance(value, (int, Length))
    default = bool_ if isinstance(value, bool) else int64 if whole else float32
    sizes = (shape,) if isinstance(shape, int) else shape
    return _filled(shape_of((sizes,)), value, as_dtype(dtype) if dtype else default, requires_grad)


def _of_tensor(shape: tuple[int, ...], value: Any, dtype: Any, requires_grad: bool) -> Any:
    """`value` repeated to `shape`, in memory of its own; recorded."""
    given = value if dtype is None else to_dtype(value, as_dtype(dtype))
    out = copied(apply(TABLE["broadcast_to"], (given,), {"shape": shape}))
    return out.requires_grad_() if requires_grad else out


def zeros(
    *shape: Sizes, dtype: Any = float32, device: Device = None, requires_grad: bool = False
) -> Any:
    """A Tensor of zeros.

    Example:
        >>> import tinytorch as tt
        >>> tt.zeros(2, 3).shape, tt.zeros((2, 3), dtype="int64").dtype
        ((2, 3), tinytorch.int64)
    """
    check_device(device)
    return _filled(shape_of(shape), 0, as_dtype(dtype or float32), requires_grad)


def ones(
    *shape: Sizes, dtype: Any = float32, device: Device = None, requires_grad: bool = False
) -> Any:
    """A Tensor of ones."""
    check_device(device)
    return _filled(shape_of(shape), 1, as_dtype(dtype or float32), requires_grad)


def empty(
    *shape: Sizes, dtype: Any = float32, device: Device = None, requires_grad: bool = False
) -> Any:
    """A Tensor whose numbers do not matter: zeros, so that every run is the same."""
    return zeros(*shape, dtype=dtype, device=device, requires_grad=requires_grad)


def empty_like(
    x: TensorBase | Array, dtype: DTypeLike | None = None, *, device: Device = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Zeros shaped like `x`, of its dtype unless given; see `empty`."""
    return full_like(x, 0, dtype, device=device, requires_grad=requires_grad)


def full_like(
    x: TensorBase | Array, value: Operand, dtype: DTypeLike | None = None, *, device: Device = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """A Tensor shaped like `x` with `value` everywhere, of its dtype unless given; as `full`."""
    check_device(device)
    if isinstance(value, TensorBase):
        return _of_tensor(tuple(x.shape), value, dtype or x.dtype, requires_grad)
    return _filled(tuple(x.shape), value, as_dtype(dtype or x.dtype), requires_grad)


def clear_gradients(leaves: Iterable[Any], set_to_none: bool = True) -> None:
    """Let the gradients of Tensors be None, or zeros where there are some."""
    for x in leaves:
        x.grad = None if set_to_none or x.grad is None else zeros(x.shape, dtype=x.dtype)


def zeros_like(
    x: TensorBase | Array, dtype: DTypeLike | None = None, *, device: Device = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Zeros shaped like `x`, of its dtype unless given."""
    return full_like(x, 0, dtype, device=device, requires_grad=requires_grad)


def ones_like(
    x: TensorBase | Array, dtype: DTypeLike | None = None, *, device: Device = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Ones shaped like `x`, of its dtype unless given."""
    return full_like(x, 1, dtype, device=device, requires_grad=requires_grad)


def iota(shape: tuple[int, ...], axis: int, dtype: DTypeLike = int64) -> Any:
    """A Tensor whose elements are their own index along `axis`."""
    return apply(TABLE["iota"], (), {"shape": tuple(shape), "axis": axis, "dtype": as_dtype(dtype)})


def arange(
    start: float | TensorBase = 0, stop: float | TensorBase | None = None,
    step: float | TensorBase = 1, dtype: DTypeLike | None = None, *,
    end: float | TensorBase | None = None, device: Device = None, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """start, start + step, ... below stop (`arange(stop)` starts at 0); whole numbers are int64.

    Args:
        start: the first number.
        stop: not reached.
        step: from one to the next; negative: downwards.
        dtype: number type; default int64 for whole numbers, else float32. An integer type counts
            from start by step without their fractions, as in PyTorch.
        end: `stop` by PyTorch's name.
        device: None or "cpu".
        requires_grad: gather a gradient.

    Example:
        >>> import tinytorch as tt
        >>> tt.arange(4).tolist(), tt.arange(1, 2, 0.5).tolist()
        ([0, 1, 2, 3], [1.0, 1.5])
    """
    check_device(device)
    stop = end if stop is None else stop
    if stop is None:
        start, stop = 0, start
    if type(start) not in _NUMBERS or type(stop) not in _NUMBERS or type(step) not in _NUMBERS:
        plain("arange", start=start, stop=stop, step=step)
    if dtype and not as_dtype(dtype).is_float and not holds_length((start, stop)):
        start, stop, step = int(start), int(stop), int(step)
    if step == 0:
        raise SettingError("arange: step is 0", got="step=0", rule="step != 0", fix="step=1")
    whole = all(isinstance(v, (int, np.integer)) for v in (start, stop, step))
    if holds_length((start, stop)):
        return _of_lengths(start, stop, step, dtype, requires_grad)
    count = max(0, math.ceil((stop - start) / step))
    out = as_dtype(dtype) if dtype else int64 if whole else float32
    if whole and start == 0 and step == 1:
        check_fits(max(count - 1, 0), out)
        made = iota((count,), 0, out)
        return made.requires_grad_() if requires_grad else made
    # start + i * step in the widest type, rounded once.
    numbers = np.arange(count, dtype=np.int64 if whole else np.float64) * step + start
    check_fits(numbers, out)
    made = make(numbers, out)
    return made.requires_grad_() if requires_grad else made


def _of_lengths(
    start: Any, stop: Any, step: Any, dtype: DTypeLike | None, requires_grad: bool
) -> Any:
    """`arange` between lengths that are known when the program runs (base/lengths.py)."""
    if not all(isinstance(v, (int, Length)) for v in (start, stop, step)):
        raise SettingError(
            "arange: fractions and lengths that are not known yet do not go together",
            got=f"start={start!r}, stop={stop!r}, step={step!r}",
            rule="whole numbers and sizes",
            fix="tt.arange(T) * 0.5",
        )
    line = iota((positions(start, stop, step),), 0, dtype or int64)
    if step != 1:
        line = line * step
    made = line if start == 0 else line + start
    return made.requires_grad_() if requires_grad else made


def linspace(
    start: float, stop: float, num: int, dtype: Any = float32, *, device: Device = None,
    endpoint: bool = True, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """`num` numbers from start to stop (which `endpoint=False` leaves out), equally far apart.

    An integer type takes start and stop without their fractions, and drops those between.
    """
    check_device(device)
    if isinstance(start, TensorBase) or isinstance(stop, TensorBase):
        plain("linspace", start=start, stop=stop)
    out = as_dtype(dtype or float32)
    if not out.is_float:
        start, stop = int(start), int(stop)
    if num < 0:
        raise SettingError(
            "linspace: a negative count", got=f"num={num}", rule="num >= 0", fix=f"num={-num}"
        )
    try:
        numbers = np.linspace(start, stop, num, endpoint)
    except MemoryError as problem:
        raise OutOfMemoryError.of(problem) from None
    check_fits(numbers, out)
    made = make(numbers, out)
    return made.requires_grad_() if requires_grad else made


def eye(
    n: int, m: int | None = None, dtype: Any = float32, *, k: int = 0, device: Device = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Ones where column = row + k, zeros elsewhere, (n, m)."""
    check_device(device)
    shape = (n, n if m is None else m)
    row = iota(shape, 0) + k if k else iota(shape, 0)
    out = to_dtype(elementwise(TABLE["equal"], (row, iota(shape, 1))), as_dtype(dtype or float32))
    return out.requires_grad_() if requires_grad else out


def _triangle(x: Any, primitive: str, diagonal: int) -> Any:
    x = tensor_of(x)
    rows, columns = x.shape[-2:]
    row, column = iota((rows, columns), 0), iota((rows, columns), 1)
    keep = elementwise(TABLE[primitive], (column, row + diagonal))
    return apply(TABLE["where"], (keep, x, zeros((), dtype=x.dtype)), {})


def tril(x: Operand, diagonal: int = 0, *, k: int | None = None) -> Any:
    """`x` where column <= row + diagonal, 0 elsewhere: the lower triangle of each matrix.

    `k` is the array API's name of `diagonal`.
    """
    return _triangle(x, "less_equal", diagonal if k is None else k)


def triu(x: Operand, diagonal: int = 0, *, k: int | None = None) -> Any:
    """`x` where column >= row + diagonal, 0 elsewhere: the upper triangle of each matrix.

    `k` is the array API's name of `diagonal`.
    """
    return _triangle(x, "greater_equal", diagonal if k is None else k)


def tensor(
    data: Operand, dtype: DTypeLike | None = None, device: Device = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """A Tensor in memory of its own, of the number type that the numbers have.

    Args:
        data: numbers, nested lists, a NumPy array or a Tensor; copied.
        dtype: number type; default that of the array, float32 for Python floats, int64 for ints.
        device: None or "cpu".
        requires_grad: gather a gradient.

    Example:
        >>> import tinytorch as tt
        >>> tt.tensor([1.0, 2.0], requires_grad=True)
        Tensor([1., 2.], requires_grad=True)
    """
    check_device(device)
    out = object.__new__(concrete())
    out._hold(data, dtype, requires_grad)
    return out


def asarray(
    x: Operand | SupportsDLPack, dtype: DTypeLike | None = None, copy: bool | None = None, *,
    device: Device = None,
) -> Any:  # fmt: skip
    """A Tensor of `x` (list, number, NumPy array, Tensor, DLPack object).

    Args:
        x: the numbers.
        dtype: number type; default that of `x` (Python floats: float32).
        copy: True: memory of its own. Otherwise the memory of a NumPy array is shared if its type
            fits: either sees what the other writes (read-only arrays are copied before the Tensor
            is written), and a gradient recorded before you write to the array is wrong. False:
            sharing it must be possible.
        device: None or "cpu".

    Raises:
        SettingError: `copy=False` where numbers must be copied.
    """
    check_device(device)
    wanted = as_dtype(dtype) if dtype else None
    plain = isinstance(x, (np.ndarray, np.generic, list, tuple, int, float))
    if not plain and not isinstance(x, TensorBase) and hasattr(x, "__dlpack__"):
        x = from_dlpack(x)  # type: ignore[arg-type]
    if isinstance(x, TensorBase):
        out = to_dtype(x, wanted or x.dtype)
        if copy:
            return concrete()(out)
        _check_shared(copy, out is x, x.dtype)
        return out
    out = make(x, wanted, copy=bool(copy))
    own = out._buffer is not None and out._buffer.array
    shared = isinstance(x, np.ndarray) and (not x.size or np.shares_memory(x, own))
    _check_shared(copy, shared, type(x).__name__)
    return out


def _check_shared(copy: bool | None, shared: bool, what: object) -> None:
    if copy is False and not shared:
        raise SettingError(
            "asarray: these numbers cannot be used where they are",
            got=f"copy=False with {what}",
            rule="an array or Tensor of the number type that is asked for",
            fix="copy=None, which copies where it must",
        )


def from_numpy(array: Array) -> Any:
    """A Tensor over the memory of a NumPy array: either sees what the other writes; see `asarray`.

    Raises:
        DTypeError: no array, or numbers that no Tensor holds as they lie there.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> a = np.zeros(2)
        >>> x = tt.from_numpy(a)
        >>> x += 1
        >>> a[0] = 5.0
        >>> a.tolist(), x.tolist()
        ([5.0, 1.0], [5.0, 1.0])
    """
    given: Any = array
    if not isinstance(given, np.ndarray) or not array.dtype.isnative:
        raise DTypeError(
            "from_numpy: this memory cannot be shared",
            got=f"{type(array).__name__} {getattr(getattr(array, 'dtype', None), 'str', '')}",
            rule="a NumPy array whose numbers have the byte order of this machine",
            fix="tt.tensor(x), which copies",
        )
    return asarray(array)


# --- diagonals ---


class _Diagonal(GradientRule):
    """A row of views: x[..., i, i + offset]."""

    name = "diagonal"

    @staticmethod
    def numpy(array: Array, *, offset: int) -> Array:
        """The view."""
        out = np.diagonal(array, offset, -2, -1)
        out.flags.writeable = array.flags.writeable
        return out

    @staticmethod
    def take(x: Any, *, offset: int) -> Any:
        """The diagonal."""
        return diagonal(x, offset)

    @staticmethod
    def put(x: Any, new: Any, *, offset: int) -> Any:
        """A new Tensor: x with `new` on the diagonal."""
        flat = _flat(x)
        return reshape(put_slice(flat, new, *_bounds(x.shape, offset)), x.shape)

    @staticmethod
    def vjp(g: Any, out: Any, x: Any, *, offset: int) -> tuple[Any, ...]:
        """g on the diagonal of zeros."""
        zeros = apply(TABLE["full"], (), {"shape": x.shape, "value": 0, "dtype": x.dtype})
        return (_Diagonal.put(zeros, g, offset=offset),)


_DIAGONAL = _Diagonal()


def _flat(x: Any) -> Any:
    return reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))


def _bounds(shape: tuple[Any, ...], offset: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Start, stop and step of the diagonal in matrices whose rows lie one after the other."""
    m, n = shape[-2:]
    row, column = max(0, -offset), max(0, offset)
    count = max(0, min(m - row, n - column))
    first = row * n + column if count else 0
    end = first + (count - 1) * (n + 1) + 1 if count else 0
    rest = len(shape) - 2
    return [0] * rest + [first], [*shape[:-2], end], [1] * rest + [n + 1]


def diagonal(x: Operand, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """x[..., i, i + offset] for each matrix in two axes, which become one, the last; a view.

    Args:
        x: (..., M, N).
        offset: columns to the right of the main diagonal; negative: below it.
        dim1: the axis of the rows.
        dim2: the axis of the columns.

    Differs from PyTorch: the matrices are in the last two axes by default, as in the array API, and
    not in the first two.
    """
    x, offset = tensor_of(x), index(offset)
    if len(x.shape) < 2:
        raise ShapeError(
            "diagonal: this is no matrix",
            got=f"x {x.shape}",
            rule="two axes or more",
            fix="diag(x)",
        )
    if (dim1, dim2) != (-2, -1):
        return diagonal(moveaxis(x, (dim1, dim2), (-2, -1)), offset)
    params = {"offset": offset}
    if STATE.interpreter is None and x._buffer is not None:
        return viewed(_DIAGONAL, x, _DIAGONAL.numpy(x._buffer.array, offset=offset), params)
    start, stop, step = map(tuple, _bounds(x.shape, offset))
    out = apply(TABLE["slice"], (_flat(x),), {"start": start, "stop": stop, "step": step})
    if STATE.interpreter is not None:
        STATE.interpreter.shows(out, x, _DIAGONAL, params)
    return out


def trace(x: Operand, offset: int = 0) -> Any:
    """Sum of the diagonal of each matrix."""
    return total(diagonal(x, offset), -1)


def diag(x: Operand, diagonal: int = 0) -> Any:
    """A square matrix with the vector x on its diagonal; of a matrix, its diagonal."""
    x = tensor_of(x)
    if len(x.shape) != 1:
        return copied(_read(x, diagonal))
    n = x.shape[0]
    size = n + abs(diagonal)
    wide = reshape(x, -1) if not diagonal else _shifted(x, diagonal)
    return where(eye(size, k=diagonal, dtype=bool_), unsqueeze(wide, 1), zeros((), dtype=x.dtype))


_read = diagonal


def _shifted(x: Any, offset: int) -> Any:
    """x as a column of the larger matrix: its rows begin at max(0, -offset)."""
    return pad(x, (max(0, -offset),), (max(0, offset),))
