"""Blocks: a parameter, its gradient and its averages, gone through piece by piece.

Knows memory and caches, never a rule. An update rule is a dozen passes over arrays: pieces of them
stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinytorch.base.dtypes import bfloat16
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.sharing import writable
from tinytorch.tensor.tensor import Tensor

# Elements: five arrays of them in float32 are 1.3 MB, less than a second-level cache of 2 MB.
BLOCK = 1 << 16


def in_blocks(written: tuple[Tensor, ...], read: Tensor) -> Iterator[tuple[np.ndarray, ...]] | None:
    """Views of pieces of all these Tensors, those in `written` to be written.

    Args:
        written: of one shape and dtype.
        read: of the same.

    Returns:
        Tuples of 1-d arrays, pieces of `written` and then of `read`; None where NumPy may not write
        there: during a capture, or memory that is not dense, or for bfloat16.
    """
    if STATE.interpreter is not None or STATE.journal is not None:
        return None
    dtype = read.dtype
    if dtype is bfloat16:
        return None
    for tensor in written:
        if tensor.dtype is not dtype:
            return None
        if not tensor._buffer.array.flags.c_contiguous:
            return None
    arrays = []
    for tensor in written:
        arrays.append(writable(tensor).reshape(-1))
    arrays.append(read._buffer.array.reshape(-1))  # a copy, if it lies otherwise
    return _pieces(arrays)


def _pieces(arrays: list[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
    size = arrays[0].size
    if size <= BLOCK:
        yield tuple(arrays)
        return
    for i in range(0, size, BLOCK):
        yield tuple([array[i : i + BLOCK] for array in arrays])
