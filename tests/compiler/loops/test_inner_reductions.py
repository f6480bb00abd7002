"""Kernels of rows: tiles, memory of a thread, and what is counted. Ground truth: closed forms.

A plain copy of n numbers is 2 n units of work, and 50 000 are a tile; vectors have 4 lanes.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import DType, bool_, float32, float64, int8, int32, int64, uint8
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops.expression import Load, Op, Reduce, Store
from tinytorch.compiler.loops.inner_reductions import inner_kernel, plan_inner, width_for
from tinytorch.compiler.loops.nest import Nest

TARGET = Target.named("vector128")


@pytest.mark.parametrize(("size", "width"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (900, 4)])
def test_lanes_of_short_loops(size, width):
    """Closed form: the fewest that hold the loop, at most a vector of float32."""
    assert width_for(TARGET, size) == width


def copied(*sizes: int, gap: int = 1) -> Nest:
    """A copy of rows that are not one in memory."""
    strides, total = [0] * len(sizes), 1
    for d in reversed(range(len(sizes))):
        strides[d], total = total, total * sizes[d] + gap
    x = Load(float32, "x", tuple(strides))
    return Nest(sizes, frozenset(), (Store("out", float32, tuple(strides), x),))


@pytest.mark.parametrize(("sizes", "rows", "rows_per_tile", "chunk", "tiles"), [
    ((100,), 1, 1, 100, 1),
    ((100_000,), 1, 1, 25_008, 4),  # four tiles, in whole blocks of 16
    ((10, 100_000), 10, 1, 25_008, 40),
    ((3, 50_000), 3, 1, 25_008, 6),  # 6 tiles for 3 rows
    ((4, 25_000), 4, 1, 25_000, 4),  # a row is a tile
    ((100, 1000), 100, 25, 1000, 4),
    ((7, 100, 1000), 700, 25, 1000, 28),
    ((101, 1000), 101, 26, 1000, 4),
    ((0, 5), 0, 1, 16, 0),
    ((5, 0), 5, 5, 1, 0),
])  # fmt: skip
def test_tiles_of_copies(sizes, rows, rows_per_tile, chunk, tiles):
    """Closed form: rows shared among the tiles that are worth it; few rows are cut."""
    plan = plan_inner(TARGET, copied(*sizes))
    found = (plan.rows, plan.rows_per_tile, plan.chunk, plan.tiles)
    assert found == (rows, rows_per_tile, chunk, tiles)
    assert plan.outer == len(sizes) - 1 and plan.inner == sizes[-1:]


def test_a_short_loop_is_not_cut_below_a_block():
    """Closed form: 16 lanes; of (2, 20) with work for many tiles each row is two."""
    x = Load(float32, "x", (30, 1))
    many = tuple(Store(f"out{i}", float32, (30, 1), x) for i in range(4000))
    plan = plan_inner(TARGET, Nest((2, 20), frozenset(), many))
    assert (plan.chunk, plan.chunks, plan.tiles) == (16, 2, 4)


def test_rows_of_a_reduction_stay_whole():
    """Closed form: both reduced loops are the row; a sum of nothing is still written."""
    x = Load(float32, "x", (500_000, 1000, 1))
    over = frozenset([1, 2])
    stores = (Store("out", float32, (1, 0, 0), Reduce(float32, "sum", x, over)),)
    plan = plan_inner(TARGET, Nest((3, 400, 900), over, stores))
    assert (plan.outer, plan.rows, plan.inner, plan.chunks, plan.tiles) == (1, 3, (400, 900), 1, 3)
    empty = plan_inner(TARGET, Nest((3, 400, 0), over, stores))
    assert (empty.chunks, empty.tiles) == (1, 1)


def shares(length: int, dtype: DType = float32, name: str = "exp", rows: int = 3) -> Nest:
    """f(x) / sum(f(x)) along rows."""
    over = frozenset([1])
    e = Op(dtype, name, (Load(dtype, "x", (length, 1)),))
    share = Op(dtype, "div", (e, Reduce(dtype, "sum", e, over)))
    return Nest((rows, length), over, (Store("out", dtype, (length, 1), share),), "shares")


def test_costly_values_of_a_row_are_kept():
    """Closed form: once for each number of a row and a vector less one, in lines of 64 bytes;
    none of a cheap function, of one loop, or of one number for each row."""
    assert inner_kernel(TARGET, shares(13)).scratch == 64
    assert inner_kernel(TARGET, shares(14)).scratch == 128
    assert inner_kernel(TARGET, shares(13, float64)).scratch == 128
    assert inner_kernel(TARGET, shares(13, name="neg")).scratch == 0
    over, x = frozenset([1]), Load(float32, "x", (13, 1))
    e, row = Op(float32, "exp", (x,)), Op(float32, "exp", (Load(float32, "x", (13, 0)),))
    total, most = (Reduce(float32, "sum", v, over) for v in (e, Op(float32, "tanh", (x,))))
    for value, scratch in (
        (Op(float32, "div", (x, total)), 0),
        (Op(float32, "div", (row, Reduce(float32, "sum", Op(float32, "mul", (x, row)), over))), 0),
        (Op(float32, "add", (Op(float32, "add", (e, most.operand)),
                             Op(float32, "add", (total, most)))), 128),
    ):  # fmt: skip
        stores = (Store("out", float32, (13, 1), value),)
        assert inner_kernel(TARGET, Nest((3, 13), over, stores)).scratch == scratch


def test_what_a_kernel_counts():
    """Closed form: operations at each point, and bytes of each array that is read or written."""
    kernel = inner_kernel(TARGET, shares(13))
    assert kernel.flops == 3 * 13 * 3 and kernel.bytes == 2 * 3 * 13 * 4
    assert kernel.label == "shares" and kernel.arguments == ("x", "out")
    over = frozenset([1])
    x, row = Load(float64, "x", (13, 1)), Load(float32, "y", (0, 1))
    value = Reduce(float64, "sum", Op(float64, "mul", (x, Op(float64, "cast", (row,)))), over)
    kernel = inner_kernel(TARGET, Nest((3, 13), over, (Store("out", float64, (1, 0), value),)))
    assert kernel.flops == 3 * 13 * 2 and kernel.bytes == 3 * 13 * 8 + 13 * 4 + 3 * 8


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 8, 31, 32, 33, 47, 48, 64, 100])
def test_sums_of_rows_of_every_length(columns):
    """Ground truth: the definition, and the bytes around the result (compiled.py): vectors, four
    at a time, then one, then a part of one, with a maximum and shares of the row in between."""
    d = Draft()
    x = d.given((3, columns))
    most = d("max", x, axes=(1,), keepdims=True)
    above = d("sub", x, most)
    total = d("sum", above, axes=(1,), keepdims=True)
    d.check(d("add", above, total), d("sum", d("mul", x, x), axes=(1,), keepdims=False))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dtype", [int8, int32, int64, uint8, float32], ids=repr)
def test_extremes_of_one_sign(dtype, name, axis):
    """Ground truth: the numbers; what a reduction begins with is beyond all of them.

    Also for reductions over columns: both take what they begin with from elementwise.py.
    """
    d = Draft()
    x = d.given((5, 37), dtype)
    numbers = np.arange(5 * 37).reshape(5, 37) % 100 + 3
    if name == "max" and dtype.kind != "u":
        numbers = -numbers
    d.arrays[x] = numbers.astype(dtype.storage)
    d.check(d(name, x, axes=(axis,), keepdims=False))


@pytest.mark.parametrize("name", ["any", "all"])
def test_verdicts_begin_with_what_changes_nothing(name):
    """Ground truth: the truth table, of rows that are all true, all false, and mixed."""
    d = Draft()
    x = d.given((3, 37), bool_)
    d.arrays[x] = np.stack([np.ones(37, bool), np.zeros(37, bool), np.arange(37) % 2 == 0])
    d.check(d(name, x, axes=(1,), keepdims=False), d(name, x, axes=(0,), keepdims=False))
