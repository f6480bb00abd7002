"""Sorting along an axis: ascending, NaN last, equal elements in their order.

Knows orders, never what is ordered.
"""

from __future__ import annotations

import math

import numpy as np

from tinytorch.base.dtypes import int64
from tinytorch.primitives.indexing import scatter_along
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    ErrorSample,
    OpClass,
    Primitive,
    Sample,
    Spec,
)
from tinytorch.primitives.samples import flags, numbers, strided
from tinytorch.primitives.shapes import NUMBER, check_axis, check_kind


def _comparisons(ins, outs, *, axis: int) -> int:
    n = ins[0].shape[axis]
    return int(ins[0].size * max(math.log2(n), 1)) if n else 0


def _rule(name: str, out=None):
    def infer(x: Spec, *, axis: int) -> Spec:
        check_kind(name, "x", x, NUMBER)
        check_axis(name, len(x.shape), axis)
        return Spec(x.shape, out or x.dtype)

    return infer


def _samples():
    return [
        Sample((numbers(7),), {"axis": 0}),
        Sample((strided(3, 4),), {"axis": 1}),
        Sample((numbers(3, 1, 5),), {"axis": 0}),
        Sample((numbers(2, 0),), {"axis": 1}),
        Sample((np.array([3, 1, 3, 1, 2], np.int8),), {"axis": 0}),
        Sample((np.array([1.0, np.nan, -np.inf, np.inf, 0.0]),), {"axis": 0}),
    ]


def _errors():
    return [
        ErrorSample((numbers(3),), ValueError, "does not exist", {"axis": 1}),
        ErrorSample((flags(3),), TypeError, "does not take", {"axis": 0}),
    ]


argsort = Primitive(
    "argsort",
    _rule("argsort", int64),
    lambda x, *, axis: np.argsort(x, axis, kind="stable"),
    vjp=NOT_DIFFERENTIABLE,
    flops=_comparisons,
    samples=_samples,
    error_samples=_errors,
    op_class=OpClass.SORT,
    doc="The positions that sort x along an axis.",
)
sort = Primitive(
    "sort",
    _rule("sort"),
    lambda x, *, axis: np.sort(x, axis, kind="stable"),
    vjp=lambda g, out, x, *, axis: (
        scatter_along(g, argsort(x, axis=axis), axis=axis, size=int(x.shape[axis])),
    ),
    flops=_comparisons,
    samples=_samples,
    error_samples=_errors,
    op_class=OpClass.SORT,
    doc="x in ascending order along an axis.",
)
