"""Diagonals of matrices: reading them, adding them up, building matrices around them.

Knows positions in the last two axes.
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.dtypes import bool_
from tinytorch.base.errors import ShapeError
from tinytorch.primitives import TABLE
from tinytorch.tensor.creation import arange, eye
from tinytorch.tensor.dispatch import apply, tensor_of
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.reductions import sum
from tinytorch.tensor.shaping import pad, reshape, unsqueeze


def diagonal(x, offset: int = 0) -> Any:
    """x[..., i, i + offset] for each matrix in the last two axes.

    Args:
        x: (..., M, N).
        offset: columns to the right of the main diagonal; negative: below it.
    """
    x = tensor_of(x)
    if len(x.shape) < 2:
        raise ShapeError(
            "diagonal: this is no matrix",
            got=f"x {x.shape}",
            rule="two axes or more",
            fix="diag(x)",
        )
    m, n = x.shape[-2:]
    row, column = max(0, -offset), max(0, offset)
    count = max(0, min(m - row, n - column))
    flat = reshape(x, (*x.shape[:-2], m * n))
    places = arange(count) * (n + 1) + (row * n + column)
    return apply(TABLE["take"], (flat, places), {"axis": len(flat.shape) - 1})


def trace(x, offset: int = 0) -> Any:
    """Sum of the diagonal of each matrix."""
    return sum(diagonal(x, offset), -1)


def diag(x, diagonal: int = 0) -> Any:
    """A square matrix with the vector x on its diagonal; of a matrix, its diagonal."""
    x = tensor_of(x)
    if len(x.shape) != 1:
        return _read(x, diagonal)
    n = x.shape[0]
    size = n + abs(diagonal)
    wide = reshape(x, -1) if not diagonal else _shifted(x, diagonal)
    return where(eye(size, k=diagonal, dtype=bool_), unsqueeze(wide, 1), 0)


_read = diagonal


def _shifted(x: Any, offset: int) -> Any:
    """x as a column of the larger matrix: its rows begin at max(0, -offset)."""
    return pad(x, (max(0, -offset),), (max(0, offset),))
