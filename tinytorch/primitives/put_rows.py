"""The row that writes whole rows of a table at run-time places: what a sparse update is made of.

Knows tables and indices. A negative index counts from the end; one outside the table raises
IndexRangeError before anything is written. Of equal indices the last wins. A compiled program that
assigns the result to the table itself writes the named rows and nothing else.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import int64
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.broadcasting import broadcast_to
from tinytorch.primitives.comparison import equal, where
from tinytorch.primitives.creation import full_like, iota, made_like
from tinytorch.primitives.indexing import checked, take
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec
from tinytorch.primitives.reshaping import reshape
from tinytorch.primitives.samples import numbers, strided
from tinytorch.primitives.shapes import INTEGER, check_kind, check_same_dtype


def _put(x: Spec, y: Spec, index: Spec) -> Spec:
    check_kind("put_rows", "index", index, INTEGER)
    check_same_dtype("put_rows", ("x", "y"), (x, y))
    if not x.shape or len(index.shape) != 1 or y.shape != (*index.shape, *x.shape[1:]):
        raise ShapeError(
            "put_rows: the rows do not fit the table",
            got=f"x {x.shape}, y {y.shape}, index {index.shape}",
            rule="x (V, ...), y (N, ...) with the same rows, index (N,)",
            fix="y.reshape(index.size, *x.shape[1:]), index.reshape(-1)",
        )
    return x


def _put_rows(x: np.ndarray, y: np.ndarray, index: np.ndarray):
    out = x.copy()
    places = checked("put_rows", index, x.shape[0])
    # NumPy does not say which of equal places wins: name each once, by its last mention.
    rows, backwards = np.unique(places[::-1], return_index=True)
    out[rows] = y[len(places) - 1 - backwards]
    return out


def _put_rows_vjp(g, out, x, y, index, *, needs=(True, True, False)):
    """x gets the rows that were not written, each row of y that won its own."""
    n, rank = int(y.shape[0]), len(tuple(y.shape))
    zeros = full_like(g, 0.0, tuple(y.shape))
    g_x = put_rows(g, zeros, index) if needs[0] else None
    if not needs[1]:
        return g_x, None, None
    turn = made_like(g, iota, shape=(n,), axis=0, dtype=int64)
    none = full_like(g, 0, (int(x.shape[0]),), dtype=int64)
    won = equal(take(put_rows(none, turn, index), index, axis=0), turn)
    won = broadcast_to(reshape(won, shape=(n, *(1,) * (rank - 1))), shape=tuple(y.shape))
    return g_x, where(won, take(g, index, axis=0), zeros), None


put_rows = Primitive(
    "put_rows",
    _put,
    _put_rows,
    vjp=_put_rows_vjp,
    flops=lambda ins, outs, **params: 0,
    samples=lambda: [
        Sample((numbers(5, 3), numbers(2, 3, seed=1), np.array([4, 0]))),
        Sample((numbers(4), numbers(3, seed=1), np.array([1, -1, 1], np.int32))),
        Sample((strided(3, 2, 4), strided(2, 2, 4, seed=1), np.array([2, 2]))),
        Sample((numbers(3, 2), numbers(0, 2, seed=1), np.zeros(0, np.int64))),
        Sample((numbers(3, 0), numbers(1, 0, seed=1), np.array([1]))),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(3, 2), numbers(1, 2), np.array([3])), IndexError, "outside its axis"),
        ErrorSample((numbers(3, 2), numbers(1, 2), np.array([-4])), IndexError, "outside its axis"),
        ErrorSample((numbers(3, 2), numbers(2, 2), np.array([1])), ValueError, "do not fit"),
        ErrorSample((numbers(3, 2), numbers(1, 2), np.array([[1]])), ValueError, "do not fit"),
        ErrorSample((numbers(3, 2), numbers(1, 2), numbers(1)), TypeError, "does not take"),
        ErrorSample(
            (numbers(3, 2), numbers(1, 2).astype("float32"), np.array([1])),
            TypeError, "different number types",
        ),
    ],
    selects=(0, 1),
    op_class=OpClass.UPDATE,
    doc="x with row index[i] replaced by y[i]; of equal indices the last wins.",
)  # fmt: skip
