"""Sizes of matrix products. Ground truth: counting, and the rules that the plan's notes give."""

from dataclasses import replace

import pytest

from tests.kernels.lowered_runner import AMX, VECTOR_TARGETS
from tinytorch.base.dtypes import bfloat16, float16, float32, float64
from tinytorch.codegen.kernel import Operand
from tinytorch.kernels.gemm_plan import (
    DEPTH,
    TILE_FLOPS,
    GemmSpec,
    plan_amx,
    plan_dot,
    plan_fma,
    suits_amx,
    suits_dot,
)

WIDE = VECTOR_TARGETS["avx512"]


def product(m, n, k, batch=(), dtype=float32, a=None, b=None, **more):
    """A product of dense rows; a, b: (row, column) strides of the last two axes."""

    def operand(rows, columns, last):
        strides, count = [], rows * columns
        for size in reversed(batch):
            strides.insert(0, count)
            count *= size
        return Operand(dtype, (*strides, *(last or (columns, 1))))

    out = replace(operand(m, n, None), dtype=float32)
    return GemmSpec(batch, m, n, k, operand(m, k, a), operand(k, n, b), out, **more)


SHAPES = [(1, 1, 1), (37, 53, 29), (1000, 1000, 1000), (128, 784, 100), (64, 5000, 64), (3, 7, 0)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [(), (3, 50)])
@pytest.mark.parametrize("target", VECTOR_TARGETS)
def test_tiles_cover_the_product(shape, batch, target):
    """Ground truth: counting blocks of rows, panels of columns, and products of the batch."""
    spec, target = product(*shape, batch), VECTOR_TARGETS[target]
    m, n, k = shape
    for plan in (plan_fma(target, spec), plan_dot(target, spec), plan_amx(spec)):
        assert plan.blocks.total == m and sum(plan.blocks.sizes) == m
        assert (plan.panels - 1) * plan.width < n <= plan.panels * plan.width
        assert plan.row_tiles.total == plan.blocks.parts
        assert plan.column_tiles.total == plan.panels
        assert plan.stride_a % plan.lanes == 0 and plan.stride_a >= plan.blocks.largest
        tiles = plan.row_tiles.parts * plan.column_tiles.parts
        assert plan.group == 1 or tiles == 1
        assert plan.group == 1 or plan.group * 2 * m * n * k <= TILE_FLOPS


def test_a_tile_is_about_as_much_work_as_measured():
    """Ground truth: `TILE_FLOPS`; a large product is cut into that many tiles, a small one into
    eight if a few threads gain by it."""
    plan = plan_fma(WIDE, product(1000, 1000, 1000))
    tiles = plan.row_tiles.parts * plan.column_tiles.parts
    assert 2e9 / TILE_FLOPS <= tiles <= 1.3 * 2e9 / TILE_FLOPS
    plan = plan_fma(WIDE, product(100, 100, 100))
    assert 8 <= plan.row_tiles.parts * plan.column_tiles.parts <= 10
    plan = plan_fma(WIDE, product(30, 30, 30))
    assert plan.row_tiles.parts * plan.column_tiles.parts == 1


def test_long_sums_are_cut_into_equal_stretches():
    """Ground truth: up to twice DEPTH at once, else about DEPTH."""
    assert plan_fma(WIDE, product(64, 64, 2 * DEPTH)).depth == 2 * DEPTH
    assert plan_fma(WIDE, product(64, 64, 2 * DEPTH + 1)).depth == -(-(2 * DEPTH + 1) // 3)
    assert plan_amx(product(64, 64, 4096)).depth == 4096
    assert plan_amx(product(64, 64, 4097)).depth == 1376  # a third, and whole instructions of 32


def test_what_is_packed():
    """Ground truth: the rules of `plan_fma`: read in place what needs no conversion and suits the
    cache, copy once what several tiles or products read."""

    def fma(*given, **more):
        plan = plan_fma(WIDE, product(*given, **more))
        return plan.pack_a, plan.pack_b

    assert fma(100, 32, 100) == ("direct", "direct")
    assert fma(100, 32, 100, dtype=float16) == ("tile", "step")
    assert fma(14, 32, 100, dtype=float16) == ("tile", "tile")
    assert fma(100, 32, 100, round_to=bfloat16) == ("tile", "step")
    assert fma(100, 32, 100, round_to=float32) == ("direct", "direct")
    assert fma(100, 3200, 100, dtype=float16) == ("step", "tile")
    assert fma(1000, 3200, 100, dtype=float16) == ("step", "step")
    assert fma(100, 32, 100, b=(1, 100)) == ("direct", "step")  # columns along k: turned
    # rows of b far apart: copied if each number is used often enough
    assert fma(29, 32, 17, b=(257, 1)) == ("direct", "tile")
    assert fma(28, 32, 17, b=(257, 1)) == ("direct", "direct")
    assert fma(29, 32, 16, b=(257, 1)) == ("direct", "direct")
    assert fma(29, 32, 17, b=(256, 1)) == ("direct", "direct")
    # rows of a a multiple of 4 KB apart would fall on each other in the cache
    assert fma(100, 65, 33, a=(1024, 1))[0] != "direct"
    assert fma(100, 65, 33, a=(1023, 1))[0] == "direct"
    assert fma(100, 64, 33, a=(1024, 1))[0] == "direct"
    assert fma(100, 65, 32, a=(1024, 1))[0] == "direct"
    # along m in place while all of it stays in the cache
    assert fma(100, 65, 128, a=(1, 100))[0] == "direct"
    assert fma(100, 65, 129, a=(1, 100))[0] != "direct"
    assert fma(100, 65, 100, a=(2, 200))[0] != "direct"


def test_what_amx_packs():
    """Ground truth: a is read in place where it is rows of bfloat16 and fills a tile."""
    assert plan_amx(product(16, 16, 64, dtype=bfloat16)).pack_a == "direct"
    assert plan_amx(product(15, 16, 64, dtype=bfloat16)).pack_a == "tile"
    assert plan_amx(product(16, 16, 64)).pack_a == "tile"
    assert plan_amx(product(16, 16, 64, dtype=bfloat16, a=(1, 16))).pack_a == "tile"
    assert plan_amx(product(16, 16, 64, dtype=bfloat16)).pack_b == "tile"
    assert plan_amx(product(2000, 2000, 64)).pack_b == "step"
    repeated = product(16, 16, 64, (4,))
    for side in "ab":
        spec = replace(
            repeated, **{side: Operand(float32, (0, *getattr(repeated, side).strides[1:]))}
        )
        assert getattr(plan_amx(spec), f"pack_{side}") == "step"


def test_who_computes_a_product():
    """Ground truth: few rows along k are dot products; bfloat16 goes to AMX tiles."""
    along = (1, 70)
    assert suits_dot(product(2, 9, 70, b=along)) and suits_dot(product(1, 9, 2, b=(1, 2)))
    assert not suits_dot(product(3, 9, 70, b=along))
    assert not suits_dot(product(2, 9, 70))
    assert not suits_dot(product(2, 9, 70, a=(1, 2), b=along))
    assert not suits_dot(product(2, 9, 1, b=(1, 1)))
    assert suits_amx(AMX, product(5, 5, 5, dtype=bfloat16))
    assert suits_amx(AMX, product(5, 5, 5, round_to=bfloat16))
    assert not suits_amx(AMX, product(5, 5, 5))
    assert not suits_amx(AMX, product(5, 5, 0, dtype=bfloat16))
    assert not suits_amx(WIDE, product(5, 5, 5, dtype=bfloat16))


def test_number_type_of_sums():
    """Closed form: float64 stays, everything else is summed in float32."""
    types = [
        plan_fma(WIDE, product(9, 9, 9, dtype=d)).compute for d in (float64, float16, bfloat16)
    ]
    assert types == [float64, float32, float32]
