"""Loops that reach outside their buffers or disturb each other are refused.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.compiled import targets
from tinytorch.base.dtypes import float32, float64, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.loops.expression import (
    Constant,
    Iota,
    Load,
    Op,
    Reduce,
    Store,
    describe,
)
from tinytorch.compiler.loops.inner_reductions import inner_kernel
from tinytorch.compiler.loops.lower_nest import lower_nest
from tinytorch.compiler.loops.nest import (
    Nest,
    arguments_of,
    from_first,
    normalise,
    reduced_innermost,
    reductions,
    split_dimension,
    verify_nest,
)
from tinytorch.compiler.loops.outer_reductions import outer_kernel
from tinytorch.compiler.plan.access import bounds, nested

TARGET = targets()[-1]
SIZES, OVER = (4, 8), frozenset([1])
X = Load(float32, "x", (8, 1))
COLUMN = Load(float32, "x", (1, 0))


def total(over=OVER) -> Reduce:
    return Reduce(float32, "sum", X, over)


def shares(outer: int = 8, inner: int = 1) -> Nest:
    """x / x.sum(1): something is stored at each point of the reduced loop."""
    share = Op(float32, "div", (X, total()))
    return Nest(SIZES, OVER, (Store("out", float32, (outer, inner), share),), "sum+div")


def test_a_kernel_of_columns_does_not_store_along_its_reduced_loops():
    """Fault: rows of an image that lies channels-last, and of a column plus a row."""
    share = Op(float32, "div", (X, Reduce(float32, "sum", X, frozenset([0]))))
    stored = Store("out", float32, (8, 1), share)
    with pytest.raises(CompileError, match="kernel of columns was asked to store along"):
        outer_kernel(TARGET, Nest(SIZES, frozenset([0]), (stored,)))
    with pytest.raises(CompileError, match="kernel of columns"):
        outer_kernel(TARGET, shares())  # and its last loop is reduced
    with pytest.raises(CompileError, match="kernel of rows was asked to reduce"):
        inner_kernel(TARGET, Nest(SIZES, frozenset([0]), (stored,)))
    assert lower_nest(TARGET, Nest(SIZES, frozenset([0]), (stored,))).steps


NBYTES = {"x": 128, "out": 128, "state": 256}
PLACE = Store("out", float32, (8, 1), X)
BAD_LOOPS = {
    "reaches outside": (
        replace(PLACE, value=Load(float32, "x", (8, 2))),
        replace(PLACE, value=Load(float32, "x", (8, 1), -1)),
        replace(PLACE, strides=(8, 2)),
        replace(PLACE, offset=1),
        replace(PLACE, strides=(-8, 1)),
        replace(PLACE, value=Load(float32, "x", (0, 1), 0, ((Constant(int64, 0), 8, 5),))),
    ),
    "write different numbers to one place": (
        replace(PLACE, strides=(8, 0)), replace(PLACE, strides=(0, 1)),
        replace(PLACE, strides=(0, 0), value=COLUMN),
    ),
    "two turns of its loops write one place": (replace(PLACE, strides=(1, 1)),),
    "runs over other loops": (
        replace(PLACE, strides=(0, 0), value=total(frozenset([0, 1]))),
        replace(PLACE, value=Op(float32, "div", (X, total(frozenset([0]))))),
    ),
    "reads what another of its turns writes": (
        Store("state", float32, (8, 1), Load(float32, "state", (8, 1), 1)),
        Store("state", float32, (8, 1), Load(float32, "state", (8, 1)), 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("problem", BAD_LOOPS)
def test_loops_that_are_wrong(problem):
    """Reads outside an array, stores along a loop, a kernel that reads what it overwrites."""
    for store in BAD_LOOPS[problem]:
        with pytest.raises(CompileError, match=problem):
            verify_nest(Nest(SIZES, OVER, (store,), "damaged"), NBYTES)


def test_loops_that_are_right():
    """In place, backwards, repeated, looked up, results of rows, beside each other, and nothing."""
    for store in (
        PLACE, replace(PLACE, value=Load(float32, "x", (-8, -1), 31)),
        replace(PLACE, value=COLUMN), replace(PLACE, strides=(1, 0), value=total()),
        replace(PLACE, value=Load(float32, "x", (0, 1), 0, ((Constant(int64, 0), 8, 4),))),
        Store("x", float32, (8, 1), Op(float32, "exp", (X,))),
        Store("x", float32, (8, 2), Load(float32, "x", (8, 2), 1)),
    ):  # fmt: skip
        sizes = (4, 4) if store.strides == (8, 2) else SIZES
        verify_nest(Nest(sizes, OVER, (store,), "right"), NBYTES)
    verify_nest(shares(), NBYTES)
    verify_nest(Nest((0, 8), OVER, (replace(PLACE, offset=999),)), NBYTES)


def test_strides():
    """Closed form."""
    assert bounds((8, -1), (4, 8), 7) == (0, 31)
    assert nested((8, -1), (4, 8)) and not nested((7, 1), (4, 8)) and nested((0, 1), (1, 8))


def copy(sizes: tuple[int, ...], strides: tuple[int, ...], **more) -> Nest:
    """The array x copied, both with these strides."""
    x = Load(float32, "x", strides, **more)
    return Nest(sizes, frozenset(), (Store("out", float32, strides, x),))


def test_units_of_work_and_tiles():
    """Closed form: what is read and stored, two more for what is costly (or begins with it), and
    one for each four expressions; 50 000 units are a tile, and 64 tiles are enough."""
    assert copy((10, 20), (20, 1)).units == 10 * 20 * 2
    e = Op(float32, "neg", (Op(float32, "exp", (X,)),))
    assert Nest((4, 8), frozenset(), (replace(PLACE, value=e),)).units == 32 * (1 + 1 + 2 * 2)
    e = Op(float32, "neg", (Op(float32, "abs", (Op(float32, "neg", (X,)),)),))
    nest = Nest((4, 8), frozenset(), (replace(PLACE, value=e), replace(PLACE, argument="more")))
    assert nest.units == 32 * (1 + 2 + 1) and nest.points == 32 and nest.roots == [e, X]
    for n, tiles in ((0, 1), (1, 1), (49_999, 1), (50_000, 2), (1_599_999, 63), (9_999_999, 64)):
        assert copy((n,), (1,)).tiles_wanted == tiles


def test_stores_inside_a_reduction():
    """Closed form: those with a number for each point of the reduced loops."""
    row = Store("rows", float32, (1, 0), total())
    (share,) = shares().stores
    nest = replace(shares(), stores=(share, row))
    assert nest.inside == [share]
    assert replace(nest, reduced=frozenset()).inside == []
    wide = Store("out", float32, (8, 1), total())  # the same number at each
    assert replace(nest, stores=(wide, row)).inside == [wide]


def test_which_loads_meet_a_store_of_another_turn():
    """Closed form: x[i, j] = x[i, j + gap]: a whole number of turns of one loop away, and no
    further than that loop goes."""
    for gap, meets in (
        (0, False),
        (1, True),
        (7, True),
        (8, True),
        (9, False),
        (24, True),
        (32, False),
    ):
        for sign in (1, -1):
            low = 64 if sign < 0 else 0
            store = Store("x", float32, (8, 1), Load(float32, "x", (8, 1), low + sign * gap), low)
            nest = Nest(SIZES, frozenset(), (store,))
            if meets:
                with pytest.raises(CompileError, match="another of its turns"):
                    verify_nest(nest, {"x": 1024})
            else:
                verify_nest(nest, {"x": 1024})
    other = Store("x", float32, (8, 1), Load(float32, "x", (1, 8), 1))
    verify_nest(Nest(SIZES, frozenset(), (other,)), {"x": 1024})  # who knows
    looked = Load(float32, "x", (8, 1), 1, ((Constant(int64, 0), 8, 2),))
    verify_nest(Nest(SIZES, frozenset(), (Store("x", float32, (8, 1), looked),)), {"x": 1024})


def test_lookups_stay_inside():
    """Closed form: the last and, for a backward axis, the first row that an index can name; an
    axis without elements is refused by the check of indices."""
    for lookup, offset, fits in (
        ((0, 8, 4), 0, True), ((0, 8, 5), 0, False), ((0, -8, 4), 24, True),
        ((0, -8, 4), 23, False), ((0, 8, 0), 99, True), ((0, 8, 4), -1, False),
    ):  # fmt: skip
        index, stride, size = lookup
        load = Load(float32, "x", (0, 1), offset, ((Constant(int64, index), stride, size),))
        nest = Nest(SIZES, frozenset(), (replace(PLACE, value=load),))
        if fits:
            verify_nest(nest, NBYTES)
        else:
            with pytest.raises(CompileError, match="reaches outside"):
                verify_nest(nest, NBYTES)


def test_loops_that_are_one_in_memory_become_one():
    """Closed form: sizes and strides of copies; loops of one turn are dropped, the longest step
    is outermost, and a gap between rows keeps them apart."""
    for nest, sizes, strides in (
        (copy((3, 4, 5), (20, 5, 1)), (60,), (1,)),
        (copy((3, 4, 5), (24, 6, 1)), (12, 5), (6, 1)),
        (copy((3, 1, 5), (5, 7, 1)), (15,), (1,)),
        (copy((5, 4, 3), (1, 5, 20)), (60,), (1,)),
        (copy((4, 3), (1, 5)), (3, 4), (5, 1)),
        (copy((2, 3, 4), (1, -9, 3)), (3, 4, 2), (-9, 3, 1)),
        (copy((2, 3, 4), (1, -8, 2)), (3, 8), (-8, 1)),
        (copy((1, 1), (9, 9)), (), ()),
    ):  # fmt: skip
        made = normalise(nest)
        assert made.sizes == sizes and made.stores[0].strides == strides
        load = made.roots[0]
        assert isinstance(load, Load) and load.strides == strides
    turned = Load(float32, "x", (1, 3))
    nest = Nest((3, 4), frozenset(), (Store("out", float32, (4, 1), turned),))
    assert normalise(nest).sizes == (3, 4)
    count = Iota(float32, (0, 1))
    nest = Nest((3, 4), frozenset(), (Store("out", float32, (4, 1), count),))
    assert normalise(nest).sizes == (3, 4)  # it counts anew in each row


def test_loops_of_reductions():
    """Closed form: kept and reduced loops stay apart; what a sum reads says in which order its
    loops run."""
    x = Load(float32, "x", (60, 12, 4, 1))
    over = frozenset([2, 3])
    store = Store("out", float32, (5, 1, 0, 0), Reduce(float32, "sum", x, over))
    made = normalise(Nest((2, 5, 3, 4), over, (store,)))
    assert made.sizes == (10, 12) and made.reduced == {1}
    assert made.stores[0].strides == (1, 0)
    (total,) = reductions(made)
    assert total.over == {1} and isinstance(total.operand, Load)
    assert total.operand.strides == (12, 1)
    column = Load(float32, "x", (1, 6))
    over = frozenset([0])
    store = Store("out", float32, (0, 1), Reduce(float32, "sum", column, over))
    made = normalise(Nest((6, 4), over, (store,)))
    assert made.sizes == (4, 6) and made.reduced == {1}
    made = reduced_innermost(Nest((6, 4), over, (store,)))
    assert made.sizes == (4, 6) and made.reduced == {1} and made.stores[0].strides == (1, 0)


def test_a_loop_in_two():
    """Closed form: 3 turns of 4 in place of 12, in each place of the list of loops."""
    x = Load(float32, "x", (100, 7, 1), 5)
    for dim, sizes, strides, over in (
        (0, (3, 2, 4, 5), (200, 100, 7, 1), {2}), (1, (6, 2, 2, 5), (100, 14, 7, 1), {1, 2}),
    ):  # fmt: skip
        value = Reduce(float32, "sum", x, frozenset([1]))
        nest = Nest((6, 4, 5), frozenset([1]), (Store("out", float32, (5, 0, 1), value, 3),), "sum")
        made = split_dimension(nest, dim, sizes[dim])
        assert made.sizes == sizes and made.reduced == over and made.label == "sum"
        (total,) = reductions(made)
        assert total.over == over and isinstance(total.operand, Load)
        assert (total.operand.strides, total.operand.offset) == (strides, 5)
        wanted = (10, 5, 0, 1) if dim == 0 else (5, 0, 0, 1)
        assert (made.stores[0].strides, made.stores[0].offset) == (wanted, 3)


def test_reductions_in_the_order_they_are_finished():
    """Closed form: levels of sums of sums."""
    first = total()
    second = Reduce(float32, "sum", Op(float32, "sub", (X, first)), OVER)
    third = Reduce(float32, "max", Op(float32, "mul", (second, first)), OVER)
    store = Store("out", float32, (1, 0), Op(float32, "add", (third, first)))
    assert [r.level for r in reductions(Nest(SIZES, OVER, (store,)))] == [1, 2, 3]
    assert arguments_of((store, PLACE)) == ("x", "out")


def test_a_kernel_does_not_know_where_it_works():
    """Closed form: each buffer from its lowest offset on, places of one buffer as far apart as
    before, also below looked-up places; no buffer of two element sizes is moved."""

    def stores_at(x: int, index: int, y: int) -> tuple[Store, ...]:
        row = Load(float32, "x", (1,), x, ((Load(int64, "i", (1,), index), 4, 9),))
        value = Op(float32, "add", (Load(float32, "x", (1,), x + 8), row))
        return Store("y", float32, (2,), value, y), Store("z", float32, (1,), row)

    stores, begins = from_first(stores_at(12, 3, 7))
    assert begins == {"x": 48, "i": 24, "y": 28}
    assert describe(stores) == describe(stores_at(0, 0, 0))
    assert from_first(stores) == (stores, {})
    two = (Store("x", float64, (1,), Op(float64, "cast", (Load(float32, "x", (1,), 8),)), 2),)
    assert from_first(two) == (two, {})


def test_loops_of_one_turn_write_one_place():
    """Closed form: a loop of one turn needs no step, a loop of two does."""
    for sizes, fits in (((1, 8), True), ((2, 8), False)):
        nest = Nest(sizes, frozenset(), (replace(PLACE, strides=(0, 1)),))
        if fits:
            verify_nest(nest, NBYTES)
        else:
            with pytest.raises(CompileError, match="different numbers to one place"):
                verify_nest(nest, NBYTES)
