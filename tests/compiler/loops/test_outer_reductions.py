"""Sums down the columns of an array: blocks cover every column once and none beyond."""

import pytest

from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import DType, float16, float32, float64
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops.expression import Load, Reduce, Store
from tinytorch.compiler.loops.nest import Nest
from tinytorch.compiler.loops.outer_reductions import OuterPlan, outer_kernel, plan_outer


@pytest.mark.parametrize("columns", [1, 16, 17, 64, 65, 128, 200])
def test_blocks_cover_the_columns(columns):
    """Closed form: as many blocks of width x vectors as are needed, for each row that is kept."""
    plan = OuterPlan(Nest((3, 50, columns), frozenset({1}), (), "sum"), (0,), (1,), 16, 4, 2)
    assert (plan.blocks - 1) * 64 < columns <= plan.blocks * 64
    assert plan.groups == 3 * plan.blocks
    assert (plan.tiles - 1) * 2 < plan.groups <= plan.tiles * 2


@pytest.mark.parametrize("columns", [16, 17, 64, 128])
def test_sums_of_columns_stay_in_their_row(columns):
    """Ground truth: the definition, and the bytes around the result (compiled.py)."""
    d = Draft()
    d.check(d("sum", d.given((70, columns)), axes=(0,), keepdims=False))


TARGET = Target.named("vector128")  # 4 lanes


def sums(rows: int, columns: int, dtype: DType = float32, before: int = 1) -> Nest:
    """Sums down the columns of `before` arrays."""
    x = Load(dtype, "x", (rows * columns, columns, 1))
    over = frozenset([1])
    store = Store("out", dtype, (columns, 0, 1), Reduce(dtype, "sum", x, over))
    return Nest((before, rows, columns), over, (store,), "sum")


@pytest.mark.parametrize(("columns", "width", "vectors", "blocks"), [
    (1, 1, 1, 1), (2, 2, 1, 1), (3, 4, 1, 1), (4, 4, 1, 1), (5, 4, 2, 1), (12, 4, 3, 1),
    (13, 4, 4, 1), (16, 4, 4, 1), (17, 4, 4, 2), (160, 4, 4, 10),
])  # fmt: skip
def test_blocks_of_columns(columns, width, vectors, blocks):
    """Closed form: at most four vectors side by side."""
    plan = plan_outer(TARGET, sums(3, columns))
    assert (plan.width, plan.vectors, plan.blocks) == (width, vectors, blocks)
    assert plan.kept == (0,) and plan.over == (1,) and plan.groups == blocks


@pytest.mark.parametrize(("rows", "columns", "before", "per_tile", "tiles"), [
    (10, 160, 1, 10, 1),  # less than a tile of work
    (500, 160, 1, 3, 4),  # 160 000 units are three tiles; three blocks in each, and one
    (500, 160, 3, 3, 10),  # nine tiles of work, 30 blocks
    (500_000, 160, 1, 1, 10),
    (0, 160, 1, 10, 1),
])  # fmt: skip
def test_tiles_of_columns(rows, columns, before, per_tile, tiles):
    """Closed form: blocks shared among the tiles they are worth."""
    plan = plan_outer(TARGET, sums(rows, columns, before=before))
    assert (plan.blocks_per_tile, plan.tiles) == (per_tile, tiles)


def test_what_a_kernel_counts():
    """Closed form: an addition at each point, and bytes of what is read and written."""
    kernel = outer_kernel(TARGET, sums(7, 20, float64, before=2))
    assert kernel.flops == 2 * 7 * 20 and kernel.bytes == 2 * 7 * 20 * 8 + 2 * 20 * 8
    assert (kernel.label, kernel.tiles, kernel.arguments) == ("sum", 1, ("x", "out"))


@pytest.mark.parametrize("columns", [1, 3, 16, 17, 40])
def test_statistics_of_columns(columns):
    """Ground truth: the definition: two sums of one pass, a maximum, and arithmetic on them, of
    arrays with reduced loops around kept ones."""
    d = Draft()
    x, y = d.given((2, 3, 7, columns)), d.given((5, columns), float16)
    sums = [d("sum", v, axes=(0, 2), keepdims=False) for v in (x, d("mul", x, x))]
    most = d("max", x, axes=(0, 2), keepdims=False)
    d.check(d("add", *sums), most, d("sum", y, axes=(0,), keepdims=True))
