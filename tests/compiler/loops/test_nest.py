"""Loops that reach outside their buffers or disturb each other are refused.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.compiled import targets
from tinytorch.base.dtypes import float32, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.loops.expression import Constant, Load, Op, Reduce, Store
from tinytorch.compiler.loops.inner_reductions import inner_kernel
from tinytorch.compiler.loops.lower_nest import lower_nest
from tinytorch.compiler.loops.nest import Nest, verify_nest
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
