"""What one matrix product is, and its sizes: register block, cache blocks, tiles, what is packed.

Knows integers only: no IR, no buffers. Everything here is fixed before the program runs, so that a
result never depends on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from tinytorch.base.dtypes import DType, bfloat16, float32, float64
from tinytorch.codegen.kernel import LEAST_TILES, Operand, Split
from tinytorch.codegen.target import Target
from tinytorch.kernels.register_tile import AMX_DEPTH, AMX_ROWS, product_block

# Note [sizes by measurement]
# Measured on 2 cores with 48 KB L1 and 2 MB L2 (benchmarks/cases/matmul.py). Depth: a panel of 32
# columns and a block of rows must stay in L2 beside each other; longer sums are kept in a scratch
# tile. Tile: about 150 us of a core's work, long against the cost of taking a tile (under 1 us) and
# short against the whole product, so that two threads end together.
DEPTH = 1024
TILE_FLOPS = 2.4e7
TILE_ROWS = 128
# The same for tiles of bfloat16, whose arithmetic is ten times as fast: 32 x 32 sums at a time.
AMX_SUM_DEPTH = 2048
AMX_TILE_FLOPS = 6e7
FEW_ROWS = 2  # of a product that is computed with dot products


@dataclass(frozen=True)
class GemmSpec:
    """One (batched) matrix product.

    Args:
        batch: sizes of the axes in front; entries are independent products.
        m, n, k: rows, columns, length of the sums; each may be 0 (k = 0 gives zeros).
        a: strides over (*batch, m, k). A stride of 0 repeats.
        b: strides over (*batch, k, n).
        out: strides over (*batch, m, n); read by the plain epilogue only.
        round_to: numbers of a and b are rounded to this type first (bfloat16), while being read.
    """

    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a: Operand
    b: Operand
    out: Operand
    round_to: DType | None = None

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


def compute_type(spec: GemmSpec) -> DType:
    """The type of products and sums."""
    return float64 if spec.a.dtype is float64 else float32


def suits_dot(spec: GemmSpec) -> bool:
    """Whether a product has few rows, and both operands lie along k."""
    return spec.m <= FEW_ROWS and spec.a.strides[-1] == 1 and spec.b.strides[-2] == 1 and spec.k > 1


def suits_amx(target: Target, spec: GemmSpec) -> bool:
    """Whether a product's operands are, or are to be rounded to, bfloat16, and there are tiles."""
    rounded = spec.round_to is bfloat16
    return target.has_amx and spec.k > 0 and all(
        x.dtype is bfloat16 or (rounded and x.dtype.is_float) for x in (spec.a, spec.b)
    )  # fmt: skip


def plan_fma(target: Target, spec: GemmSpec) -> Plan:
    """The plan of a product computed with fused multiply-adds of float32 or float64."""
    compute, (m, n, k) = compute_type(spec), (spec.m, spec.n, spec.k)
    lanes = target.lanes(compute)
    rows, vectors = product_block(m, n, lanes, target.registers)
    depth = k if k <= 2 * DEPTH else ceil(k / ceil(k / DEPTH))
    direct_b = spec.b.strides[-1] == 1 and _needs_no_conversion(spec, spec.b)
    direct_a = _needs_no_conversion(spec, spec.a) and not _rows_collide(spec.a, k, n, compute)
    return _plan(
        spec, lanes, (rows, vectors), depth, TILE_FLOPS,
        direct_a, direct_b and not _strides_far(spec.b, m, k, rows),
    )  # fmt: skip


def plan_amx(spec: GemmSpec) -> Plan:
    """The plan of a product of bfloat16 computed with AMX tiles."""
    parts = 1 if spec.k <= 2 * AMX_SUM_DEPTH else ceil(spec.k / AMX_SUM_DEPTH)
    depth = ceil(spec.k / parts / AMX_DEPTH) * AMX_DEPTH
    direct_a = spec.a.dtype is bfloat16 and spec.a.strides[-1] == 1 and spec.m >= AMX_ROWS
    vectors = min(2, ceil(spec.n / AMX_ROWS))
    return _plan(
        spec, AMX_ROWS, (2 * AMX_ROWS, vectors), depth, AMX_TILE_FLOPS, direct_a, False,
        pack_a_once=repeats(spec, spec.a),
    )  # fmt: skip


def plan_dot(target: Target, spec: GemmSpec) -> Plan:
    """The plan of a product computed with dot products."""
    return _plan(spec, target.lanes(compute_type(spec)), (1, 1), spec.k, TILE_FLOPS, True, True)


def _plan(
    spec: GemmSpec, lanes: int, block: tuple[int, int], depth: int, flops: float, direct_a: bool,
    direct_b: bool, pack_a_once: bool = False,
) -> Plan:  # fmt: skip
    """The plan for a register block of (rows, vectors) and tiles of about `flops`."""
    rows, vectors = block
    blocks, panels = Split(spec.m, ceil(spec.m / rows)), ceil(spec.n / (vectors * lanes))
    row_tiles, column_tiles = tile_counts(spec, blocks, panels, flops)
    pack_a = "step" if column_tiles > 1 or pack_a_once else "tile"
    pack_b = "step" if row_tiles > 1 or repeats(spec, spec.b) else "tile"
    return Plan(
        compute_type(spec), lanes, vectors, blocks, Split(blocks.parts, row_tiles), panels,
        Split(panels, column_tiles), group_of(spec, row_tiles * column_tiles, flops), depth,
        "direct" if direct_a else pack_a, "direct" if direct_b else pack_b,
    )  # fmt: skip


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


def tile_counts(spec: GemmSpec, blocks: Split, panels: int, flops: float) -> tuple[int, int]:
    """Row tiles and column tiles: about `flops` each, as square as the register blocks allow."""
    m, n, k = spec.m, spec.n, max(spec.k, 1)
    batch = max(prod(spec.batch), 1)
    wanted = max(1.0, 2 * m * n * k / flops)
    if 2 * m * n * k * batch > 1e6:
        wanted = max(wanted, LEAST_TILES / batch)
    rows = min(blocks.parts, max(ceil(m / TILE_ROWS), round((wanted * m / n) ** 0.5)))
    columns = min(panels, max(1, ceil(wanted / rows)))
    rows = min(blocks.parts, max(rows, ceil(wanted / columns)))
    return rows, columns


def group_of(spec: GemmSpec, tiles: int, flops: float) -> int:
    """How many independent products one tile computes, when a single one is too little work."""
    batch = max(prod(spec.batch), 1)
    if tiles > 1 or batch == 1:
        return 1
    work = 2 * spec.m * spec.n * max(spec.k, 1)
    return max(1, min(int(flops / 4 / work), batch // LEAST_TILES))
