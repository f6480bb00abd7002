"""Rows whose positions are known only at run time: take, scatter and write, rows or elements.

Knows indices. A negative index counts from the end; one outside its axis raises IndexRangeError
before anything is written. `take` and `scatter_add` are each other's gradient, `take_along` and
`scatter_along` too. Indices have no gradient.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import int64
from tinytorch.base.errors import IndexRangeError, ShapeError
from tinytorch.primitives.creation import full_like, iota, made_like
from tinytorch.primitives.elementwise import add, equal, where
from tinytorch.primitives.ieee import ieee_steps, row_major
from tinytorch.primitives.movement import accumulator, broadcast_to, cut, reduced_flops, reshape
from tinytorch.primitives.primitive import (
    Array,
    Cotangents,
    OpClass,
    Operand,
    Primitive,
    Spec,
    flags,
    no_flops,
    numbers,
    refused,
    sample,
    strided,
)
from tinytorch.primitives.shapes import (
    INTEGER,
    NUMBER,
    check_axis,
    check_kind,
    check_same_dtype,
    check_sizes,
)


def checked(name: str, index: Array, size: int) -> Array:
    """`index` as int64 between 0 and size - 1, negative ones counted from the end."""
    wide = index.astype(np.int64)
    outside = (wide < -size) | (wide >= size)
    if outside.any():
        raise IndexRangeError(
            f"{name}: an index points outside its axis",
            got=f"index {int(wide[outside].flat[0])} for an axis of size {size}",
            rule=f"{-size} to {size - 1}" if size else "no index is inside an empty axis",
            fix="check the labels or tokens, and the size of the table they look into",
        )
    return np.where(wide < 0, wide + size, wide)


def _taken(x: Spec, index: Spec, *, axis: int) -> Spec:
    check_kind("take", "index", index, INTEGER)
    check_axis("take", len(x.shape), axis)
    return Spec((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype)


def _take(x: Array, index: Array, *, axis: int) -> Array:
    return np.take(x, checked("take", index, x.shape[axis]), axis=axis)


def _take_vjp(g: Operand, out: Operand, x: Operand, index: Operand, *, axis: int) -> Cotangents:
    return scatter_add(g, index, axis=axis, size=x.shape[axis]), None


def _scattered(g: Spec, index: Spec, *, axis: int, size: int) -> Spec:
    check_kind("scatter_add", "g", g, NUMBER)
    check_kind("scatter_add", "index", index, INTEGER)
    check_sizes("scatter_add", (size,))
    rank = len(index.shape)
    check_axis("scatter_add", len(g.shape) - rank + 1, axis)
    if g.shape[axis : axis + rank] != index.shape:
        raise ShapeError(
            "scatter_add: g and index do not belong together",
            got=f"g {g.shape}, index {index.shape}, axis={axis}",
            rule="g has the axes of index in place of the axis that is scattered to",
            fix=f"reshape index to {g.shape[axis : axis + rank]}",
        )
    return Spec((*g.shape[:axis], size, *g.shape[axis + rank :]), g.dtype)


@ieee_steps
def _scatter_add(g: Array, index: Array, *, axis: int, size: int) -> Array:
    """Equal indices are brought side by side (their order kept), then each run is added up."""
    places = checked("scatter_add", index, size).ravel()
    before, after = g.shape[:axis], g.shape[axis + index.ndim :]
    out = np.zeros((size, *before, *after), accumulator(g.dtype))
    if out.size and places.size:
        flat = g.reshape(*before, places.size, *after)
        rows = np.moveaxis(flat, axis, 0).astype(out.dtype, copy=False)
        order = np.argsort(places, kind="stable")
        places = places[order]
        first = np.flatnonzero(np.diff(places, prepend=-1))
        out[places[first]] = np.add.reduceat(rows[order], first, axis=0)
    return row_major(np.moveaxis(out, 0, axis).astype(g.dtype, copy=False))


def _scatter_add_vjp(
    g: Operand, out: Operand, x: Operand, index: Operand, *, axis: int, size: int
) -> Cotangents:
    return take(g, index, axis=axis), None


def _check_along(name: str, x: Spec, index: Spec, axis: int) -> None:
    check_kind(name, "index", index, INTEGER)
    check_axis(name, len(x.shape), axis)
    beside = x.shape[:axis] + x.shape[axis + 1 :]
    if len(index.shape) != len(x.shape) or index.shape[:axis] + index.shape[axis + 1 :] != beside:
        raise ShapeError(
            f"{name}: the index does not fit",
            got=f"array {x.shape}, index {index.shape}, axis={axis}",
            rule="equal sizes on every axis but the indexed one",
            fix="broadcast the index first, or use take for whole rows",
        )


def _taken_along(x: Spec, index: Spec, *, axis: int) -> Spec:
    _check_along("take_along", x, index, axis)
    return Spec(index.shape, x.dtype)


def _scattered_along(g: Spec, index: Spec, *, axis: int, size: int) -> Spec:
    check_kind("scatter_along", "g", g, NUMBER)
    check_sizes("scatter_along", (size,))
    _check_along("scatter_along", g, index, axis)
    if g.shape != index.shape:
        raise ShapeError(
            "scatter_along: g and index have different shapes",
            got=f"g {g.shape}, index {index.shape}",
            rule="one index for each element of g",
            fix="slice g or index to the same size",
        )
    return Spec((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)


def _take_along(x: Array, index: Array, *, axis: int) -> Array:
    return row_major(np.take_along_axis(x, checked("take_along", index, x.shape[axis]), axis))


@ieee_steps
def _scatter_along(g: Array, index: Array, *, axis: int, size: int) -> Array:
    places = checked("scatter_along", index, size)
    shape = (*g.shape[:axis], size, *g.shape[axis + 1 :])
    inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
    outer = int(np.prod(shape[:axis], dtype=np.int64))
    places = places.reshape(outer, g.shape[axis], inner)
    flat = (np.arange(outer)[:, None, None] * size + places) * inner + np.arange(inner)
    out = np.zeros(outer * size * inner, accumulator(g.dtype))
    np.add.at(out, flat.ravel(), g.ravel().astype(out.dtype, copy=False))
    return out.reshape(shape).astype(g.dtype, copy=False)


def _take_along_vjp(
    g: Operand, out: Operand, x: Operand, index: Operand, *, axis: int
) -> Cotangents:
    return scatter_along(g, index, axis=axis, size=x.shape[axis]), None


def _scatter_along_vjp(
    g: Operand, out: Operand, x: Operand, index: Operand, *, axis: int, size: int
) -> Cotangents:
    return take_along(g, index, axis=axis), None


def _updated(x: Spec, y: Spec, start_index: Spec) -> Spec:
    check_same_dtype("slice_update", ("x", "y"), (x, y))
    if len(x.shape) != len(y.shape) or any(m > n for n, m in zip(x.shape, y.shape, strict=False)):
        raise ShapeError(
            "slice_update: y does not fit into x",
            got=f"x {x.shape}, y {y.shape}",
            rule="as many axes, and y at most as long as x on each",
            fix="reshape y to the axes of x, or slice it",
        )
    if start_index != Spec((len(x.shape),), int64):
        raise ShapeError(
            "slice_update: start_index is not one position for each axis",
            got=f"start_index of dtype {start_index.dtype.name}, shape {start_index.shape}",
            rule=f"int64, shape ({len(x.shape)},)",
            fix="start_index=np.array([0, position, 0])",
        )
    return x


def _slice_update(x: Array, y: Array, start_index: Array) -> Array:
    where_to: list[slice] = []
    for axis, (n, m) in enumerate(zip(x.shape, y.shape, strict=True)):
        first = int(start_index[axis])
        at = first + n if first < 0 else first
        if not 0 <= at <= n - m:
            raise IndexRangeError(
                f"slice_update: y leaves x along axis {axis}",
                got=f"start {first}, {m} positions of y, {n} positions of x",
                rule=f"0 <= start <= {n - m}; negative starts count from the end",
                fix="make x longer, or start earlier",
            )
        where_to.append(slice(at, at + m))
    out = x.copy()
    out[tuple(where_to)] = y
    return out


def _slice_update_vjp(
    g: Operand, out: Operand, x: Operand, y: Operand, start_index: Operand,
    *, needs: tuple[bool, ...] = (True, True, False),
) -> Cotangents:  # fmt: skip
    """y gets what lies at its place, x gets the rest."""
    g_x = None
    if needs[0]:
        g_x = slice_update(g, full_like(g, 0.0, tuple(y.shape)), start_index)
    if not needs[1]:
        return g_x, None, None
    g_y = g
    for axis, (n, m) in enumerate(zip(tuple(x.shape), tuple(y.shape), strict=True)):
        if m != n:
            first = broadcast_to(cut(start_index, 0, axis, axis + 1), shape=(m,))
            steps = made_like(g, iota, shape=(m,), axis=0, dtype=int64)
            g_y = take(g_y, add(first, steps), axis=axis)
    return g_x, g_y, None


_ROWS = np.array([[2, 0], [-1, 2]])
take = Primitive(
    "take", _taken, _take, vjp=_take_vjp, flops=no_flops, selects=(0,), op_class=OpClass.LOOKUP,
    samples=lambda: [
        sample(numbers(5), np.array(3), axis=0),
        sample(numbers(3, 4), _ROWS, axis=0),
        sample(strided(2, 3, 5), np.array([1, 1, -3], np.int32), axis=1),
        sample(numbers(4, 2), np.zeros((0, 3), np.int64), axis=0),
        sample(numbers(0, 3), np.array([1]), axis=1),
    ],
    error_samples=lambda: [
        refused(IndexError, "outside its axis", numbers(3), np.array([3]), axis=0),
        refused(IndexError, "outside its axis", numbers(3), np.array([-4]), axis=0),
        refused(TypeError, "does not take", numbers(3), numbers(1), axis=0),
        refused(ValueError, "does not exist", numbers(3), np.array([0]), axis=1),
    ],
    doc="x[index] along an axis: the axes of index take the place of that axis.",
)  # fmt: skip
scatter_add = Primitive(
    "scatter_add", _scattered, _scatter_add, vjp=_scatter_add_vjp, flops=reduced_flops,
    op_class=OpClass.SCATTER,
    samples=lambda: [
        sample(numbers(), np.array(3), axis=0, size=5),
        sample(numbers(2, 2, 4), _ROWS, axis=0, size=3),
        sample(strided(2, 3, 5), np.array([1, 1, -3], np.int32), axis=1, size=4),
        sample(numbers(0, 4), np.zeros(0, np.int64), axis=0, size=3),
        sample(numbers(3, 0), np.array([1, 0, 1]), axis=0, size=2),
    ],
    error_samples=lambda: [
        refused(IndexError, "outside its axis", numbers(1), np.array([3]), axis=0, size=3),
        refused(ValueError, "belong together", numbers(2), np.array([0]), axis=0, size=3),
        refused(ValueError, "not a size", numbers(1), np.array([0]), axis=0, size=-1),
        refused(TypeError, "does not take", flags(1), np.array([0]), axis=0, size=3),
    ],
    doc="Zeros, to which g is added at index along an axis; equal indices add up, in their order.",
)  # fmt: skip
take_along = Primitive(
    "take_along", _taken_along, _take_along, vjp=_take_along_vjp, flops=no_flops, selects=(0,),
    op_class=OpClass.GATHER,
    samples=lambda: [
        sample(numbers(5), np.array([3, 3, -1]), axis=0),
        sample(strided(2, 3), np.array([[1], [-1]], np.int32), axis=1),
        sample(numbers(2, 3, 2), np.zeros((4, 3, 2), np.int64), axis=0),
        sample(numbers(2, 0), np.zeros((2, 0), np.int64), axis=1),
    ],
    error_samples=lambda: [
        refused(IndexError, "outside its axis", numbers(3), np.array([3]), axis=0),
        refused(ValueError, "does not fit", numbers(3, 2), np.array([[0]]), axis=0),
        refused(TypeError, "does not take", numbers(3), numbers(3), axis=0),
    ],
    doc="out[.., i, ..] = x[.., index[.., i, ..], ..].",
)  # fmt: skip
scatter_along = Primitive(
    "scatter_along", _scattered_along, _scatter_along, vjp=_scatter_along_vjp,
    flops=reduced_flops, op_class=OpClass.SCATTER,
    samples=lambda: [
        sample(numbers(3), np.array([3, 3, -1]), axis=0, size=5),
        sample(strided(2, 1), np.array([[1], [-1]], np.int32), axis=1, size=3),
        sample(numbers(4, 3, 2), np.zeros((4, 3, 2), np.int64), axis=0, size=2),
        sample(numbers(2, 0), np.zeros((2, 0), np.int64), axis=1, size=3),
    ],
    error_samples=lambda: [
        refused(IndexError, "outside its axis", numbers(1), np.array([3]), axis=0, size=3),
        refused(ValueError, "different shapes", numbers(3), np.array([0]), axis=0, size=3),
    ],
    doc="Zeros, to which each element of g is added at its own index along an axis.",
)  # fmt: skip
slice_update = Primitive(
    "slice_update", _updated, _slice_update, vjp=_slice_update_vjp, flops=no_flops, selects=(0,),
    op_class=OpClass.UPDATE,
    samples=lambda: [
        sample(numbers(), numbers(seed=1), np.zeros(0, np.int64)),
        sample(numbers(7), numbers(3, seed=1), np.array([4])),
        sample(numbers(5), numbers(4, seed=1), np.array([1])),
        sample(numbers(2, 5, 3), strided(2, 2, 3, seed=1), np.array([0, -3, 0])),
        sample(strided(3, 4), numbers(1, 1, seed=1), np.array([2, 1])),
        sample(numbers(3, 2), numbers(0, 2), np.array([3, 0])),
    ],
    error_samples=lambda: [
        refused(IndexError, "leaves x", numbers(3), numbers(2), np.array([2])),
        refused(ValueError, "does not fit into x", numbers(3), numbers(4), np.array([0])),
        refused(ValueError, "one position", numbers(3), numbers(2), np.array([0], np.int32)),
        refused(
            TypeError, "different number", numbers(3), numbers(2, dtype="float32"), np.array([0])
        ),
    ],
    doc="x with y in place of what lies from start_index on, a position known only at run time.",
)  # fmt: skip
# --- put_rows: what a sparse update is made of; of equal indices the last wins ---
# A compiled program that assigns the result to the table itself writes the named rows and nothing
# else.


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


def _put_rows(x: Array, y: Array, index: Array) -> Array:
    out = x.copy()
    places = checked("put_rows", index, x.shape[0])
    # NumPy does not say which of equal places wins: name each once, by its last mention.
    rows, backwards = np.unique(places[::-1], return_index=True)
    out[rows] = y[len(places) - 1 - backwards]
    return out


def _put_rows_vjp(
    g: Operand, out: Operand, x: Operand, y: Operand, index: Operand,
    *, needs: tuple[bool, ...] = (True, True, False),
) -> Cotangents:  # fmt: skip
    """x gets the rows that were not written, each row of y that won its own."""
    n, rank = y.shape[0], len(tuple(y.shape))
    zeros = full_like(g, 0.0, tuple(y.shape))
    g_x = put_rows(g, zeros, index) if needs[0] else None
    if not needs[1]:
        return g_x, None, None
    turn = made_like(g, iota, shape=(n,), axis=0, dtype=int64)
    none = full_like(g, 0, (x.shape[0],), dtype=int64)
    won = equal(take(put_rows(none, turn, index), index, axis=0), turn)
    won = broadcast_to(reshape(won, shape=(n, *(1,) * (rank - 1))), shape=tuple(y.shape))
    return g_x, where(won, take(g, index, axis=0), zeros), None


put_rows = Primitive(
    "put_rows", _put, _put_rows, vjp=_put_rows_vjp, flops=no_flops, selects=(0, 1),
    op_class=OpClass.UPDATE,
    samples=lambda: [
        sample(numbers(5, 3), numbers(2, 3, seed=1), np.array([4, 0])),
        sample(numbers(4), numbers(3, seed=1), np.array([1, -1, 1], np.int32)),
        sample(strided(3, 2, 4), strided(2, 2, 4, seed=1), np.array([2, 2])),
        sample(numbers(3, 2), numbers(0, 2, seed=1), np.zeros(0, np.int64)),
        sample(numbers(3, 0), numbers(1, 0, seed=1), np.array([1])),
    ],
    error_samples=lambda: [
        refused(IndexError, "outside its axis", numbers(3, 2), numbers(1, 2), np.array([3])),
        refused(IndexError, "outside its axis", numbers(3, 2), numbers(1, 2), np.array([-4])),
        refused(ValueError, "do not fit", numbers(3, 2), numbers(2, 2), np.array([1])),
        refused(ValueError, "do not fit", numbers(3, 2), numbers(1, 2), np.array([[1]])),
        refused(TypeError, "does not take", numbers(3, 2), numbers(1, 2), numbers(1)),
        refused(
            TypeError, "different number types",
            numbers(3, 2), numbers(1, 2, dtype="float32"), np.array([1]),
        ),
    ],
    doc="x with row index[i] replaced by y[i]; of equal indices the last wins.",
)  # fmt: skip  # fmt: skip
