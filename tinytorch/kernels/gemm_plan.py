"""Chooses the sizes of a matrix product: register block, cache blocks, tiles, what is packed where.

Knows integers only: no IR, no buffers. Everything here is fixed before the program runs, so that a
result never depends on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from tinytorch.base.dtypes import DType, bfloat16, float32, float64
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target

# Note [sizes by measurement]
# Measured on 2 cores with 48 KB L1 and 2 MB L2 (benchmarks/cases/matmul.py). Depth: a panel of 32
# columns and a block of rows must stay in L2 beside each other; longer sums are kept in a scratch
# tile. Tile: about 150 us of a core's work, long against the cost of taking a tile (under 1 us) and
# short against the whole product, so that two threads end together.
DEPTH = 1024
TILE_FLOPS = 2.4e7
TILE_ROWS = 128
FEWEST_TILES = 8
# The same for tiles of bfloat16, whose arithmetic is ten times as fast: 32 x 32 sums at a time.
AMX_DEPTH = 2048
AMX_TILE_FLOPS = 6e7


@dataclass(frozen=True)
class Split:
    """`total` things in `parts` runs whose lengths differ by at most one, the longer runs first.

    >>> Split(10, 4).sizes
    (3, 3, 2, 2)
    """

    total: int
    parts: int

    @property
    def base(self) -> int:
        """Length of the shorter runs."""
        return self.total // self.parts

    @property
    def longer(self) -> int:
        """How many runs are one longer."""
        return self.total % self.parts

    @property
    def largest(self) -> int:
        """Length of the longest run."""
        return self.base + (self.longer > 0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Length of each run."""
        return (self.base + 1,) * self.longer + (self.base,) * (self.parts - self.longer)


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

    @property
    def width(self) -> int:
        """Columns of a full panel."""
        return self.vectors * self.lanes

    @property
    def stride_a(self) -> int:
        """Elements between consecutive k in a packed block of rows: a whole number of vectors."""
        return ceil(self.blocks.largest / self.lanes) * self.lanes


def register_block(m: int, n: int, lanes: int, registers: int) -> tuple[int, int]:
    """Most rows, and vectors, of the block of sums kept in registers.

    With 32 registers 14 x 2 leaves four for operands, with 16 it is 6 x 2: the widest blocks whose
    loads (rows + vectors) stay below their multiplications. Few rows take more vectors instead, so
    that enough independent sums hide the latency of a multiplication (4 cycles, 2 a cycle).
    """
    most = (registers - 4) // 2
    vectors = ceil(n / lanes)
    if m <= 6:
        return max(m, 1), max(
            1, min(vectors, 8, max(2, (registers - 4 - registers // 8) // max(m, 1)))
        )
    return most, min(2, vectors)


def plan_fma(target: Target, spec) -> Plan:
    """The plan of a product computed with fused multiply-adds of float32 or float64."""
    compute = float64 if spec.a.dtype is float64 else float32
    lanes = target.lanes(compute)
    m, n, k = spec.m, spec.n, spec.k
    most, vectors = register_block(m, n, lanes, target.registers)
    blocks = Split(m, ceil(m / most))
    panels = ceil(n / (vectors * lanes))
    row_tiles, column_tiles = tile_counts(spec, blocks, panels, TILE_FLOPS)
    group = group_of(spec, row_tiles * column_tiles, TILE_FLOPS)
    depth = k if k <= 2 * DEPTH else ceil(k / ceil(k / DEPTH))
    if not reads_in_place(spec.b, compute, spec.round_to, 1) or _strides_far(spec.b, m, k, most):
        pack_b = "step" if row_tiles > 1 or repeats(spec, spec.b) else "tile"
    else:
        pack_b = "direct"
    if reads_in_place(spec.a, compute, spec.round_to, None) and not _rows_collide(
        spec.a, k, n, compute
    ):
        pack_a = "direct"
    else:
        pack_a = "step" if column_tiles > 1 else "tile"
    return Plan(
        compute, lanes, vectors, blocks, Split(blocks.parts, row_tiles), panels,
        Split(panels, column_tiles), group, depth, pack_a, pack_b,
    )  # fmt: skip


def plan_amx(spec) -> Plan:
    """The plan of a product of bfloat16 computed with AMX tiles."""
    m, n, k = spec.m, spec.n, spec.k
    vectors = min(2, ceil(n / 16))
    blocks, panels = Split(m, ceil(m / 32)), ceil(n / (16 * vectors))
    row_tiles, column_tiles = tile_counts(spec, blocks, panels, AMX_TILE_FLOPS)
    parts = 1 if k <= 2 * AMX_DEPTH else ceil(k / AMX_DEPTH)
    depth = ceil(k / parts / 32) * 32
    direct = spec.a.dtype is bfloat16 and spec.a.strides[-1] == 1 and m >= 16
    if direct:
        pack_a = "direct"
    else:
        pack_a = "step" if column_tiles > 1 or repeats(spec, spec.a) else "tile"
    pack_b = "step" if row_tiles > 1 or repeats(spec, spec.b) else "tile"
    return Plan(
        float32, 16, vectors, blocks, Split(blocks.parts, row_tiles), panels,
        Split(panels, column_tiles), group_of(spec, row_tiles * column_tiles, AMX_TILE_FLOPS),
        depth, pack_a, pack_b,
    )  # fmt: skip


def repeats(spec, x: Operand) -> bool:
    """Whether several batch entries read the same matrix."""
    return any(n > 1 and not s for n, s in zip(spec.batch, x.strides, strict=False))


def reads_in_place(
    x: Operand, compute: DType, round_to: DType | None, lane_stride: int | None
) -> bool:
    """Whether the operand's numbers can be used in place: no conversion, lanes side by side."""
    return (
        x.dtype is compute
        and round_to in (None, compute)
        and (lane_stride is None or x.strides[-1] == lane_stride)
    )


def _strides_far(b: Operand, m: int, k: int, most: int) -> bool:
    """Whether reading b's rows in place would cost more than copying them once.

    Each k is another row: rows further apart than 1 KB touch a page for nearly every k, which only
    a product with few rows (each number of b used few times) should bear.
    """
    return m > 2 * most and k > 16 and b.strides[-2] * b.dtype.itemsize > 1024


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


def tile_counts(spec, blocks: Split, panels: int, flops: float) -> tuple[int, int]:
    """Row tiles and column tiles: about `flops` each, as square as the register blocks allow."""
    m, n, k = spec.m, spec.n, max(spec.k, 1)
    batch = max(prod(spec.batch), 1)
    wanted = max(1.0, 2 * m * n * k / flops)
    if 2 * m * n * k * batch > 1e6:
        wanted = max(wanted, FEWEST_TILES / batch)
    rows = min(blocks.parts, max(ceil(m / TILE_ROWS), round((wanted * m / n) ** 0.5)))
    columns = min(panels, max(1, ceil(wanted / rows)))
    rows = min(blocks.parts, max(rows, ceil(wanted / columns)))
    return rows, columns


def group_of(spec, tiles: int, flops: float) -> int:
    """How many independent products one tile computes, when a single one is too little work."""
    batch = max(prod(spec.batch), 1)
    if tiles > 1 or batch == 1:
        return 1
    work = 2 * spec.m * spec.n * max(spec.k, 1)
    return max(1, min(int(flops / 4 / work), batch // FEWEST_TILES))
