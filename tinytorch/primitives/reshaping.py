"""Reshape and permute: the same elements under other axes. Both give views where NumPy does.

Knows shapes and strides, never values.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.errors import ShapeError
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec
from tinytorch.primitives.samples import numbers, strided
from tinytorch.primitives.shapes import check_axes, check_count, check_sizes


def _free(ins, outs, **params) -> int:
    """Moving is not arithmetic."""
    return 0


def _reshaped(x: Spec, *, shape: tuple[int, ...]) -> Spec:
    check_sizes("reshape", shape)
    out = Spec(shape, x.dtype)
    if out.size != x.size:
        raise ShapeError(
            "reshape: the new shape has another number of elements",
            got=f"x {x.shape} with {x.size} elements, shape={shape} with {out.size}",
            rule="the product of the sizes stays the same",
            fix=f"shape=({x.size},), or another factorisation of {x.size}",
        )
    return out


def _permuted(x: Spec, *, axes: tuple[int, ...]) -> Spec:
    check_count("permute", "axes", axes, len(x.shape))
    check_axes("permute", len(x.shape), axes)
    return Spec(tuple(x.shape[a] for a in axes), x.dtype)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    out = [0] * len(axes)
    for i, a in enumerate(axes):
        out[a] = i
    return tuple(out)


reshape = Primitive(
    "reshape",
    _reshaped,
    lambda x, *, shape: x.reshape(shape),
    vjp=lambda g, out, x, *, shape: (reshape(g, shape=tuple(x.shape)),),
    flops=_free,
    op_class=OpClass.MOVEMENT,
    may_copy=True,
    samples=lambda: [
        Sample((numbers(),), {"shape": (1, 1)}),
        Sample((numbers(2, 3, 5),), {"shape": (5, 6)}),
        Sample((strided(3, 4),), {"shape": (2, 6)}),
        Sample((numbers(0, 3),), {"shape": (7, 0, 2)}),
        Sample((numbers(1),), {"shape": ()}),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(2, 3),), ValueError, "another number of elements", {"shape": (7,)}),
        ErrorSample((numbers(2, 3),), ValueError, "not a size", {"shape": (-1,)}),
    ],
    doc="x in the same order under other axes.",
)
permute = Primitive(
    "permute",
    _permuted,
    lambda x, *, axes: x.transpose(axes),
    vjp=lambda g, out, x, *, axes: (permute(g, axes=_inverse(axes)),),
    flops=_free,
    op_class=OpClass.MOVEMENT,
    samples=lambda: [
        Sample((numbers(),), {"axes": ()}),
        Sample((numbers(2, 3, 5),), {"axes": (2, 0, 1)}),
        Sample((strided(3, 4),), {"axes": (1, 0)}),
        Sample((numbers(0, 3, 1),), {"axes": (1, 2, 0)}),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(2, 3),), ValueError, "one entry for each axis", {"axes": (0,)}),
        ErrorSample((numbers(2, 3),), ValueError, "named twice", {"axes": (1, 1)}),
        ErrorSample((numbers(2, 3),), ValueError, "does not exist", {"axes": (0, 2)}),
    ],
    doc="Axis i of the output is axis axes[i] of x.",
)


def swap_last(x):
    """x with its last two axes exchanged, as a primitive: the transpose of each matrix."""
    rank = len(x.shape)
    return permute(x, axes=(*range(rank - 2), rank - 1, rank - 2))


def contiguous(x: np.ndarray) -> np.ndarray:
    """x in row-major memory."""
    return np.ascontiguousarray(x).reshape(x.shape)
