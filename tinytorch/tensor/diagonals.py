"""Diagonals of matrices: reading them, adding them up, building matrices around them.

Knows positions in the last two axes.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bool_
from tinytorch.base.errors import ShapeError
from tinytorch.primitives import TABLE
from tinytorch.tensor.creation import eye, zeros
from tinytorch.tensor.dispatch import apply, copied, tensor_of, viewed
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.indexing import put_slice
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.reductions import sum
from tinytorch.tensor.shaping import moveaxis, pad, reshape, unsqueeze


class _Diagonal:
    """A row of views: x[..., i, i + offset]."""

    asks_needs = False

    @staticmethod
    def numpy(array: np.ndarray, *, offset: int) -> np.ndarray:
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
    def vjp(g: Any, out: Any, x: Any, *, offset: int) -> tuple:
        """g on the diagonal of zeros."""
        zeros = apply(TABLE["full"], (), {"shape": x.shape, "value": 0, "dtype": x.dtype})
        return (_Diagonal.put(zeros, g, offset=offset),)

    def __repr__(self) -> str:
        return "diagonal"


_DIAGONAL = _Diagonal()


def _flat(x: Any) -> Any:
    return reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))


def _bounds(shape: tuple, offset: int) -> tuple[list, list, list]:
    """Start, stop and step of the diagonal in matrices whose rows lie one after the other."""
    m, n = shape[-2:]
    row, column = max(0, -offset), max(0, offset)
    count = max(0, min(m - row, n - column))
    first = row * n + column if count else 0
    end = first + (count - 1) * (n + 1) + 1 if count else 0
    rest = len(shape) - 2
    return [0] * rest + [first], [*shape[:-2], end], [1] * rest + [n + 1]


def diagonal(x, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
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
        x = moveaxis(x, (dim1, dim2), (-2, -1))
    params = {"offset": offset}
    if STATE.interpreter is None and x._buffer is not None:
        return viewed(_DIAGONAL, x, _DIAGONAL.numpy(x._buffer.array, offset=offset), params)
    start, stop, step = map(tuple, _bounds(x.shape, offset))
    out = apply(TABLE["slice"], (_flat(x),), {"start": start, "stop": stop, "step": step})
    if STATE.interpreter is not None:
        STATE.interpreter.shows(out, x, _DIAGONAL, params)
    return out


def trace(x, offset: int = 0) -> Any:
    """Sum of the diagonal of each matrix."""
    return sum(diagonal(x, offset), -1)


def diag(x, diagonal: int = 0) -> Any:
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
