"""Products with matrices of which only the numbers that are not 0 are held.

Knows arrays and the rows of the table, never layers.
"""

from __future__ import annotations

import math

from tinytorch.base.dtypes import DType, int16, int32, int64
from tinytorch.primitives import TABLE
from tinytorch.tensor.creation import ones, zeros
from tinytorch.tensor.dispatch import apply
from tinytorch.tensor.reductions import cumsum
from tinytorch.tensor.shaping import concat
from tinytorch.tensor.tensor import Tensor


def _whole_numbers(below: int) -> DType:
    """The narrowest type that has room: columns are read as often as numbers."""
    return next((d for d, bits in ((int16, 15), (int32, 31)) if below <= 1 << bits), int64)


def compressed_rows(places: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Of numbers at places of a matrix, counted row by row, their columns and where rows start.

    Args:
        places: whole numbers (count,) in [0, N K), growing.
        shape: (N, K).

    Returns:
        columns (count,), int16 where they have room, and starts (N + 1,).

    Example:
        >>> import tinytorch as tt
        >>> [t.tolist() for t in compressed_rows(tt.tensor([1, 3, 7]), (3, 3))]
        [[1, 0, 1], [0, 1, 2, 3]]
    """
    n, k = shape
    rows = places // k
    columns = (places - rows * k).astype(_whole_numbers(k))
    each = apply(
        TABLE["scatter_add"], (ones(*places.shape, dtype=int32), rows), {"axis": 0, "size": n}
    )
    return columns, concat([zeros(1, dtype=int32), cumsum(each, 0)], 0)


def sparse_linear(x: Tensor, values: Tensor, columns: Tensor, starts: Tensor) -> Tensor:
    """x @ w.T for a matrix w (N, K) in rows; see `primitives/sparse.py`.

    Args:
        x: (..., K).
        values: (count,), of x's type.
        columns: (count,), in [0, K).
        starts: (N + 1,).

    Returns:
        (..., N).
    """
    lead = x.shape[:-1]
    rows = x if len(lead) == 1 else x.reshape(math.prod(lead), x.shape[-1])
    out = apply(TABLE["sparse_matmul"], (rows, values, columns, starts), {})
    return out if len(lead) == 1 else out.reshape(*lead, out.shape[-1])
