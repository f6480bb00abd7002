"""Arrays of the lengths of one call, and the memory of the greatest ones that a program works on.

Knows arrays and axes (graph/axes.py), never kernels. An array comes in as it is where it is as long
as can be; else what it holds is copied into memory that is kept between calls, zeros beyond. A
result leaves as the part of its memory that is valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinytorch.base.lengths import Dim, value_at
from tinytorch.compiler.graph.axes import Axes, valid_part
from tinytorch.compiler.graph.graph import Graph
from tinytorch.compiler.record.recorder import Row
from tinytorch.tensor.memory import Buffer, copy_of

_Slices = tuple[slice, ...]


class Lengths:
    """What of the arguments and results of a graph depends on lengths.

    Args:
        graph: the program.
        dims: for each dim the number of the argument that says how long it is.
    """

    def __init__(self, graph: Graph, dims: Mapping[Dim, int]):
        self.dims = dict(dims)
        ragged = graph.ragged
        self.arguments = {i: ragged[v] for i, v in enumerate(graph.arguments) if v in ragged}
        self.results = {i: ragged[v] for i, v in enumerate(graph.results) if v in ragged}

    def of(self, leaves: Sequence[Any]) -> dict[Dim, int]:
        """How long each dim is in this call."""
        return {dim: int(leaves[i]) for dim, i in self.dims.items()}

    def rows(self, rows: list[Row], leaves: Sequence[Any]) -> list[Row]:
        """How a view is taken, for the lengths of this call."""
        if not self.dims:
            return rows
        lengths = self.of(leaves)
        return [(row, {k: value_at(p, lengths) for k, p in params.items()}) for row, params in rows]

    def trimmed(self, made: list[Buffer], leaves: Sequence[Any]) -> None:
        """Let each result be the valid part of its memory."""
        lengths = self.of(leaves)
        done: dict[int, Buffer] = {}
        for i, axes in self.results.items():
            whole = made[i]
            if id(whole) not in done:
                done[id(whole)] = _valid_part(whole, axes, lengths)
            made[i] = done[id(whole)]


def _valid_part(whole: Buffer, axes: Axes, lengths: Mapping[Dim, int]) -> Buffer:
    """A view where it lies at the front and is most of it, else a copy."""
    array, part = whole.array, valid_part(whole.array, axes, lengths)
    if part.shape == array.shape:
        return whole
    shares = part.flags.c_contiguous and np.may_share_memory(part, array)
    if shares and 2 * part.size >= array.size and part.size:
        return Buffer(part, whole.dtype)
    return Buffer(copy_of(part, whole.dtype), whole.dtype)


class Staging:
    """Memory for one argument, as long as it can be; beyond what it was given are zeros.

    Args:
        axes: of the argument.
        dtype: of its elements, as they are stored.
    """

    def __init__(self, axes: Axes, dtype: np.dtype[Any]):
        shape = tuple(axis.size for axis in axes)
        self.array = np.zeros(shape, dtype)
        self.ragged = [d for d, axis in enumerate(axes) if axis.is_ragged]
        self._held = tuple(0 for _ in shape)

    def take(self, array: np.ndarray) -> np.ndarray:
        """Put an array in; gives the whole memory."""
        shape = array.shape
        for d in self.ragged:
            if shape[d] < self._held[d]:
                self.array[(slice(None),) * d + (slice(shape[d], self._held[d]),)] = 0
        self.array[tuple(map(slice, shape))] = array
        self._held = shape
        return self.array
