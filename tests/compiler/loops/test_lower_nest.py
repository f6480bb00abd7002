"""Which reductions are done in parts, and in how many. Ground truth: counts by hand.

A sum of n numbers is 2 n units of work: n read, and one store at each turn; 50 000 are a tile.
"""

from __future__ import annotations

import pytest

from tinytorch.base.dtypes import DType, bfloat16, float16, float32, float64
from tinytorch.codegen.kernel import Lowered
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops.expression import Constant, Expression, Load, Op, Reduce, Store
from tinytorch.compiler.loops.lower_nest import LoweredOnce, lower_nest
from tinytorch.compiler.loops.nest import Nest

TARGET = Target.named("vector128")


def summed(sizes: tuple[int, ...], over: set[int], dtype: DType = float32, gap: int = 0) -> Nest:
    """The sum of an array over some axes; its rows lie `gap` numbers apart."""
    strides, total = [0] * len(sizes), 1
    for d in reversed(range(len(sizes))):
        strides[d] = total
        total = total * sizes[d] + gap
    x = Load(dtype, "x", tuple(strides))
    out, total = [0] * len(sizes), 1
    for d in reversed(range(len(sizes))):
        if d not in over:
            out[d] = total
            total *= sizes[d]
    value = Reduce(dtype, "sum", x, frozenset(over))
    return Nest(sizes, frozenset(over), (Store("out", dtype, tuple(out), value),), "sum")


def numbers_kept(nest: Nest) -> int:
    """How many parts of sums the first kernel leaves; 0: it is one kernel."""
    lowered = lower_nest(TARGET, nest)
    assert len(lowered.steps) == 1 + len(lowered.temporaries)
    dtype = nest.stores[0].dtype
    return sum(lowered.temporaries.values()) // (4 if dtype.itemsize == 2 else dtype.itemsize)


@pytest.mark.parametrize(("n", "parts"), [
    (49_998, 0),  # less than two tiles
    (50_000, 2),
    (99_991, 0),  # a prime
    (3 * 33_331, 3),  # as many as divide it, at most the tiles
    (800_000, 16),  # at most 16
    (61 * 1013, 61),  # no divisor is small enough: the smallest
    (67 * 1009, 0),  # and that is too large
])  # fmt: skip
def test_parts_of_one_sum(n, parts):
    """Closed form: the largest divisor of n up to the tiles it is worth, or its smallest."""
    assert numbers_kept(summed((n,), {0})) == parts


def test_parts_of_sums_of_rows_and_of_columns():
    """Closed form: as many parts as leave each a tile; 64 columns are one independent result."""
    assert numbers_kept(summed((3, 50_000), {1})) == 2 * 3
    assert numbers_kept(summed((3, 49_992), {1})) == 0
    assert numbers_kept(summed((782, 64), {0})) == 2 * 64
    assert numbers_kept(summed((780, 64), {0})) == 0
    assert numbers_kept(summed((782, 128), {0})) == 2 * 128
    assert numbers_kept(summed((600, 128), {0})) == 0
    assert numbers_kept(summed((5_000, 10), {0})) == 2 * 10


def test_the_longest_loop_is_cut():
    """Closed form: of two reduced loops that are not one in memory, (4, 15 000) and turned."""
    for sizes in ((4, 15_000), (15_000, 4)):
        lowered = lower_nest(TARGET, summed(sizes, {0, 1}, gap=3))
        assert list(lowered.temporaries.values()) == [2 * 4]
        first, second = (s.kernel for s in lowered.steps)
        assert first.label == "sum (parts)" and second.label == "sum"
        assert first.flops == 60_000 and second.flops == 2


@pytest.mark.parametrize(("dtype", "size"), [(float16, 4), (bfloat16, 4), (float64, 8)])
def test_parts_of_narrow_sums_are_wide(dtype, size):
    """Closed form: float32 for 16-bit floats."""
    assert lower_nest(TARGET, summed((50_000,), {0}, dtype)).temporaries == {
        "temporary.part0": 2 * size
    }


def test_what_is_not_cut():
    """A sum that waits for another, a store at each point, a store without a sum, and nothing."""
    x = Load(float32, "x", (1,))
    over = frozenset([0])
    total = Reduce(float32, "sum", x, over)

    def cut(*stores: Store, n: int = 200_000) -> bool:
        return bool(lower_nest(TARGET, Nest((n,), over, stores)).temporaries)

    def to(value: Expression, stride: int = 0) -> Store:
        return Store("out", float32, (stride,), value)

    assert cut(to(total)) and cut(to(Op(float32, "exp", (total,))))
    assert not cut(to(Reduce(float32, "sum", Op(float32, "sub", (x, total)), over)))
    assert not cut(to(Op(float32, "sub", (x, total)), 1))
    assert not cut(to(total), Store("other", float32, (0,), Constant(float32, 1)))
    assert not cut(to(total), n=0)
    both = lower_nest(TARGET, Nest((200_000,), over, (
        to(total), Store("other", float32, (0,), Reduce(float32, "max", x, over)),
    )))  # fmt: skip
    assert len(both.temporaries) == 2 and len(both.steps) == 2


def test_a_single_point_is_a_kernel():
    """Closed form: one tile, one operation, one number stored."""
    stores = (Store("out", float32, (), Op(float32, "exp", (Constant(float32, 3),))),)
    (step,) = lower_nest(TARGET, Nest((), frozenset(), stores)).steps
    assert step.arguments == ("out",) and step.kernel.tiles == 1
    assert step.kernel.bytes == 4 and step.kernel.flops == 1


def test_what_was_used_longest_ago_is_forgotten_first():
    """Closed form: a table of two entries."""
    made, table = list[str](), LoweredOnce(2)

    def get(key: str) -> Lowered:
        def make() -> Lowered:
            made.append(key)
            return Lowered(())

        return table.get(key, make)

    for key in "abacba":
        get(key)
    assert made == ["a", "b", "c", "b", "a"]
