"""Sizes of matrix products, and their micro-kernels alone.

Ground truths: of sizes counting, and the rules that the plan's notes give; of micro-kernels NumPy.
What packs their operands and what multiplies them is given whole, small numbers: products and sums
are exact in every type.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.lowered_runner import (
    AMX,
    AVX2,
    VECTOR_TARGETS,
    WITHOUT_AMX,
    run_kernel,
    untouched,
)
from tinytorch.base.dtypes import OF_NUMPY, bfloat16, float16, float32, float64, round_to_bfloat16
from tinytorch.codegen.kernel import Operand, named_kernel
from tinytorch.kernels.gemm_arithmetic import (
    AmxTiles,
    Dot,
    MultiplyAdd,
    Sums,
    WordDots,
    arithmetic_of,
)
from tinytorch.kernels.gemm_plan import (
    DEPTH,
    DOT_COLUMNS,
    FAR_AHEAD,
    FAR_ROWS,
    FAR_WIDTH,
    FEW_ROWS,
    PLACES,
    ROWS_OF_A_SET,
    TILE_FLOPS,
    GemmSpec,
    dot_columns,
    of_bfloat16,
    plan_dot,
    plan_fma,
    suits_dot,
    word_plan,
)
from tinytorch.kernels.packing import StripCopy
from tinytorch.kernels.register_tile import PAIRS

WIDE = WITHOUT_AMX


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


def plan_amx(spec):
    return word_plan(AMX, spec, PAIRS)


def plan_pairs(target, spec):
    return word_plan(target, spec, PAIRS)


SHAPES = [(1, 1, 1), (37, 53, 29), (1000, 1000, 1000), (128, 784, 100), (64, 5000, 64), (3, 7, 0)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [(), (3, 50)])
@pytest.mark.parametrize("target", VECTOR_TARGETS)
def test_tiles_cover_the_product(shape, batch, target):
    """Ground truth: counting blocks of rows, panels of columns, and products of the batch."""
    spec, target = product(*shape, batch), VECTOR_TARGETS[target]
    m, n, k = shape
    plans = plan_fma(target, spec), plan_dot(target, spec), plan_pairs(target, spec), plan_amx(spec)
    for plan in plans:
        assert plan.blocks.total == m and sum(plan.blocks.sizes) == m
        assert (plan.panels - 1) * plan.width < n <= plan.panels * plan.width
        assert plan.row_tiles.total == plan.blocks.parts
        assert plan.column_tiles.total == plan.panels
        assert plan.stride_a % plan.lanes == 0 and plan.stride_a >= plan.blocks.largest
        tiles = plan.row_tiles.parts * plan.column_tiles.parts
        assert plan.group == 1 or tiles == 1
        assert plan.group == 1 or plan.group * 2 * m * n * k <= TILE_FLOPS


def test_a_tile_is_about_as_much_work_as_measured():
    """Ground truth: `TILE_FLOPS`; a large product is cut into that many tiles, a small one
    into as many of 2 us as a few threads gain by."""
    plan = plan_fma(WIDE, product(1000, 1000, 1000))
    tiles = plan.row_tiles.parts * plan.column_tiles.parts
    assert 2e9 / TILE_FLOPS <= tiles <= 1.3 * 2e9 / TILE_FLOPS
    for n, least, most in ((30, 1, 1), (64, 2, 2), (100, 4, 8), (128, 8, 16)):
        plan = plan_fma(WIDE, product(n, n, n))
        assert least <= plan.row_tiles.parts * plan.column_tiles.parts <= most


@pytest.mark.parametrize("n", [64, 128, 192, 256, 384, 448])
def test_two_threads_share_a_short_product_evenly(n):
    """Ground truth: counting what the busier of two threads does when each takes the next tile,
    one from the front, one from the back, once it is done with the last: at most 3 % more than
    half of the register blocks."""
    plan = plan_fma(WIDE, product(n, n, n))
    tiles = [i * j for i in plan.row_tiles.sizes for j in plan.column_tiles.sizes]
    done = [0, 0]
    while tiles:
        thread = done.index(min(done))
        done[thread] += tiles.pop(-thread)
    assert max(done) <= 1.03 * plan.blocks.parts * plan.panels / 2


def test_rows_spread_over_a_cache_are_copied():
    """Ground truth: the rule of `SPREAD`, at its bound, and that few rows do not pay for a copy;
    where vectors fill a line those of `FAR_UNCOPIED` are asked for ahead in place of it."""
    assert plan_fma(WIDE, product(1024, 256, 2048)).pack_b == "step"
    assert plan_fma(AVX2, product(256, 256, 1024)).pack_b != "direct"
    assert plan_fma(AVX2, product(255, 256, 1024)).pack_b == "direct"
    assert plan_fma(AVX2, product(1024, 256, 1023)).pack_b == "direct"

    def how(m, n, k, **more):
        plan = plan_fma(WIDE, product(m, n, k, **more))
        return plan.pack_b == "direct", plan.ahead

    assert how(256, 256, 1024) == how(1024, 2048, 16 + 1) == (True, FAR_AHEAD)
    assert how(255, 256, 1024) == how(28, 2048, 1024) == (True, 0)
    assert how(1025, 2048, 1024) == how(1024, 2048, 1025) == (False, 0)
    assert how(1024, 2048, 1024, b_stays=True) == (False, 0)
    assert how(1024, 2048, 1024, b=(1, 1024)) == (False, 0)


def test_a_tile_packs_the_rows_of_a_that_only_it_reads():
    """Ground truth: the rule of `_reads_rows_once`, at its bounds; rows 4 KB apart are packed."""

    def how(m, n, k=1024):
        plan = plan_fma(WIDE, product(m, n, k))
        return plan.pack_a, plan.column_tiles.parts == 1

    assert how(4096, 256) == how(1024, 256) == ("tile", True)
    assert how(1023, 256) == how(4096, 257) == ("step", False)
    assert plan_fma(WIDE, product(512, 128, 2048)).row_tiles.parts == 8  # `LEAST_TILES`
    # rows that lie otherwise are far apart for each
    turned = plan_fma(AVX2, product(4096, 256, 1024, a=(1, 4096)))
    assert (turned.pack_a, turned.column_tiles.parts > 1) == ("step", True)


def test_long_sums_are_cut_into_equal_stretches():
    """Ground truth: up to twice DEPTH at once, else about DEPTH."""
    assert plan_fma(WIDE, product(64, 64, 2 * DEPTH)).depth == 2 * DEPTH
    assert plan_fma(WIDE, product(64, 64, 2 * DEPTH + 1)).depth == -(-(2 * DEPTH + 1) // 3)
    assert plan_amx(product(64, 64, 2048)).depth == 2048
    assert plan_amx(product(64, 64, 2049)).depth == 1056  # a half, and whole instructions of 32


def test_far_rows_are_read_in_place():
    """Ground truth: the rules of `FAR_ROWS`: a tile takes all of the narrower matrix, as far as 1.5
    KB of a row go, and about `FAR_WIDTH` of the other; its inner loop runs over the fewer."""

    def plan(m, n, k, target=WIDE, **more):
        return plan_fma(target, product(m, n, k, **({"a": (1, m)} | more)))

    def tiles(found):
        assert (found.pack_a, found.pack_b, found.ahead) == ("direct", "direct", FAR_AHEAD)
        assert found.depth == FAR_ROWS
        return found.row_tiles.parts, found.column_tiles.parts, found.panels_outside

    assert tiles(plan(384, 1536, 3072)) == (1, 1536 // FAR_WIDTH, False)
    assert tiles(plan(1536, 384, 3072)) == (1536 // FAR_WIDTH, 1, True)
    assert tiles(plan(385, 1536, 3072))[:2] == (2, 1536 // FAR_WIDTH)
    assert tiles(plan(192, 768, 3072, dtype=float64))[:2] == (1, 12)
    assert tiles(plan(256, 256, 4096))[:2] == (1, 8)  # as many as `LEAST_TILES`, of 32 columns
    assert tiles(plan(64, 2048, FAR_ROWS))[:2] == (1, 32)

    def far(*given, **more):
        found = plan(*given, **more)
        return found.pack_a == "direct" and found.ahead > 0

    assert far(64, 4096, FAR_ROWS)
    # too short, too narrow, too little, of rows that lie otherwise, for half a line to a vector
    assert not far(64, 4096, FAR_ROWS - 1)
    assert not far(63, 2048, 512) and not far(2048, 63, 512)
    assert not far(128, 256, 512)
    assert not far(384, 1536, 3072, a=(3072, 1))
    assert not far(384, 1536, 3072, b=(1, 3072))
    assert not far(384, 1536, 3072, dtype=float16)
    assert not far(384, 1536, 3072, b_stays=True)
    assert not far(384, 1536, 3072, target=AVX2)


def test_a_brief_product_reads_rows_that_share_a_set_in_place():
    """Ground truth: counting lines of a set, and the limits: eight rows 4 KB apart fall on one of 8
    or 12 ways each. Fails where all rows of such strides are copied before the product."""

    def plan(m, n, k, target=WIDE, **more):
        return plan_fma(target, product(m, n, k, **more))

    brief = plan(32, 256, 1024)
    assert (brief.pack_a, brief.blocks.largest) == ("direct", ROWS_OF_A_SET)
    assert plan(32, 256, 1024, target=AVX2).pack_a == "direct"
    assert plan(32, 256, 1024, target=AVX2).blocks.largest == 6  # as ever
    assert plan(32, 256, 1000).blocks.largest == 11  # rows 4,000 bytes apart do not meet
    # too much work, too large a weight, numbers along m, another type
    assert plan(128, 256, 1024).pack_a == "step"
    assert plan(12, 1024, 1024).pack_a == "step"
    assert plan(32, 256, 1024, a=(1, 1024)).blocks.largest > ROWS_OF_A_SET
    assert plan(32, 256, 2048, dtype=float16).pack_a == "step"


def test_two_threads_share_the_rows_of_a_small_product():
    """Ground truth: each row of a chain of products follows from the same row of the one before,
    so that nothing is handed over; halves are equal. Fails where columns are shared."""

    def tiles(m, n, k, **more):
        found = plan_fma(WIDE, product(m, n, k, **more))
        return found.row_tiles.sizes, found.column_tiles.sizes

    assert tiles(64, 64, 64) == ((3, 3), (2,))
    assert tiles(48, 64, 96) == ((2, 2), (2,))
    # what is packed before, larger than the first cache, or of one block of rows
    assert tiles(64, 64, 64, b=(1, 64)) == ((5,), (1, 1))
    assert tiles(22, 64, 256) == ((2,), (1, 1))
    assert tiles(14, 128, 160) == ((1,), (2, 2))


def test_weights_computed_on_the_way_are_read_some_rows_at_a_time():
    """Ground truth: `PLACES`, where they are read in place; packed ones are not."""
    few, many = (replace(product(m, 64, 4096), prologue=object()) for m in (4, 33))
    assert plan_fma(WIDE, few).pack_b == "direct" and plan_fma(WIDE, few).depth == PLACES
    assert plan_fma(WIDE, many).pack_b != "direct" and plan_fma(WIDE, many).depth > PLACES
    assert plan_fma(WIDE, replace(few, prologue=None)).depth > PLACES


def test_what_is_packed():
    """Ground truth: the rules of `plan_fma`: read in place what needs no conversion and suits the
    cache, copy once what several tiles or products read."""

    def fma(*given, target=WIDE, **more):
        plan = plan_fma(target, product(*given, **more))
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
    half = replace(WIDE, vector_bytes=32)  # vectors of half a line
    assert fma(29, 32, 17, b=(257, 1), target=half) == ("direct", "tile")
    assert fma(29, 32, 17, b=(257, 1)) == ("direct", "direct")
    assert fma(28, 32, 17, b=(257, 1)) == ("direct", "direct")
    assert fma(29, 32, 16, b=(257, 1)) == ("direct", "direct")
    assert fma(29, 32, 17, b=(256, 1)) == ("direct", "direct")
    # rows of a a multiple of 4 KB apart would fall on each other in the cache
    assert fma(12000, 65, 33, a=(1024, 1))[0] != "direct"
    assert fma(12000, 65, 33, a=(1023, 1))[0] == "direct"
    assert fma(12000, 64, 33, a=(1024, 1))[0] == "direct"
    assert fma(12000, 65, 32, a=(1024, 1))[0] == "direct"
    # along m in place while all of it stays in the cache
    assert fma(100, 65, 128, a=(1, 100))[0] == "direct"
    assert fma(100, 65, 129, a=(1, 100))[0] != "direct"
    assert fma(100, 65, 100, a=(2, 200))[0] != "direct"


def test_tiles_of_amx_fill_the_second_cache():
    """Ground truth: at most 512 rows and 1 MB of a for a tile, and eight tiles of what is large;
    blocks of 32 rows, the rest in a block of its own."""

    def tiles(*shape):
        plan = plan_amx(product(*shape))
        return plan.row_tiles.parts, plan.column_tiles.parts, plan.blocks.sizes[-1]

    assert tiles(512, 512, 512) == (1, 8, 32)
    assert tiles(1000, 1000, 1000) == (2, 4, 8)
    assert tiles(2000, 2000, 2000) == (8, 1, 16)
    assert tiles(40, 64, 32) == (1, 1, 8)
    assert tiles(4096, 32, 64) == (8, 1, 32)


def test_what_amx_packs():
    """Ground truth: a is read in place where it is rows of bfloat16 and meets few panels; a tile
    packs what no other needs; b is packed once where more than two tiles need it."""
    assert plan_amx(product(16, 16, 64, dtype=bfloat16)).pack_a == "direct"
    assert plan_amx(product(15, 16, 64, dtype=bfloat16)).pack_a == "direct"
    assert plan_amx(product(15, 96, 64, dtype=bfloat16)).pack_a == "direct"
    assert plan_amx(product(15, 97, 64, dtype=bfloat16)).pack_a == "tile"
    assert plan_amx(product(512, 1000, 64, dtype=bfloat16)).pack_a == "step"
    assert plan_amx(product(16, 16, 64)).pack_a == "tile"
    assert plan_amx(product(16, 16, 64, dtype=bfloat16, a=(1, 16))).pack_a == "tile"
    assert plan_amx(product(16, 16, 64, dtype=bfloat16)).pack_b == "tile"
    assert plan_amx(product(1024, 2000, 64)).pack_b == "tile"
    assert plan_amx(product(1025, 2000, 64)).pack_b == "step"
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
    assert suits_dot(product(8, 9, 70, b=along)) and not suits_dot(product(9, 9, 70, b=along))
    assert suits_dot(product(2, 9, 70, b=along, dtype=bfloat16))
    assert not suits_dot(product(3, 9, 70, b=along, dtype=bfloat16))
    assert not suits_dot(product(2, 9, 70))
    assert not suits_dot(product(2, 9, 70, a=(1, 2), b=along))
    assert not suits_dot(product(2, 9, 1, b=(1, 1)))
    assert of_bfloat16(product(5, 5, 5, dtype=bfloat16))
    assert of_bfloat16(product(5, 5, 5, round_to=bfloat16))
    assert not of_bfloat16(product(5, 5, 5))
    assert not of_bfloat16(product(5, 5, 0, dtype=bfloat16))


def test_number_type_of_sums():
    """Closed form: float64 stays, everything else is summed in float32."""
    types = [
        plan_fma(WIDE, product(9, 9, 9, dtype=d)).compute for d in (float64, float16, bfloat16)
    ]
    assert types == [float64, float32, float32]


TARGETS = {"amx": AMX, **VECTOR_TARGETS}


def spec_of(m, n, k, dtype, b=None):
    """A product of dense rows; b: strides of its rows and columns."""
    return GemmSpec(
        (), m, n, k, Operand(dtype, (k, 1)), Operand(dtype, b or (n, 1)), Operand(float32, (n, 1))
    )


def whole(shape, seed):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


def block(target, arithmetic, a, b, sums, before=None):
    """What the micro-kernel makes of one block of rows and one panel, packed if they must be."""
    spec, plan = arithmetic.spec, arithmetic.plan
    micro = arithmetic.micro_kernel(sums)
    packed = arithmetic.packed
    width = sums.vectors * plan.lanes
    k = -(-spec.k // arithmetic.granule) * arithmetic.granule
    strips = {
        "a": (arithmetic.strip("a"), plan.stride_a, plan.pack_a),
        "b": (arithmetic.strip("b"), width, plan.pack_b),
    }

    def body(f, p):
        given = {}
        zero, depth = f.index(0), f.index(spec.k)
        for side, (strip, lanes, how) in strips.items():
            given[side] = p[side]
            copy = StripCopy(strip, p[side], zero, lanes, zero, depth, p["packed_" + side], False)
            if how != "direct":
                arithmetic.pack(f, side, copy, spec.k >= plan.lanes)
                given[side] = p["packed_" + side]
            elif side == "a":
                arithmetic.pack_rest(f, copy, f.index(sums.rows))
        rest = f.index(min(spec.n, width))
        arguments = (given["a"], given["b"], p["c"], depth, rest, p["packed_a"])
        f.call("void", f"@@.{micro.suffix}", *arguments)

    buffers = {
        "a": a, "b": b, "c": untouched((32, sums.row), np.float32) if before is None else before,
        "packed_a": np.zeros(plan.stride_a * (k + 32), packed.storage),
        "packed_b": np.zeros(width * (k + 32), packed.storage),
    }  # fmt: skip
    kernel = named_kernel(
        "block", tuple(buffers), body, tiles=1, scratch=4096,
        helpers=lambda name: [micro.write(f"{name}.{micro.suffix}")],
    )  # fmt: skip
    run_kernel(target, kernel, buffers)
    return buffers["c"]


@pytest.mark.parametrize("target", VECTOR_TARGETS)
@pytest.mark.parametrize("how", [("direct", "direct"), ("tile", "tile"), ("direct", "tile")])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_multiply_add(target, how, dtype):
    """Ground truth: NumPy; operands in place or packed, a panel that ends within a vector."""
    if dtype is np.float16 and "direct" in how:
        how = ("tile", "tile")  # what must be converted is packed
    target = VECTOR_TARGETS[target]
    m, k = 3, 21
    n = target.lanes(float32) + 1
    spec = spec_of(m, n, k, OF_NUMPY[np.dtype(dtype)])
    plan = replace(arithmetic_of(target, spec).plan, vectors=2, pack_a=how[0], pack_b=how[1])
    a, b = whole((m, k), 1).astype(dtype), whole((k, n), 2).astype(dtype)
    row = 2 * plan.lanes
    sums = Sums(m, 2, how[1] == "direct", row, False)
    c = block(target, MultiplyAdd(spec, plan), a, b, sums)
    np.testing.assert_array_equal(c[:m, :n], a.astype(float) @ b.astype(float))
    assert (c[m:] == 77).all()
    again = block(target, MultiplyAdd(spec, plan), a, b, replace(sums, add=True), c)
    np.testing.assert_array_equal(again[:m, :n], 2 * (a.astype(float) @ b.astype(float)))


@pytest.mark.parametrize("target", VECTOR_TARGETS)
@pytest.mark.parametrize("k", [2, 16, 37])
@pytest.mark.parametrize("m", [1, 3, 8])
def test_dot(target, m, k):
    """Ground truth: NumPy; columns along k, a panel with fewer columns than lanes."""
    target = VECTOR_TARGETS[target]
    lanes = target.lanes(float32)
    a = whole((m, k), 1).astype(np.float32)
    for n in (lanes, lanes - 1):
        b = whole((n, k), 2).astype(np.float32)
        spec = spec_of(m, n, k, float32, (1, k))
        arithmetic = arithmetic_of(target, spec)
        assert isinstance(arithmetic, Dot) and arithmetic.plan.blocks.sizes == (m,)
        c = block(target, arithmetic, a, b, Sums(m, 1, n < lanes, lanes, False))
        np.testing.assert_array_equal(c[:m, :n], a @ b.T)
        assert (c[m:] == 77).all()


@pytest.mark.parametrize("target", VECTOR_TARGETS)
def test_sums_of_dot_products_stay_in_registers(target):
    """Invariant: those of all rows and columns, with a number of each column and of a row."""
    target = VECTOR_TARGETS[target]
    for rows in range(1, FEW_ROWS + 1):
        columns = dot_columns(rows, target.registers, target.lanes(float32))
        assert rows * columns + columns + 1 < target.registers and DOT_COLUMNS % columns == 0


@pytest.mark.parametrize("rows", [5, 16, 19, 32])
@pytest.mark.parametrize("how", ["direct", "tile"])
@pytest.mark.parametrize("k", [32, 96, 70, 5])
@pytest.mark.parametrize("vectors", [1, 2])
def test_amx_tiles(rows, how, k, vectors):
    """Ground truth: NumPy; rows in place, whose last, incomplete, 32 of k are packed apart, or
    packed; a block of fewer rows than two tiles, beyond which no sum is written."""
    n = 16 * vectors - 3
    spec = spec_of(rows, n, k, bfloat16)
    arithmetic = arithmetic_of(AMX, spec)
    assert isinstance(arithmetic, AmxTiles)
    plan = replace(arithmetic.plan, vectors=vectors, pack_a=how)
    a, b = whole((rows, k), 1).astype(np.float32), whole((k, n), 2).astype(np.float32)
    arithmetic = AmxTiles(spec, plan, PAIRS)
    sums = Sums(rows, vectors, False, 16 * vectors, False)
    stored = round_to_bfloat16(a), round_to_bfloat16(b)
    c = block(AMX, arithmetic, *stored, sums)
    np.testing.assert_array_equal(c[:rows, :n], a @ b)
    assert (c[rows:] == 77).all()
    again = block(AMX, arithmetic, *stored, replace(sums, add=True), c.copy())
    np.testing.assert_array_equal(again[:rows, :n], 2 * (a @ b))


@pytest.mark.skipif(not WITHOUT_AMX.has_bf16_dot, reason="this processor has no VDPBF16PS")
@pytest.mark.parametrize("rows", [1, 13, 14])
@pytest.mark.parametrize("how", ["direct", "tile"])
@pytest.mark.parametrize("k", [2, 32, 70, 5])
@pytest.mark.parametrize("vectors", [1, 2])
def test_pair_dots(rows, how, k, vectors):
    """Ground truth: NumPy; rows in place or packed, a last number that has no other beside it."""
    n = 16 * vectors - 3
    spec = spec_of(rows, n, k, bfloat16)
    assert k % 2 == 0 or plan_pairs(WITHOUT_AMX, spec).pack_a != "direct"
    plan = replace(
        plan_pairs(WITHOUT_AMX, spec), vectors=vectors, pack_a=how if k % 2 == 0 else "tile"
    )
    a, b = whole((rows, k), 1).astype(np.float32), whole((k, n), 2).astype(np.float32)
    sums = Sums(rows, vectors, False, 16 * vectors, False)
    stored = round_to_bfloat16(a), round_to_bfloat16(b)
    c = block(WITHOUT_AMX, WordDots(spec, plan, PAIRS), *stored, sums)
    np.testing.assert_array_equal(c[:rows, :n], a @ b)
    assert (c[rows:] == 77).all()
    again = block(
        WITHOUT_AMX, WordDots(spec, plan, PAIRS), *stored, replace(sums, add=True), c.copy()
    )
    np.testing.assert_array_equal(again[:rows, :n], 2 * (a @ b))


def test_pairs_in_place():
    """Ground truth: a pair of bfloat16 is read at once: pairs of a row lie side by side."""
    plain = product(14, 64, 64, dtype=bfloat16)
    assert plan_pairs(WIDE, plain).pack_a == "direct"
    assert plan_pairs(WIDE, product(14, 64, 64, dtype=bfloat16, a=(65, 1))).pack_a == "direct"
    assert plan_pairs(WIDE, product(14, 64, 64, dtype=bfloat16, a=(1, 14))).pack_a != "direct"
    assert plan_pairs(WIDE, product(14, 64, 63, dtype=bfloat16, a=(64, 1))).pack_a != "direct"
    assert plan_pairs(WIDE, product(14, 64, 64, round_to=bfloat16)).pack_a != "direct"
    assert plan_pairs(WIDE, product(14, 64, 4096)).depth == 4096
    assert plan_pairs(WIDE, product(14, 64, 4097)).depth == 1376  # a third, in whole granules


def test_who_multiplies():
    """Ground truth: one row along k is a dot product, bfloat16 goes to AMX tiles, or to dot
    products of pairs, all else to multiply-adds."""
    pairs = replace(WITHOUT_AMX, has_bf16_dot=True)
    assert isinstance(arithmetic_of(pairs, spec_of(9, 9, 9, bfloat16)), WordDots)
    assert isinstance(arithmetic_of(pairs, spec_of(9, 9, 9, float32)), MultiplyAdd)
    without = replace(WITHOUT_AMX, has_bf16_dot=False)
    assert isinstance(arithmetic_of(without, spec_of(9, 9, 9, bfloat16)), MultiplyAdd)
    assert isinstance(arithmetic_of(AMX, spec_of(9, 9, 9, bfloat16)), AmxTiles)
    assert isinstance(arithmetic_of(AMX, spec_of(9, 9, 9, float32)), MultiplyAdd)
    assert isinstance(arithmetic_of(AVX2, spec_of(9, 9, 9, bfloat16)), MultiplyAdd)
    assert isinstance(arithmetic_of(AMX, spec_of(1, 9, 9, bfloat16, (1, 9))), Dot)


@pytest.mark.parametrize("target", VECTOR_TARGETS)
def test_a_weight_that_stays_is_packed_by_a_step_of_its_own(target):
    """Ground truth: by hand: few rows read it in place, or tile by tile, unless it stays."""
    target, turned = VECTOR_TARGETS[target], (1, 256)
    for rows, b, way in ((5, None, "direct"), (64, turned, "tile")):
        assert plan_fma(target, product(rows, 256, 256, b=b)).pack_b == way
        assert plan_fma(target, product(rows, 256, 256, b=b, b_stays=True)).pack_b == "step"
