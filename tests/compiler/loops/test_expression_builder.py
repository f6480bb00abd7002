"""From graph values to expressions. Ground truth: strides and operations by hand."""

from __future__ import annotations

import pytest

from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import float32, float64, int32, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.loops.expression import Constant, Iota, Load, Op, Reduce
from tinytorch.compiler.loops.expression_builder import ExpressionBuilder, InRegisters
from tinytorch.compiler.plan.access import (
    Access,
    Coordinate,
    dense_strides,
    identity,
    nowhere,
    plain,
    unit,
)


def builder(d: Draft, sizes, axes=frozenset[int](), stored=(), **more) -> ExpressionBuilder:
    """Arguments, and what else is stored, lie densely; sources of one number are known."""
    producer = d.graph.producers()

    def access(v: Value) -> Access | None:
        if v not in d.graph.arguments and v not in stored:
            return None
        return Access(v, v.shape, dense_strides(v.shape, plain(v)), 100)

    def number(v: Value) -> float | None:
        return producer[v].constant if v in producer else None

    return ExpressionBuilder(sizes, producer, access, lambda v: "x", number, axes, **more)


def test_arithmetic_on_what_is_stored():
    """Closed form: loads, a number, a value in registers; equal values are one expression."""
    d = Draft()
    x, row, held = d.given((4, 6)), d.given((6,)), d.given((4, 6))
    two = d("full", shape=(), value=2.0, dtype=float32)
    product = d("mul", x, d("broadcast_to", row, shape=(4, 6)))
    out = d("add", d("sub", product, two), held)
    given = InRegisters(float32, 2)
    build = builder(d, (4, 6), given={held: given})
    e = build.value(out, identity((4, 6)))
    assert isinstance(e, Op) and e.name == "add" and e.operands[1] is given
    assert given.dims == {0, 1}
    difference = e.operands[0]
    assert isinstance(difference, Op) and difference.name == "sub"
    one, number = difference.operands
    assert isinstance(number, Constant) and number.number == 2.0
    assert isinstance(one, Op)
    a, b = one.operands
    assert isinstance(a, Load) and (a.strides, a.offset) == ((6, 1), 100)
    assert isinstance(b, Load) and (b.strides, b.offset) == ((0, 1), 100)
    assert build.value(out, identity((4, 6))) is e
    assert build.value(x, (nowhere(2), unit(2, 0))) is not a


def test_counts_through_movement():
    """Closed form: an iota of (8, 6) along axis 1, every second element from the first on."""
    d = Draft()
    count = d("iota", shape=(8, 6), axis=1, dtype=int64)
    part = d("slice", count, start=(2, 1), stop=(6, 6), step=(1, 2))
    e = builder(d, (4, 3)).value(part, identity((4, 3)))
    assert isinstance(e, Iota) and (e.strides, e.offset, e.dims) == ((0, 2), 1, {1})


@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_read_the_row_they_belong_to(keepdims):
    """Closed form: kept axes at the coordinates, reduced ones at their own loop."""
    d = Draft()
    x = d.given((4, 5, 6))
    total = d("sum", x, axes=(1,), keepdims=keepdims)
    build = builder(d, (4, 5, 6), frozenset([1]))
    kept = (unit(3, 0), *((nowhere(3),) if keepdims else ()), unit(3, 2))
    e = build.value(total, kept)
    assert isinstance(e, Reduce) and (e.kind, e.over, e.dims) == ("sum", {1}, {0, 2})
    assert isinstance(e.operand, Load) and e.operand.strides == (30, 6, 1)
    along = (unit(3, 1), *kept[1:])
    with pytest.raises(CompileError, match="read in another row"):
        build.value(total, along)
    with pytest.raises(CompileError, match="other axes than its group"):
        builder(d, (4, 5, 6), frozenset([2])).value(total, kept)


def test_reductions_of_single_elements():
    """Closed form: over axes of size 1 nothing is added."""
    d = Draft()
    same = d("sum", d.given((4, 1)), axes=(1,), keepdims=False)
    build = builder(d, (4, 1), frozenset([1]))
    e = build.value(same, (unit(2, 0),))
    assert isinstance(e, Load) and e.strides == (1, 0)
    both = d("sum", d.given((1, 7)), axes=(0, 1), keepdims=False)
    e = builder(d, (1, 7), frozenset([0, 1])).value(both, ())
    assert isinstance(e, Reduce) and e.over == {1}


@pytest.mark.parametrize("dtype", [int32, int64])
def test_lookups(dtype):
    """Closed form: take(x, i, axis=1) of (3, 9, 5, 2) with (2, 4) places is (3, 2, 4, 5, 2)."""
    d = Draft()
    x, i = d.given((3, 9, 5, 2), float64), d.given((2, 4), dtype)
    rows = d("take", x, i, axis=1)
    assert rows.shape == (3, 2, 4, 5, 2)
    e = builder(d, rows.shape).value(rows, identity(rows.shape))
    assert isinstance(e, Load) and (e.strides, e.offset) == ((90, 0, 0, 2, 1), 100)
    ((place, stride, size),) = e.lookup
    assert (stride, size) == (10, 9) and place.dtype is int64 and e.dims == {0, 1, 2, 3, 4}
    if dtype is int32:
        assert isinstance(place, Op) and place.name == "cast"
        (place,) = place.operands
    assert isinstance(place, Load) and (place.strides, place.offset) == ((0, 4, 1, 0, 0), 100)


def test_what_no_kernel_can_compute():
    """A real reshape of what is computed, and a table that is."""
    d = Draft()
    x, i = d.given((4, 6)), d.given((2,), int64)
    y = d("neg", x)
    flat, ones = d("reshape", y, shape=(24,)), d("reshape", y, shape=(4, 1, 6))
    rows = d("take", y, i, axis=0)
    with pytest.raises(CompileError, match="a reshape of a value that is not stored"):
        builder(d, (24,)).value(flat, identity((24,)))
    e = builder(d, (4, 1, 6)).value(ones, identity((4, 1, 6)))
    assert isinstance(e, Op) and e.dims == {0, 2}
    with pytest.raises(CompileError, match="a table that is not stored"):
        builder(d, (2, 6)).value(rows, identity((2, 6)))
    assert builder(d, (2, 6), stored=(y,)).value(rows, (unit(2, 0), Coordinate((0, 1)))).inputs
