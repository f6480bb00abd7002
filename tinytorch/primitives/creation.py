"""Rows without operands: a constant array, and positions along an axis.

Knows shapes, dtypes and one value. A gradient rule that needs a constant asks `full_like`, which
makes it of the same kind (array, Tensor, captured value) as the array it stands beside.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import DType, as_dtype, check_fits, float32, float64, int64
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec, dtype_of
from tinytorch.primitives.quiet import quietly
from tinytorch.primitives.shapes import check_axis, check_sizes


def _constant(*, shape: tuple[int, ...], value, dtype: DType) -> Spec:
    check_sizes("full", shape)
    dtype = as_dtype(dtype)
    check_fits(value, dtype)
    return Spec(shape, dtype)


def _positions(*, shape: tuple[int, ...], axis: int, dtype: DType) -> Spec:
    check_sizes("iota", shape)
    check_axis("iota", len(shape), axis)
    return Spec(shape, as_dtype(dtype))


@quietly
def _full(*, shape, value, dtype):
    return np.full(shape, np.asarray(value).astype(as_dtype(dtype).compute))


def _iota(*, shape, axis, dtype):
    line = np.arange(shape[axis], dtype=np.int64).astype(as_dtype(dtype).compute)
    return np.broadcast_to(line.reshape((-1,) + (1,) * (len(shape) - axis - 1)), shape)


full = Primitive(
    "full",
    _constant,
    _full,
    vjp=lambda g, out, **params: (),
    flops=lambda ins, outs, **params: 0,
    samples=lambda: [
        Sample((), {"shape": (), "value": 0.5, "dtype": float64}),
        Sample((), {"shape": (2, 3), "value": -3, "dtype": int64}),
        Sample((), {"shape": (0, 3), "value": 1.0, "dtype": float32}),
    ],
    error_samples=lambda: [
        ErrorSample((), ValueError, "not a size", {"shape": (-1,), "value": 0.0, "dtype": float32}),
    ],
    op_class=OpClass.SOURCE,
    doc="An array of `shape` with `value` everywhere.",
)
iota = Primitive(
    "iota",
    _positions,
    _iota,
    vjp=lambda g, out, **params: (),
    flops=lambda ins, outs, **params: 0,
    samples=lambda: [
        Sample((), {"shape": (5,), "axis": 0, "dtype": int64}),
        Sample((), {"shape": (2, 3, 2), "axis": 1, "dtype": float64}),
        Sample((), {"shape": (0, 3), "axis": 0, "dtype": float32}),
    ],
    error_samples=lambda: [
        ErrorSample((), ValueError, "does not exist", {"shape": (2,), "axis": 1, "dtype": int64}),
        ErrorSample((), ValueError, "not a size", {"shape": (-2,), "axis": 0, "dtype": int64}),
    ],
    op_class=OpClass.SOURCE,
    doc="out[i0, i1, ...] = the index along `axis`.",
)


def made_like(x, primitive: Primitive, **params):
    """A row without operands, of the same kind as x: an array, or what x's type makes of it."""
    handler = getattr(type(x), "__primitive__", None)
    return primitive(**params) if handler is None else handler(primitive, (), params)


def full_like(x, value, shape: tuple[int, ...] = (), dtype: DType | None = None):
    """A constant of x's kind and dtype (or the one given).

    >>> full_like(np.zeros(3), 0.5)
    array(0.5)
    """
    return made_like(x, full, shape=shape, value=value, dtype=dtype or dtype_of(x))
