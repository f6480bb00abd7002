"""What kernels are told of memory is what lies there.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, float32, float64, int32, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.loops.expression import Constant, InRegisters, Iota, Load, Op, Reduce
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.access import (
    Access,
    Coordinate,
    dense_strides,
    identity,
    nowhere,
    plain,
    unit,
)
from tinytorch.compiler.plan.lowering import (
    ExpressionBuilder,
    PlanReader,
    store_coordinates,
    verify_access,
    verify_layouts,
)
from tinytorch.compiler.plan.stages import Group, Paths, Placement, Storage
from tinytorch.primitives.primitive import Spec, store

TARGET = targets()[-1]


def test_a_view_that_leaves_its_array():
    """Fault: 1 x 1 convolutions read beside a view; no kernel may be given such strides."""
    d = Draft()
    x = d.given((4, 4))
    place = Placement(Storage("temporary", 64, x), (4, 1))
    verify_access(Access(x, (2, 4), (8, 1), 4), d.given((2, 4)), place)
    for access in (Access(x, (2, 4), (16, 1)), Access(x, (2, 4), (-8, 1), 4)):
        with pytest.raises(CompileError, match="a view reaches outside"):
            verify_access(access, d.given((2, 4)), place)


def test_a_kernel_that_was_not_told_where_its_arrays_lie():
    """Fault: random bits joined by a concatenation were all written at its beginning."""
    d = Draft()
    d.graph.results = [d("cumsum", d.given((4, 3)), axis=0)]
    buffers = stage(d.graph, TARGET, "assign buffers")
    (group,) = buffers.fused.groups
    (out,) = group.called.outputs
    verify_layouts(group, set(), buffers.of)
    of = {**buffers.of, out: replace(buffers.of[out], strides=(1, 4))}
    verify_layouts(group, {out}, of)
    with pytest.raises(CompileError, match="does not know the layout of its arrays"):
        verify_layouts(group, set(), of)
    of[out] = replace(of[out], strides=(3, 1), offset=12)
    with pytest.raises(CompileError, match="does not know the layout"):
        verify_layouts(group, set(group.called.inputs), of)


def test_numbers_that_are_fixed_now():
    """Closed form: one stored number, through movement, also in bfloat16; a source; else none."""
    d = Draft()
    narrow, one, two = (
        Value(Spec((1,), bfloat16)),
        Value(Spec((), float32)),
        Value(Spec((2,), float32)),
    )
    d.graph.constants = {
        narrow: store(np.array([1.5]), bfloat16), one: np.array(2.5, np.float32),
        two: np.ones(2, np.float32),
    }  # fmt: skip
    wide = d("broadcast_to", narrow, shape=(4,))
    full = d("permute", d("full", shape=(2, 3), value=7.0, dtype=float32), axes=(1, 0))
    count = d("iota", shape=(4,), axis=0, dtype=float32)
    x = d.given((1,))
    d.graph.results = [d("add", wide, d.given((4,), bfloat16))]
    reader = PlanReader(stage(d.graph, TARGET, "materialize"), {})
    reader.producer, reader.graph = d.graph.producers(), d.graph
    reader.paths = Paths(reader.producer, frozenset())
    found = [reader.number(v) for v in (narrow, wide, one, two, full, count, x)]
    assert found == [1.5, 1.5, 2.5, None, 7.0, None, None]


def test_where_a_group_stores_its_values():
    """Closed form: at its points, or along the kept loops for one number a row."""
    group = Group(0, (2, 3, 5), frozenset([1]), None, False, ())

    def at(*shape: int) -> tuple:
        return store_coordinates(group, Value(Spec(shape, float32)))

    assert at(2, 3, 5) == (unit(3, 0), unit(3, 1), unit(3, 2))
    assert at(2, 5) == (unit(3, 0), unit(3, 2))
    assert at(2, 1, 5) == (unit(3, 0), nowhere(3), unit(3, 2))


def test_views_at_the_ends_of_their_array():
    """Closed form: the first and the last element of a part of memory, and one beyond either."""
    d = Draft()
    x = d.given((4, 4))
    place = Placement(Storage("temporary", 999, x), (8, 1), 10)  # 10 to 37
    two = d.given((2,))
    verify_access(Access(x, (2,), (27,), 10), two, place)
    verify_access(Access(x, (0,), (99,), 99), d.given((0,)), place)
    for strides, offset in (((28,), 10), ((27,), 11), ((27,), 9), ((-1,), 10)):
        with pytest.raises(CompileError, match="a view reaches outside"):
            verify_access(Access(x, (2,), strides, offset), two, place)


def test_views_that_cannot_be_reshaped_are_copied():
    """Ground truth: the definition: of states, of parts, and of what was flipped; and what is read
    twice is copied once."""
    d = Draft()
    x = d.given((4, 6))
    turned = d("reshape", d("permute", x, axes=(1, 0)), shape=(24,))
    part = d("reshape", d("slice", x, start=(1, 1), stop=(4, 5), step=(1, 1)), shape=(12,))
    back = d("reshape", d("flip", x, axes=(1,)), shape=(24,))
    d.graph.results = [d("neg", turned), d("exp", turned), d("abs", part)]
    labels = [t.shown for t in stage(d.graph, TARGET, "lower").tasks]
    assert labels.count("copy") == 2 and len(labels) == 5
    d.check(d("neg", turned), d("abs", part), d("add", back, turned), turned)


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
