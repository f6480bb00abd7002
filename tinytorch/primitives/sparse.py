"""Products with a matrix of many zeros, of which only the others are stored, row by row.

Knows how such a matrix lies in memory. Row n of a matrix (N, K) is what lies at starts[n] up to
starts[n + 1] of `values`, at the places in `columns`: compressed sparse rows (Tinney, Walker 1967,
"Direct solutions of sparse network equations by optimally ordered triangular factorization").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import int64
from tinytorch.base.errors import IndexRangeError, ShapeError
from tinytorch.primitives.creation import full
from tinytorch.primitives.elementwise import BOTH, Needs, cast_like, mul
from tinytorch.primitives.ieee import ieee_steps
from tinytorch.primitives.indexing import scatter_add, take
from tinytorch.primitives.movement import accumulator, pad, slice_, sum_
from tinytorch.primitives.primitive import (
    Array,
    Cotangents,
    ErrorSample,
    OpClass,
    Operand,
    Primitive,
    Sample,
    Spec,
    numbers,
    refused,
    sample,
    strided,
)
from tinytorch.primitives.reductions import argsort, cumsum
from tinytorch.primitives.shapes import (
    FLOAT,
    INTEGER,
    check_kind,
    check_rank,
    check_same_dtype,
)

NAME = "sparse_matmul"


def _sparse(x: Spec, values: Spec, columns: Spec, starts: Spec) -> Spec:
    check_kind(NAME, "x", x, FLOAT)
    check_same_dtype(NAME, ("x", "values"), (x, values))
    check_rank(NAME, "x", x, 2, "(M, K)")
    for argument, given in (("columns", columns), ("starts", starts)):
        check_kind(NAME, argument, given, INTEGER)
    for argument, given in (("values", values), ("columns", columns), ("starts", starts)):
        check_rank(NAME, argument, given, 1, "(numbers,), (numbers,), (N + 1,)")
    if values.shape != columns.shape or not starts.size:
        raise ShapeError(
            f"{NAME}: values, columns and starts do not belong together",
            got=f"values {values.shape}, columns {columns.shape}, starts {starts.shape}",
            rule="a column for each number, and N + 1 starts for N rows",
            fix="the three arrays of one matrix",
        )
    return Spec((x.shape[0], starts.shape[0] - 1), x.dtype)


def _check_places(columns: Array, starts: Array, k: int) -> None:
    """Refuse columns that do not exist, and starts that fall or lie outside."""
    wide = columns.astype(np.int64)
    outside = (wide < 0) | (wide >= k)
    steps = np.diff(starts.astype(np.int64), prepend=0, append=len(columns))
    if not outside.any() and (steps >= 0).all():
        return
    got = f"a column {int(wide[outside][0])} of {k}" if outside.any() else f"starts {starts}"
    raise IndexRangeError(
        f"{NAME}: a number lies outside the matrix",
        got=got,
        rule=f"columns from 0 to {k - 1}; starts from 0 to {len(columns)}, none below another",
        fix="the three arrays of one matrix, and the features it was made for",
    )


@ieee_steps
def _product(x: Array, values: Array, columns: Array, starts: Array) -> Array:
    _check_places(columns, starts, x.shape[1])
    wide = accumulator(x.dtype)
    out = np.zeros((x.shape[0], len(starts) - 1), wide)
    across = x.astype(wide, copy=False)
    bounds = starts.tolist()
    for n, (begin, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
        if begin < end:
            out[:, n] = across[:, columns[begin:end]] @ values[begin:end].astype(wide)
    return out.astype(x.dtype, copy=False)


def _rows(starts: Operand, count: int) -> Operand:
    """Of each number, how many rows begin at it or before: its row, counted from 1.

    0 where no row has begun, N + 1 where the last one has ended.
    """
    ones = full(shape=tuple(starts.shape), value=1, dtype=int64)
    begun = cumsum(scatter_add(ones, starts, axis=0, size=count + 1), axis=0)
    return slice_(begun, start=(0,), stop=(count,), step=(1,))


def _vjp(
    g: Operand, out: Operand, x: Operand, values: Operand, columns: Operand, starts: Operand, *,
    needs: Needs = BOTH,
) -> Cotangents:  # fmt: skip
    """The product with the transposed matrix, whose numbers are those in the order of columns."""
    count, k, g_x, g_values = values.shape[0], x.shape[1], None, None
    # a column of zeros on either side, for numbers that are in no row
    g = pad(cast_like(g, x), before=(0, 1), after=(0, 1), value=0.0)
    rows = _rows(starts, count)
    if needs[0]:
        order = argsort(columns, axis=0)
        ones = full(shape=(count,), value=1, dtype=int64)
        ends = cumsum(scatter_add(ones, columns, axis=0, size=k), axis=0)
        begins = pad(ends, before=(1,), after=(0,), value=0)
        g_x = sparse_matmul(g, take(values, order, axis=0), take(rows, order, axis=0), begins)
    if needs[1]:
        products = mul(take(g, rows, axis=1), take(x, columns, axis=1))
        g_values = sum_(products, axes=(0,), keepdims=False)
    return g_x, g_values, None, None


def _flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    return 2 * ins[0].shape[0] * ins[1].size


def _sample(m: int, k: int, lengths: Sequence[int], columns: str = "int32") -> Sample:
    """Rows of so many numbers, at places that grow, some of them beside each other."""
    places = [
        np.sort(np.argsort(numbers(k, seed=n), kind="stable")[:length])
        for n, length in enumerate(lengths)
    ]
    joined = np.concatenate([*places, np.zeros(0)]).astype(columns)
    starts = np.cumsum([0, *lengths]).astype("int32")
    return sample(numbers(m, k), numbers(len(joined), seed=1), joined, starts)


def _samples() -> list[Sample]:
    twice = np.array([2, 0, 2], np.int64)  # in no order, one twice
    return [
        _sample(1, 40, (3, 0, 17, 1, 9)),
        _sample(3, 7, (2, 7), "int16"),
        _sample(8, 20, (11, 4, 8, 0), "uint8"),
        sample(strided(5, 3), numbers(3, seed=1), twice, np.array([0, 3, 3])),
        sample(numbers(2, 4), numbers(4, seed=1), np.array([1, 0, 3, 2]), np.array([1, 3])),
        _sample(33, 19, (5, 6)),
        _sample(70, 30, (9,)),
        _sample(2, 3, (0, 0)),
        _sample(0, 5, (2, 1)),
        _sample(2, 0, (0,)),
        _sample(2, 3, ()),
    ]


def _errors() -> list[ErrorSample]:
    x, values, columns, starts = _samples()[0].inputs
    return [
        refused(ValueError, "do not belong together", x, values, columns[1:], starts),
        refused(ValueError, "do not belong together", x, values, columns, starts[:0]),
        refused(ValueError, "wrong number of axes", x[0], values, columns, starts),
        refused(ValueError, "wrong number of axes", x, values[None], columns, starts),
        refused(TypeError, "different number types", x.astype("f4"), values, columns, starts),
        refused(TypeError, "does not take", x.astype(int), values, columns, starts),
        refused(TypeError, "does not take", x, values, columns * 1.0, starts),
        refused(IndexError, "outside the matrix", x[:, :9], values, columns, starts),
        refused(IndexError, "outside the matrix", x, values, columns - 1, starts),
        refused(IndexError, "outside the matrix", x, values, columns, starts[::-1]),
        refused(IndexError, "outside the matrix", x, values, columns, starts - 1),
        refused(IndexError, "outside the matrix", x, values, columns, starts + 1),
    ]


sparse_matmul = Primitive(
    NAME, _sparse, _product, vjp=_vjp, flops=_flops, op_class=OpClass.CONTRACTION,
    samples=_samples, error_samples=_errors,
    doc="x @ w.T for a matrix w (N, K) given by the numbers of each row and their columns.",
)  # fmt: skip
