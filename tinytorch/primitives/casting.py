"""Cast: the same numbers in another type, with a stated result for every number.

float to integer: the fraction is dropped, numbers outside the range become its nearest end, NaN
becomes 0. integer to integer: modulo 2 to the width. Anything to bool: is it different from 0?
To bfloat16 through float32, each step to nearest even.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import (
    DTYPES,
    DType,
    as_dtype,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
)
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec, dtype_of
from tinytorch.primitives.quiet import quietly
from tinytorch.primitives.samples import numbers, strided


def _cast_spec(x: Spec, *, dtype: DType) -> Spec:
    return Spec(x.shape, as_dtype(dtype))


def _saturated(x: np.ndarray, target: np.dtype) -> np.ndarray:
    low, high = np.iinfo(target).min, np.iinfo(target).max
    least, above = np.float64(low), np.float64(high) + 1.0  # both exact: powers of 2, or 0
    if x.size and least <= x.min() and x.max() < above:  # false for NaN
        return x.astype(target)
    wide = x.astype(np.float64)
    inside = (wide > least) & (wide < above)
    out = np.where(inside, wide, 0.0).astype(target)
    out = np.where(wide >= above, np.asarray(high, target), out)
    return np.where(wide <= least, np.asarray(low, target), out)


@quietly
def _cast(x: np.ndarray, *, dtype):
    target = as_dtype(dtype).compute
    if x.dtype.kind == "f" and target.kind in "iu":
        return _saturated(x, target)
    return x.astype(target, copy=False)


def _cast_vjp(g, out, x, *, dtype):
    if not (dtype_of(x).is_float and as_dtype(dtype).is_float):
        return (None,)
    return (g if dtype_of(g) is dtype_of(x) else cast(g, dtype=dtype_of(x)),)


_EDGES = np.array(  # the ends of every integer type, and the first numbers outside
    [np.nan, np.inf, -np.inf, -0.9, -1.0, 0.9, 255.0, 255.9, 256.0, 127.9, 128.0, -128.9, -129.0]
    + [s * (2.0**k + d) for k in (15, 31, 32) for d in (-1.0, 0.0, 1.0) for s in (1.0, -1.0)]
    + [2.0**63, 2.0**63 - 1024, -(2.0**63), -(2.0**63) - 2048, 1e300]
)

cast = Primitive(
    "cast",
    _cast_spec,
    _cast,
    vjp=_cast_vjp,
    flops=lambda ins, outs, **params: 0,
    op_class=OpClass.ELEMENTWISE,
    exact=True,
    samples=lambda: [
        *(Sample((numbers(3, 5, low=-9, high=9),), {"dtype": d}) for d in DTYPES),
        *(Sample((numbers(7, low=-100, high=100, dtype="int8"),), {"dtype": d}) for d in DTYPES),
        Sample((numbers(),), {"dtype": float64}),
        Sample((strided(3, 4),), {"dtype": float32}),
        Sample((numbers(0, 2),), {"dtype": float16}),
        Sample((numbers(2, 3),), {"dtype": bfloat16}),
        Sample((np.array([True, False]),), {"dtype": bool_}),
        *(Sample((_EDGES,), {"dtype": d}) for d in DTYPES if not d.is_float),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(2),), TypeError, "not a number type", {"dtype": "complex64"}),
    ],
    doc="x as numbers of `dtype`.",
)


def cast_like(g, x):
    """g in x's dtype; g itself if it has it already."""
    return g if dtype_of(g) is dtype_of(x) else cast(g, dtype=dtype_of(x))
