"""Repeating: tile, repeat, repeat_interleave, meshgrid, and shapes stretched to a common one.

Knows axes and counts. What repeats is a broadcast view, copied once where axes are joined.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.primitives import TABLE
from tinytorch.primitives.shapes import broadcast_shapes as _common_shape
from tinytorch.primitives.shapes import check_sizes, sizes_of
from tinytorch.tensor.base import TensorBase, make
from tinytorch.tensor.dispatch import apply, tensor_of, unshared
from tinytorch.tensor.shaping import axis_of, broadcast_to, reshape, unsqueeze


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that arrays of these shapes stretch to together; a number n is the shape (n,).

    Example:
        >>> import tinytorch as tt
        >>> tt.broadcast_shapes((3, 1), (4,))
        (3, 4)

    Raises:
        ShapeError: they do not stretch, or a size is negative.
        ArgumentTypeError: sizes that are no whole numbers.
    """
    letters = [f"x{i}" for i in range(len(shapes))]
    tuples = [
        sizes_of((s,) if isinstance(s, (int, np.integer, str)) else (tuple(s),)) for s in shapes
    ]
    for sizes in tuples:
        check_sizes("broadcast_shapes", sizes)
    return _common_shape("broadcast_shapes", letters, tuples) if shapes else ()


def broadcast_arrays(*xs: Any) -> list[Any]:
    """Each x stretched to the shape they have together; views."""
    tensors = [tensor_of(x) for x in xs]
    shape = broadcast_shapes(*[t.shape for t in tensors])
    return [broadcast_to(t, shape) for t in tensors]


def tile(x, *counts) -> Any:
    """x laid side by side counts[i] times along axis i; missing counts in front are 1.

    Example:
        >>> import tinytorch as tt
        >>> tt.tile(tt.tensor([1, 2]), (2, 2)).tolist()
        [[1, 2, 1, 2], [1, 2, 1, 2]]
    """
    x = tensor_of(x)
    times = sizes_of(counts)
    if min(times, default=0) < 0:
        raise SettingError(
            "tile: a negative count",
            got=f"counts {times}",
            rule="whole numbers >= 0",
            fix=f"tile(x, {tuple(max(n, 0) for n in times)})",
        )
    times = (1,) * (len(x.shape) - len(times)) + times
    x = reshape(x, (1,) * (len(times) - len(x.shape)) + x.shape)
    lifted = [n for s in x.shape for n in (1, s)]
    wide = [n for t, s in zip(times, x.shape, strict=True) for n in (t, s)]
    out = broadcast_to(reshape(x, lifted), wide)
    return unshared(reshape(out, [t * s for t, s in zip(times, x.shape, strict=True)]))


def repeat_as_torch(x, *counts) -> Any:
    """`tile` by PyTorch's name for the method (`x.repeat(2, 3)`): one count for each axis."""
    x = tensor_of(x)
    times = sizes_of(counts)
    if len(times) < len(x.shape):
        raise ShapeError(
            "repeat: a count is missing",
            got=f"counts {times} for a tensor {x.shape}",
            rule="one count for each axis",
            fix=f"x.repeat{(1,) * (len(x.shape) - len(times)) + times}",
        )
    return tile(x, times)


def repeat(x, repeats, *, axis: int | None = None) -> Any:
    """Each element `repeats` times, one after the other, along an axis (None: of the flattened x).

    Args:
        x: any shape.
        repeats: a whole number >= 0, or one for each element along the axis.
        axis: along which.

    Differs from PyTorch: the method `x.repeat(...)` is PyTorch's, which is `tile`; this function is
    the array API's, PyTorch's `repeat_interleave`.

    Example:
        >>> import tinytorch as tt
        >>> tt.repeat(tt.tensor([1, 2]), 2).tolist(), tt.repeat(tt.tensor([1, 2]), [1, 3]).tolist()
        ([1, 1, 2, 2], [1, 2, 2, 2])
    """
    x = tensor_of(x)
    if axis is None:
        x, axis = reshape(x, -1), 0
    at = axis_of(x, axis)
    if not isinstance(repeats, (int, np.integer)):
        counts = np.asarray(repeats)
        if counts.ndim == 0 or counts.size == 1:
            (repeats,) = sizes_of((counts.reshape(()).item(),))
        else:
            counts = counts.astype(np.int64) if counts.size == 0 else counts  # [] has no numbers
            whole = counts.dtype.kind in "iu" and counts.min(initial=0) >= 0
            if counts.shape != (x.shape[at],) or not whole:
                raise ShapeError(
                    "repeat: the counts do not fit",
                    got=f"repeats {counts.tolist()} for an axis of {x.shape[at]}",
                    rule="one whole number >= 0, or one for each element",
                    fix="repeat(x, 2, axis=0)",
                )
            index = np.repeat(np.arange(x.shape[at]), counts)
            return apply(TABLE["take"], (x, make(index)), {"axis": at})
    if repeats < 0:
        raise SettingError("repeat: a negative count", got=repeats, rule=">= 0", fix="repeats=1")
    wide = (*x.shape[: at + 1], int(repeats), *x.shape[at + 1 :])
    out = broadcast_to(unsqueeze(x, at + 1), wide)
    return unshared(reshape(out, (*x.shape[:at], x.shape[at] * int(repeats), *x.shape[at + 1 :])))


def repeat_interleave(x, repeats, dim: int | None = None, *, output_size: int | None = None) -> Any:
    """`repeat` by PyTorch's name; `output_size`, the length of the result, is not needed here."""
    return repeat(x, repeats, axis=dim)


def meshgrid(*xs: Any, indexing: str = "ij") -> list[Any]:
    """Grids of coordinates: the i-th result varies along one axis as the i-th vector does.

    Args:
        xs: vectors (or numbers) of one dtype; a list of them too.
        indexing: "ij" (the i-th runs along axis i) or "xy" (the first runs along axis 1).

    Differs from the array API, where "xy" is the default: tinytorch.array_api has it.
    """
    if indexing not in ("xy", "ij"):
        raise SettingError(
            "meshgrid: no such indexing", got=repr(indexing), rule='"xy" or "ij"', fix='"ij"'
        )
    if len(xs) == 1 and isinstance(xs[0], (list, tuple)) and len(xs[0]):
        first = xs[0][0]
        if isinstance(first, (TensorBase, np.ndarray, list, tuple)):
            xs = tuple(xs[0])
    vectors = [reshape(tensor_of(x), -1) for x in xs]
    places = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        places[0], places[1] = 1, 0
    shape = [1] * len(vectors)
    for place, vector in zip(places, vectors, strict=True):
        shape[place] = builtins.max(0, vector.shape[0])
    out = []
    for place, vector in zip(places, vectors, strict=True):
        own = [1] * len(vectors)
        own[place] = vector.shape[0]
        out.append(broadcast_to(reshape(vector, own), shape))
    return out
