"""What one matrix product is, and its plan; the arithmetic is in `gemm_arithmetic`.

The plan is sizes: register block, cache blocks, tiles, what is packed. All of it is fixed before
the program runs, so that a result never depends on the number of threads. Four ways, each with a
plan of its own, say how the sums of a block are computed and how its operands are packed:

    MultiplyAdd   vectors of float32, float64, int32 or int64 along n; other types are converted
                  while packed
    Dot           vectors along k for one or two rows; nothing is packed
    WordDots      vectors of sums along n; an instruction adds two products of bfloat16 or four of
                  bytes; without such instructions bytes are packed as int16, two products at a time
    AmxTiles      AMX tiles of bfloat16, summed in float32, or of bytes, summed in int32

Sums of integers wrap, as NumPy's do: no way of adding them up can be told from another.

Note [bytes by an instruction for other signs]
VPDPBUSD multiplies unsigned bytes by signed ones. Where both operands are signed, a is packed with
128 added to each number (its highest bit turned), which adds 128 times the sum of b's column to
each result. A kernel behind the packing of b makes these sums, and they are taken away from the
results before anything else is done with them. SDOT and UDOT multiply bytes of the same sign: of
others a gets b's, where there is no USDOT.

Note [AMX tiles pass by the first cache]
Four tiles of operands, 4 KB, are loaded for four products, 64 cycles. The first cache holds no
panel of a usual depth, and what is loaded into it drives out what was there: through it 47 bytes a
cycle come from the second cache, 1740 to 1900 GFLOP/s of a core; past it (TILELOADDT1) 2050 to
2340, of 2450 to 2650 without loads. So both operands are packed (rows in place, 2000 to 4096 bytes
apart: 1010 to 1630), and lie in the second cache: a tile keeps up to 1 MB of a, and goes through
the panels of b, each of which is packed right before its products, or asked for ahead. Where more
than two tiles need b it is packed once, many columns of a few rows at a time: far rows are pages.

Note [far rows in place]
A weight's gradient multiplies two matrices whose rows lie along the summed axis, thousands of them,
each of them some KB. Copied before, they are read, written and read again through memory: 12 to 18
% of the product's time on a machine whose core multiplies 16 numbers a cycle. In place, the rows
that a tile reads are asked for ahead, as no hardware guesses across pages, some hundred at a time,
so that what a tile reads again is in the second cache: all of the narrower matrix, and a strip of
the other one, which is thus read from memory once. 384 x 1536 sums of 3072 products: 18.1 -> 16.3
ms, 256 x 256 of 4096: 2.94 -> 2.32 ms (two threads, Zen 4). Of half a line to each vector, by AVX2,
a row's lines would come from the second cache faster than it gives them: 39 -> 47 ms (one thread).

Knows sizes, and one block of rows and one panel of columns; not where they come from, nor what
becomes of the sums, which micro-kernels leave in scratch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod

from tinytorch.base.dtypes import (
    DType,
    bfloat16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
)
from tinytorch.codegen.kernel import (
    LEAST_TILES,
    LINE,
    NeededRows,
    Operand,
    Pieces,
    Prologue,
    Split,
    round_up,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.even_tiles import even_tile_counts, tile_counts
from tinytorch.kernels.register_tile import (
    AMX_ROWS,
    WORD_BYTES,
    Words,
    product_block,
    words_of_bytes,
    words_of_pairs,
)

# Note [sizes by measurement]
# Measured on 2 cores with 48 KB L1 and 2 MB L2 (benchmarks/cases/matmul.py). Depth: a panel of 32
# columns and a block of rows must stay in L2 beside each other; longer sums are kept in a scratch
# tile. Tile: about 150 us of a core's work, long against the cost of taking a tile (under 1 us) and
# short against the whole product, so that two threads end together.
DEPTH = 1024
TILE_FLOPS = 2.4e7
# Bytes over which the rows of b are spread, and rows of a, from which on b is copied: 1024 x 256
# sums of 2048 products went from 43 to 83 % of the peak, 64 x 256 of 784 from 99 to 62 (2 MB L2,
# 16 ways).
SPREAD, COPIED_ROWS = 1 << 20, 256
# Rows of a and b along the summed axis that are multiplied in place, those of a tile's narrow side
# at most, its other side, and how many rows ahead they are asked for: a tile's 256 rows of 1.5 KB
# and of 64 numbers stay in a second cache of 1 MB beside the sums. Of 128, 256 and 512 rows, 64 to
# 192 numbers, 8, 16 and 32 rows ahead; see Note [far rows in place].
FAR_ROWS, FAR_BYTES, FAR_WIDTH, FAR_AHEAD = 256, 1536, 64, 16
# Rows that share a set of the first cache, which has 8 or 12 ways, and products for which so few of
# them in a block are better than a copy of a. Rows 4 KB apart, m x n x k, copied / in place, us on
# one thread, on two: 32 x 256 x 1024 148 / 144, 87 / 72; 32 x 512 x 1024 340 / 335, 184 / 168;
# 64 x 256 x 1024 295 / 292, 166 / 144. With 4 MB of b, which more blocks read more often, it is
# worse: 12 x 1024 x 1024 226 / 242, 118 / 117 (Zen 4, 1 MB L2).
ROWS_OF_A_SET = 8
BRIEF_FLOPS, BRIEF_BYTES = 5e7, 1 << 21
# Bytes of b, of a product whose rows two threads share: a chain of four products of 64 takes 18.9
# us in place of 20.7, its kernels 10.1 in place of 11.1.
SHARED_BYTES = 1 << 15
# Rows of a, and of b, up to which b's far rows are read in place where vectors fill a line: 32 x
# 1024 sums of 256 products went from 80 to 95 % of the peak, 64 x 1024 of 1024 from 86 to 98, 512 x
# 512 of 512 from 91 to 94, 1000 x 1000 of 1000 from 93 to 94; 2048 x 2048 of 512 from 95 to 92.
FAR_UNCOPIED = 1024
# The same in words, for each number that one holds.
WORD_DEPTH = 1024
WORD_TILE_FLOPS = 2.4e7
# Places of a run of the summed axis: a whole number of turns of every way to multiply, and so many
# that sums need not go to scratch and back too often (once in 128 turns, 1 % of them).
RUN, FEWEST_IN_RUN = 64, 128
# Of several small products one tile computes so much by AMX tiles, which are ten times as fast.
AMX_TILE_FLOPS = 6e7
# Rows of a weight (in, out) of few bits that are read beside each other: each lies on another page,
# and the first-level address cache holds 96. Of 16, 32, 64, 128 and all, 64 was best
# (docs/log.md, 2026-11-27).
PLACES = 64
FEW_ROWS = 8  # of a product that is computed with dot products
# Columns of it that are summed at a time. Of 1, 2, 4 and 16, 4 was best for one row of int8 weights
# (docs/log.md, 2026-11-27): fewer wait for their own sums, more lie in too many places of memory.
DOT_COLUMNS = 4
# Operations in the time in which a core reads a byte of b, at 20 to 30 GB/s from the last cache or
# from memory: a row times 384 x 1152 bytes is shared by threads for it, 20 -> 9 us (Zen 3).
READ_FLOPS = 5
FEW_ROWS_OF_PAIRS = 2  # the same of bfloat16: more are multiplied in pairs
# Of a matrix a tile multiplies at most so many rows and bytes, in the order in which they are read:
# they stay in the second cache while the panels of b go by.
AMX_TILE_ROWS, AMX_TILE_BYTES = 512, 2**20
AMX_TURNS = 64  # of a stretch at most: a panel of b is then as large as the sums of 64 panels


@dataclass(frozen=True)
class GemmSpec:
    """One (batched) matrix product, of floats of one type or of integers.

    Args:
        batch: sizes of the axes in front; entries are independent products.
        m, n, k: rows, columns, length of the sums; each may be 0 (k = 0 gives zeros).
        a: strides over (*batch, m, k). A stride of 0 repeats.
        b: strides over (*batch, k, n).
        out: strides over (*batch, m, n); read by the plain epilogue only.
        prologue: makes the numbers of b, float32, while they are read; b says only along which axis
            that is done best.
        round_to: numbers of a and b are rounded to this type first (bfloat16), while being read.
        summed: which places of the summed axis count, default all. Those that do not are not read;
            they may be NaN. Runs of them have whole multiples of `RUN` places.
        b_stays: b has the same numbers in many runs: to pack it once costs nothing.
    """

    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a: Operand
    b: Operand
    out: Operand
    round_to: DType | None = None
    prologue: Prologue | None = None
    summed: NeededRows = ()
    b_stays: bool = False

    @property
    def run(self) -> int:
        """Numbers of the summed axis that lie in one run: of them the first ones may count."""
        runs = [rows.bound * rows.inner for rows in self.summed if not rows.is_prefix]
        return min(runs, default=self.k)

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * prod(self.batch) * self.m * self.n * self.k


@dataclass(frozen=True)
class Plan:
    """The sizes of one product.

    Args:
        compute: number type of the products and sums.
        lanes: elements of a vector.
        vectors: vectors of a full panel: its width in columns is `vectors * lanes`.
        blocks: rows split into register blocks.
        row_tiles: register blocks split over tiles.
        panels: number of panels; the last one may be narrower.
        column_tiles: panels split over tiles.
        group: independent products (batch entries) computed by one tile.
        depth: products summed before partial sums go to scratch.
        pack_a, pack_b: "direct" (read in place), "tile" (each tile copies), "step" (copied once).
        panels_outside: a tile goes through its panels, and through all its blocks of rows for each,
            so that a panel stays in the first cache; else the other way round.
        ahead: rows of operands read in place that are asked for ahead, along the summed axis.
    """

    compute: DType
    lanes: int
    vectors: int
    blocks: Split
    row_tiles: Split
    panels: int
    column_tiles: Split
    group: int
    depth: int
    pack_a: str
    pack_b: str
    panels_outside: bool = False
    ahead: int = 0

    @property
    def width(self) -> int:
        """Columns of a full panel."""
        return self.vectors * self.lanes

    @property
    def stride_a(self) -> int:
        """Elements between consecutive k in a packed block of rows: a whole number of vectors."""
        return ceil(self.blocks.largest / self.lanes) * self.lanes


def compute_type(spec: GemmSpec) -> DType:
    """The type of products and sums."""
    if not spec.a.dtype.is_float:  # what is larger than the result's type wraps either way
        return int64 if spec.out.dtype.itemsize == 8 else int32
    return float64 if spec.a.dtype is float64 else float32


def suits_dot(spec: GemmSpec) -> bool:
    """Whether a product has few rows, and both operands lie along k, all of which counts."""
    most = FEW_ROWS_OF_PAIRS if of_bfloat16(spec) else FEW_ROWS
    dense = spec.a.strides[-1] == 1 and spec.b.strides[-2] == 1
    return spec.m <= most and dense and spec.k > 1 and not spec.summed


def of_bfloat16(spec: GemmSpec) -> bool:
    """Whether a product's operands are, or are to be rounded to, bfloat16."""
    rounded = spec.round_to is bfloat16
    return spec.k > 0 and all(
        x.dtype is bfloat16 or (rounded and x.dtype.is_float) for x in (spec.a, spec.b)
    )


def plan_fma(target: Target, spec: GemmSpec) -> Plan:
    """The plan of a product computed with fused multiply-adds of float32 or float64."""
    compute, (m, n, k) = compute_type(spec), (spec.m, spec.n, spec.k)
    lanes = target.lanes(compute)
    rows, vectors = product_block(m, n, lanes, target.registers)
    if target.vector_bytes == LINE and _has_far_rows(spec):
        return _plan_far_rows(spec, lanes, (rows, vectors))
    depth = k if k <= 2 * DEPTH else ceil(k / ceil(k / DEPTH))
    depth = _part_of_run(spec, depth)
    if spec.prologue and depth < k:  # it gives whole vectors along k
        depth = round_up(depth, lanes)
    direct_b = spec.b.strides[-1] == 1 and _needs_no_conversion(spec, spec.b)
    if spec.prologue:  # what is computed for one block of rows only need not be kept
        direct_b = direct_b and m <= rows
        depth = min(depth, PLACES) if direct_b else depth
    direct_a = _needs_no_conversion(spec, spec.a) and not _rows_collide(spec.a, k, n, compute)
    far = _strides_far(spec.b, m, k, rows)
    asked = far and target.vector_bytes == LINE and max(m, k) <= FAR_UNCOPIED and not spec.prologue
    direct_b = direct_b and not spec.b_stays and (asked or not far)
    if not direct_a and _is_brief(spec):
        direct_a, rows = True, min(rows, ROWS_OF_A_SET)
    plan = _plan(
        spec, lanes, (rows, vectors), depth, TILE_FLOPS, direct_a, direct_b, even=True,
        once=not direct_a and _reads_rows_once(spec),
    )  # fmt: skip
    return replace(plan, ahead=FAR_AHEAD) if direct_b and asked else plan


def _has_far_rows(spec: GemmSpec) -> bool:
    """Whether long rows of both operands lie along the summed axis, and are read as they are."""
    large = min(spec.m, spec.n) >= FAR_WIDTH and spec.k >= FAR_ROWS
    large = large and spec.m * spec.n * spec.k >= TILE_FLOPS
    made = spec.prologue or spec.summed or spec.b_stays
    lie = spec.a.strides[-2] == 1 == spec.b.strides[-1] and not made
    return large and lie and all(_needs_no_conversion(spec, x) for x in (spec.a, spec.b))


def _plan_far_rows(spec: GemmSpec, lanes: int, block: tuple[int, int]) -> Plan:
    """The plan of a product of such rows: see Note [far rows in place]."""
    compute, (rows, vectors) = compute_type(spec), block
    narrow = ceil(min(spec.m, spec.n) * compute.itemsize / FAR_BYTES)
    wide = max(round(max(spec.m, spec.n) / FAR_WIDTH), ceil(LEAST_TILES / narrow))
    down, across = (narrow, wide) if spec.m <= spec.n else (wide, narrow)
    blocks, panels = Split(spec.m, ceil(spec.m / rows)), ceil(spec.n / (vectors * lanes))
    row_tiles = Split(blocks.parts, min(blocks.parts, down))
    column_tiles = Split(panels, min(panels, across))
    return Plan(
        compute, lanes, vectors, blocks, row_tiles, panels, column_tiles, 1, FAR_ROWS, "direct",
        "direct", panels_outside=column_tiles.largest > row_tiles.largest, ahead=FAR_AHEAD,
    )  # fmt: skip


def words_of(target: Target, spec: GemmSpec) -> Words | None:
    """The words in which a product is computed; None: number by number.

    bfloat16 is multiplied in pairs where the processor does. Bytes are multiplied four at a time by
    AMX tiles, and by VPDPBUSD where one of them can be unsigned; else as pairs of int16.
    """
    if of_bfloat16(spec):
        return words_of_pairs(target)
    if not {spec.a.dtype, spec.b.dtype} <= {int8, uint8} or compute_type(spec) is not int32:
        return None
    if not spec.k:
        return None
    unsigned = "".join(
        side for side, x in zip("ab", (spec.a, spec.b), strict=True) if x.dtype is uint8
    )
    if target.has_amx and not suits_dot(spec):
        return Words("i8", 4, unsigned)
    return words_of_bytes(target, unsigned, "b" if suits_dot(spec) else "a")


def word_plan(target: Target, spec: GemmSpec, words: Words) -> Plan:
    """The plan of a product computed in words, by AMX tiles or vectors."""
    as_it_is = spec.a.dtype is words.type_of("a") and spec.a.strides[-1] == 1
    if target.has_amx:
        return _amx_plan(spec, words, as_it_is)
    most = WORD_DEPTH * words.each
    parts = 1 if spec.k <= 2 * most else ceil(spec.k / most)
    lanes = target.lanes(float32)
    granule = lanes * words.each
    depth = _part_of_run(spec, ceil(spec.k / parts / granule) * granule)
    block = product_block(spec.m, spec.n, lanes, target.registers)
    direct_a = (
        as_it_is
        and spec.k % words.each == 0
        and not spec.summed  # the second number of a pair may lie beyond
        and not _rows_collide(spec.a, spec.k, spec.n, spec.a.dtype)
    )
    return _plan(spec, lanes, block, depth, WORD_TILE_FLOPS * words.each, direct_a, False)


def _part_of_run(spec: GemmSpec, depth: int) -> int:
    """The depth, or the largest part of a run that is no deeper: whole turns, none in two runs."""
    run = spec.run
    if run == spec.k:
        return depth
    parts = (run // n for n in range(1, run // RUN + 1) if run % (n * RUN) == 0)
    return next(part for part in parts if part <= depth or part == RUN)


def _amx_plan(spec: GemmSpec, words: Words, direct_a: bool) -> Plan:
    """The plan of a product computed by AMX tiles."""
    granule = AMX_ROWS * words.each
    parts = max(1, ceil(spec.k / (AMX_TURNS * granule)))
    depth = _part_of_run(spec, max(1, ceil(spec.k / parts / granule)) * granule)
    blocks = Pieces.of(spec.m, 2 * AMX_ROWS)
    vectors = min(2, ceil(spec.n / AMX_ROWS))
    panels = ceil(spec.n / (vectors * AMX_ROWS))
    batch = max(prod(spec.batch), 1)
    wanted = max(1, LEAST_TILES // batch) if spec.flops > 1e6 else 1
    fit = min(AMX_TILE_ROWS, AMX_TILE_BYTES * words.each // (WORD_BYTES * depth))
    rows = ceil(spec.m / fit)
    columns = min(panels, ceil(wanted / rows))
    rows = min(blocks.parts, max(rows, ceil(wanted / columns)))
    pack_a = "step" if columns > 2 or repeats(spec, spec.a) else "tile"
    return Plan(
        compute_type(spec), AMX_ROWS, vectors, blocks, Split(blocks.parts, rows), panels,
        Split(panels, columns), group_of(spec, rows * columns, AMX_TILE_FLOPS * words.each / 2),
        depth, "direct" if direct_a and panels <= 3 * columns else pack_a,
        "step" if rows > 2 or repeats(spec, spec.b) or spec.b_stays else "tile",
        panels_outside=True,
    )  # fmt: skip


def plan_dot(target: Target, spec: GemmSpec) -> Plan:
    """The plan of a product computed with dot products: all rows at once, b is read one time."""
    lanes = target.lanes(compute_type(spec))
    plan = _plan(spec, lanes, (max(1, spec.m), 1), spec.k, TILE_FLOPS, True, True)
    read = spec.prologue.bytes if spec.prologue else spec.b.dtype.itemsize * spec.k * spec.n
    if prod(spec.batch) == 1 and plan.column_tiles.parts == 1:
        work = max(spec.flops, READ_FLOPS * read)
        parts = even_tile_counts(work, plan.blocks, plan.panels, True)[1]
        plan = replace(plan, column_tiles=Split(plan.panels, parts))
    return plan


def dot_columns(rows: int, registers: int, lanes: int) -> int:
    """Columns that are summed at a time: their sums, numbers of each and of a row in registers."""
    most = max(1, (registers - 2) // (rows + 1))
    return min(DOT_COLUMNS, lanes, 1 << (most.bit_length() - 1))


def _plan(
    spec: GemmSpec, lanes: int, block: tuple[int, int], depth: int, flops: float, direct_a: bool,
    direct_b: bool, even: bool = False, once: bool = False,
) -> Plan:  # fmt: skip
    """The plan for a register block of (rows, vectors) and tiles of about `flops`.

    even: the tiles of a short product are chosen so that they share it evenly; once: a tile has all
    columns.
    """
    rows, vectors = block
    blocks, panels = Split(spec.m, ceil(spec.m / rows)), ceil(spec.n / (vectors * lanes))
    short = prod(spec.batch) == 1 and spec.flops <= LEAST_TILES * flops and spec.k <= 2 * DEPTH
    if even and short:
        nothing_before = direct_b or spec.b_stays
        row_tiles, column_tiles = even_tile_counts(spec.flops, blocks, panels, nothing_before)
        two = (row_tiles, column_tiles) == (1, 2) and blocks.parts > 1
        if two and nothing_before and _fits_beside(spec):
            blocks, row_tiles, column_tiles = Split(spec.m, round_up(blocks.parts, 2)), 2, 1
    else:
        sizes = spec.m, spec.n, max(spec.k, 1)
        row_tiles, column_tiles = tile_counts(sizes, prod(spec.batch), blocks, panels, flops)
        if once:
            row_tiles, column_tiles = max(row_tiles, min(blocks.parts, LEAST_TILES)), 1
    pack_a = "step" if column_tiles > 1 else "tile"
    pack_b = "step" if row_tiles > 1 or repeats(spec, spec.b) or spec.b_stays else "tile"
    return Plan(
        compute_type(spec), lanes, vectors, blocks, Split(blocks.parts, row_tiles), panels,
        Split(panels, column_tiles), group_of(spec, row_tiles * column_tiles, flops), depth,
        "direct" if direct_a else pack_a, "direct" if direct_b else pack_b,
    )  # fmt: skip


def _fits_beside(spec: GemmSpec) -> bool:
    """Whether two threads share the rows of a product of two tiles, not its columns.

    Both then read all of b, which each keeps in its first cache. In a chain of products a thread
    reads the rows that it wrote, where half of them came from the other one's cache.
    """
    return spec.k * spec.n * spec.b.dtype.itemsize <= SHARED_BYTES


def repeats(spec: GemmSpec, x: Operand) -> bool:
    """Whether several batch entries read the same matrix."""
    return any(n > 1 and not s for n, s in zip(spec.batch, x.strides, strict=False))


def _needs_no_conversion(spec: GemmSpec, x: Operand) -> bool:
    """Whether the operand's numbers can be used as they are in memory."""
    compute = compute_type(spec)
    return x.dtype is compute and spec.round_to in (None, compute)


def _strides_far(b: Operand, m: int, k: int, most: int) -> bool:
    """Whether reading b's rows in place would cost more than copying them once.

    Each k is another row: rows further apart than 1 KB touch a page for nearly every k, which only
    a product with few rows (each number of b used few times) should bear. Of rows closer by, a
    panel takes a few of the second-level cache's sets, the same few in every 4 KB: 1 MB of rows is
    more than these hold, and each block of a's rows reads the panel again.
    """
    row = b.strides[-2] * b.dtype.itemsize
    return m > 2 * most and k > 16 and (row > 1024 or m >= COPIED_ROWS and k * row >= SPREAD)


def _reads_rows_once(spec: GemmSpec) -> bool:
    """Whether tiles should have all columns, so that each packs its rows of a by itself.

    a has so many rows that its copy would go through memory, and all of b stays in the second
    cache: 4096 x 256 sums of 1024 products went from 84 to 92 % of the peak (two threads, Zen 4),
    1024 x 1024 of 1024 would go from 93 to 90.
    """
    b = spec.k * spec.n * spec.b.dtype.itemsize
    return spec.a.strides[-1] == 1 and spec.m >= 4 * spec.n and b <= SPREAD


def _rows_collide(a: Operand, k: int, n: int, compute: DType) -> bool:
    """Whether a's rows, read side by side, would fall on each other in the first-level cache.

    It has 64 sets of 64 bytes: 14 rows a multiple of 4 KB apart share one of them. Reading along m
    in place is fine while all of it stays in cache.
    """
    rows, depth = (s * compute.itemsize for s in a.strides[-2:])
    if n <= 64 or k <= 32:
        return False
    if depth == compute.itemsize:
        return rows % 4096 == 0
    return not (rows == compute.itemsize and k <= 128)


def _is_brief(spec: GemmSpec) -> bool:
    """Whether rows of a, though they fall on each other, are read in place by blocks of few rows.

    To copy them costs more than it saves: threads hand each other every line of it, written by one
    and read by all.
    """
    row, depth = spec.a.strides[-2:]
    return (
        spec.flops <= BRIEF_FLOPS
        and spec.k * spec.n * spec.b.dtype.itemsize <= BRIEF_BYTES
        and (depth == 1 and row > 1 and not spec.summed and _needs_no_conversion(spec, spec.a))
    )


def group_of(spec: GemmSpec, tiles: int, flops: float) -> int:
    """How many independent products one tile computes, when a single one is too little work."""
    batch = max(prod(spec.batch), 1)
    if tiles > 1 or batch == 1:
        return 1
    work = 2 * spec.m * spec.n * max(spec.k, 1)
    return max(1, min(int(flops / 4 / work), batch // LEAST_TILES))
