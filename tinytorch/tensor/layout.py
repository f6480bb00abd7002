"""Where the elements lie in memory: strides, contiguity, sharing.

Knows addresses, never gradients. Row-major (C order) is how new Tensors lie; `x.T` of such a one is
column-major, and costs nothing: only its strides differ. A compiled function chooses layouts
itself, so there the questions are refused, and `contiguous()` changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.tensor.base import TensorBase
from tinytorch.tensor.buffer import copy_of
from tinytorch.tensor.dispatch import COPY, copied, tensor_of, viewed
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.shaping import axis_of

_FORMATS = ("row", "column")


def stride(x, dim: int | None = None) -> Any:
    """How many elements lie between neighbours along each axis (or along one).

    Example:
        >>> import tinytorch as tt
        >>> tt.stride(tt.ones(3, 4)), tt.stride(tt.ones(3, 4).T)
        ((4, 1), (1, 4))
    """
    x = tensor_of(x)
    x.read("stride()")
    steps = tuple([s // x.dtype.itemsize for s in x._buffer.array.strides])
    return steps if dim is None else steps[axis_of(x, dim)]


def is_contiguous(x, order: str = "row") -> bool:
    """Whether the elements lie side by side, the last axis (or, by columns, the first) fastest.

    Args:
        x: any shape.
        order: "row" or "column".
    """
    x = tensor_of(x)
    x.read("is_contiguous()")
    flags = x._buffer.array.flags
    return flags.c_contiguous if _checked(order) == "row" else flags.f_contiguous


def _checked(order: str) -> str:
    if order not in _FORMATS:
        raise SettingError(
            "there is no such layout", got=repr(order), rule='"row" or "column"', fix='"row"'
        )
    return order


def contiguous(x, order: str = "row") -> Any:
    """x with its elements side by side in memory: itself if they are, else a copy.

    Args:
        x: any shape.
        order: "row": the last axis fastest; "column": the first.

    Example:
        >>> import tinytorch as tt
        >>> tt.stride(tt.contiguous(tt.ones(3, 4).T))
        (3, 1)
    """
    x = tensor_of(x)
    _checked(order)
    if STATE.interpreter is not None:
        dense = order == "row" and STATE.interpreter.is_contiguous(x)
        return x if dense else copied(x)
    if is_contiguous(x, order):
        return x
    array = x._buffer.array
    if order == "column":
        array = copy_of(array.T, x.dtype).T
    else:
        array = copy_of(array, x.dtype)
    return viewed(COPY, x, array, {})


def shares_memory(a, b) -> bool:
    """Whether an element of a and an element of b are the same place in memory.

    Args:
        a: Tensor or NumPy array.
        b: Tensor or NumPy array.

    Example:
        >>> import tinytorch as tt
        >>> x = tt.arange(6)
        >>> tt.shares_memory(x, x[2:4]), tt.shares_memory(x, x + 0)
        (True, False)
    """
    return bool(np.shares_memory(_memory(a), _memory(b)))


def _memory(x: Any) -> np.ndarray:
    if isinstance(x, TensorBase):
        tensor: Any = x
        tensor.read("shares_memory()")
        return tensor._buffer.array
    return np.asarray(x)


class Layout(TensorBase):
    """What a Tensor says about its memory."""

    __slots__ = ()

    stride = stride
    is_contiguous = is_contiguous
    contiguous = contiguous

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, stored densely."""
        return self.size * self.dtype.itemsize

    def element_size(self) -> int:
        """Bytes of one element, by PyTorch's name."""
        return self.dtype.itemsize

    def data_ptr(self) -> int:
        """Address of the first element."""
        tensor: Any = self
        tensor.read("data_ptr()")
        return tensor._buffer.address
