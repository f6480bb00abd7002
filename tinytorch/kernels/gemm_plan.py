"""What one matrix product is, its plan, and the arithmetic that carries it out block by block.

The plan is sizes: register block, cache blocks, tiles, what is packed. All of it is fixed before
the program runs, so that a result never depends on the number of threads. Four ways, each with a
plan of its own, say how the sums of a block are computed and how its operands are packed:

    MultiplyAdd   vectors of float32 or float64 along n; any float type is converted while packed
    Dot           vectors along k for one or two rows; nothing is packed
    PairDots      vectors of float32 along n; an instruction adds two products of bfloat16
    AmxTiles      AMX tiles of bfloat16, summed in float32

Knows sizes, and one block of rows and one panel of columns; not where they come from, nor what
becomes of the sums, which micro-kernels leave in scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

from tinytorch.base.dtypes import DType, bfloat16, float32, float64
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import LEAST_TILES, Operand, Split
from tinytorch.codegen.target import Target
from tinytorch.kernels.packing import Strip, StripCopy, pack_pairs, pack_strip, transpose
from tinytorch.kernels.register_tile import (
    AMX_DEPTH,
    AMX_ROWS,
    DEPTH_COUNT_REST,
    AmxOperand,
    RegisterTile,
    Turns,
    amx_configure,
    amx_product,
    begin_micro_kernel,
    multiply_add,
    product_block,
    write_micro_kernel,
)

# Note [sizes by measurement]
# Measured on 2 cores with 48 KB L1 and 2 MB L2 (benchmarks/cases/matmul.py). Depth: a panel of 32
# columns and a block of rows must stay in L2 beside each other; longer sums are kept in a scratch
# tile. Tile: about 150 us of a core's work, long against the cost of taking a tile (under 1 us) and
# short against the whole product, so that two threads end together.
DEPTH = 1024
TILE_FLOPS = 2.4e7
TILE_ROWS = 128
# The same for pairs of bfloat16, twice as many products at a time.
PAIR_DEPTH = 2048
PAIR_TILE_FLOPS = 4.8e7
# And for tiles of bfloat16, whose arithmetic is ten times as fast: 32 x 32 sums at a time.
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


def plan_pairs(target: Target, spec: GemmSpec) -> Plan:
    """The plan of a product of bfloat16 computed with dot products of pairs."""
    lanes = target.lanes(float32)
    rows, vectors = product_block(spec.m, spec.n, lanes, target.registers)
    parts = 1 if spec.k <= 2 * PAIR_DEPTH else ceil(spec.k / PAIR_DEPTH)
    depth = ceil(spec.k / parts / AMX_DEPTH) * AMX_DEPTH
    direct_a = (
        spec.a.dtype is bfloat16
        and spec.a.strides[-1] == 1
        and spec.k % 2 == 0
        and not _rows_collide(spec.a, spec.k, spec.n, bfloat16)
    )
    return _plan(spec, lanes, (rows, vectors), depth, PAIR_TILE_FLOPS, direct_a, False)


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


# --- the arithmetic of a block ---

# Packed panels stream from the second-level cache; 16 turns ahead gained 4 % over none at 1000^3.
FETCH_AHEAD = 2048
_AMX_TILE = 2 * AMX_ROWS * AMX_DEPTH  # bytes of a tile


@dataclass(frozen=True)
class Sums:
    """A block of sums in scratch: its size, the elements of a row, and whether they go on.

    Args:
        rows, vectors: size of the block.
        masked: the panel ends within a vector, and only existing columns may be read.
        row: elements from one row of sums to the next.
        add: start from the sums that are there.
    """

    rows: int
    vectors: int
    masked: bool
    row: int
    add: bool


@dataclass(frozen=True)
class MicroKernel:
    """A private function (a, b, c, depth, count, rest): the end of its name, and what writes it."""

    suffix: str
    write: Callable[[str], Function]


class Arithmetic:
    """How a block of sums is computed: the base of the four ways, which say `micro_kernel`.

    `packed` is the number type of packed operands, `granule` the number of k they are padded to.
    """

    packed: DType
    granule = 1

    def __init__(self, spec: GemmSpec, plan: Plan):
        self.spec, self.plan, self.packed = spec, plan, plan.compute

    def strip(self, x: Operand, lane: int, depth: int, lanes: int) -> Strip:
        """How an operand is read."""
        return Strip(x.dtype, lane, depth, lanes, self.packed, self.spec.round_to)

    def begin(self, f: Function) -> None:
        """What a tile needs before its first block: nothing."""

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool) -> None:
        """Copy one strip; deep: its depth is at least a vector."""
        raise NotImplementedError

    def pack_rest(self, f: Function, copy: StripCopy, rows: Value) -> None:
        """Copy what cannot be read in place of a block of a that is: nothing."""

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """What computes a block of sums."""
        raise NotImplementedError


def arithmetic_of(target: Target, spec: GemmSpec) -> Arithmetic:
    """The way a product is computed on a target."""
    if suits_dot(spec):
        return Dot(spec, plan_dot(target, spec))
    if of_bfloat16(spec) and target.has_amx:
        return AmxTiles(spec, plan_amx(spec))
    if of_bfloat16(spec) and target.has_bf16_dot:
        return PairDots(spec, plan_pairs(target, spec))
    return MultiplyAdd(spec, plan_fma(target, spec))


class MultiplyAdd(Arithmetic):
    """Blocks of vector sums; packed operands are `out[k][lane]` on both sides."""

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool) -> None:
        """Copy one strip."""
        pack_strip(f, copy, self.plan.lanes, deep)

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """The register tile whose columns are vectors of b."""
        plan, spec = self.plan, self.spec
        row, depth = spec.a.strides[-2:] if plan.pack_a == "direct" else (1, plan.stride_a)
        direct = plan.pack_b == "direct"
        tile = RegisterTile(
            plan.compute.llvm, plan.lanes, sums.vectors, tuple(i * row for i in range(sums.rows)),
            (Turns(None, depth),), spec.b.strides[-2] if direct else sums.vectors * plan.lanes,
            () if direct else tuple(FETCH_AHEAD + j * 64 for j in range(sums.vectors)),
        )  # fmt: skip

        def write(name: str) -> Function:
            return write_micro_kernel(name, tile, sums.row, sums.add, sums.masked, DEPTH_COUNT_REST)

        masked = ".masked" if sums.masked else ""
        return MicroKernel(f"micro.{sums.rows}x{sums.vectors}{masked}", write)


class Dot(Arithmetic):
    """One row times a matrix whose columns lie along k: dot products, nothing copied.

    The case of a weight (out, in) applied to one sample: each number of b is used once, so packing
    it would cost more than the product. A vector runs along k; the sums of as many columns as a
    vector has lanes are turned and added at the end, which gives one vector along n.
    """

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """One row times one panel."""
        return MicroKernel(
            "dot.masked" if sums.masked else "dot", lambda name: self._write(name, sums.masked)
        )

    def _write(self, name: str, masked: bool) -> Function:
        """The code; `masked`: the panel has fewer columns than a vector lanes."""
        f = begin_micro_kernel(name, DEPTH_COUNT_REST)
        lanes, dtype = self.plan.lanes, self.spec.b.dtype
        columns: list[Value] = []
        for j in range(lanes):
            column = f.index(j)
            if masked:
                column = f.minimum(column, f.sub(f.count, f.index(1)))
            offset = f.mul(column, f.index(self.spec.b.strides[-1]))
            columns.append(f.at(f.b, offset, dtype.llvm, "column"))
        zero = f.const(vector(lanes, self.packed.llvm), 0)
        whole = f.op("and", f.depth, f.index(-lanes))
        with f.loop("k", 0, whole, lanes, carry=[zero] * lanes) as k:
            k.next(*self._turn(f, columns, k.index, k.carried, None))
        with f.loop("rest", whole, f.depth, lanes, carry=k.results) as k:
            mask = f.mask_below(lanes, f.sub(f.depth, k.index))
            k.next(*self._turn(f, columns, k.index, k.carried, mask))
        sums = transpose(f, k.results)
        while len(sums) > 1:
            sums = [f.add(x, y) for x, y in zip(sums[::2], sums[1::2], strict=True)]
        f.store(sums[0], f.c)
        return f

    def _turn(
        self, f: Function, columns: list[Value], k: Value, sums: Sequence[Value], mask: Value | None
    ) -> list[Value]:
        """One vector of products added to each column's sum."""
        x = self._load(f, f.a, self.spec.a, k, mask)
        return [
            multiply_add(f, x, self._load(f, column, self.spec.b, k, mask), total)
            for column, total in zip(columns, sums, strict=True)
        ]

    def _load(self, f: Function, start: Value, x: Operand, k: Value, mask: Value | None) -> Value:
        llvm = x.dtype.llvm
        value = f.load(f.at(start, k, llvm), vector(self.plan.lanes, llvm), mask=mask)
        return self.strip(x, 1, 1, 1).convert(f, value)


class PairArithmetic(Arithmetic):
    """Packed operands are bfloat16, whatever they were; the summed axis is filled up with zeros."""

    granule = AMX_DEPTH

    def __init__(self, spec: GemmSpec, plan: Plan):
        super().__init__(spec, plan)
        self.packed, self.even = bfloat16, spec.k % AMX_DEPTH == 0

    def strip(self, x: Operand, lane: int, depth: int, lanes: int) -> Strip:
        """How an operand is read."""
        return Strip(x.dtype, lane, depth, lanes, bfloat16)


class PairDots(PairArithmetic):
    """Blocks of vector sums of pairs; packed operands are `out[k / 2][lane][k % 2]` on both sides.

    Rows of bfloat16 that lie along k are read in place.
    """

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool) -> None:
        """Copy one strip."""
        pack_pairs(f, copy, "lines", self.even)

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """The register tile whose columns are vectors of pairs of b."""
        plan = self.plan
        row, turn = 2, 2 * plan.stride_a
        if plan.pack_a == "direct":
            row, turn = self.spec.a.strides[-2], 2
        tile = RegisterTile(
            plan.compute.llvm, plan.lanes, sums.vectors, tuple(i * row for i in range(sums.rows)),
            (Turns(None, turn),), sums.vectors * plan.lanes,
            tuple(FETCH_AHEAD + j * 64 for j in range(sums.vectors)), pairs=True,
        )  # fmt: skip

        def write(name: str) -> Function:
            return write_micro_kernel(name, tile, sums.row, sums.add, others=DEPTH_COUNT_REST)

        return MicroKernel(f"pairs.{sums.rows}x{sums.vectors}", write)


class AmxTiles(PairArithmetic):
    """Blocks of up to 32 x 32 sums in AMX tiles; packed operands are tiles, as they are loaded."""

    def begin(self, f: Function) -> None:
        """Say how large the tiles are."""
        amx_configure(f)

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool) -> None:
        """Copy one strip into tiles."""
        pack_pairs(f, copy, "paired tiles" if side == "b" else "tiles", self.even)

    def pack_rest(self, f: Function, copy: StripCopy, rows: Value) -> None:
        """Pack the last k of a block read in place, as the two tiles its micro-kernel reads."""
        if self.even:
            return
        whole = f.op("and", copy.depth, f.index(-AMX_DEPTH))
        left, k = f.sub(copy.depth, whole), f.add(copy.k0, whole)
        copy = replace(copy, width=AMX_ROWS, k0=k, depth=left)
        pack_pairs(f, copy, "tiles", False)
        if self.plan.stride_a > AMX_ROWS:
            second = f.sub(f.add(copy.first, rows), f.index(AMX_ROWS))
            out = f.at(copy.out, f.index(AMX_ROWS * AMX_DEPTH), "i16")
            pack_pairs(f, replace(copy, first=second, out=out), "tiles", False)

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """Up to 2 x 2 tiles of sums."""
        suffix = f"tiles.{sums.rows}x{sums.vectors}"
        return MicroKernel(suffix, lambda name: self._write(name, sums))

    def _write(self, name: str, sums: Sums) -> Function:
        """The code."""
        plan, direct = self.plan, self.plan.pack_a == "direct"
        f = begin_micro_kernel(name, DEPTH_COUNT_REST)
        # in place there is nothing behind the last row: the second tile ends with the block's last
        # row and repeats rows of the first, which gives the same sums again
        downs = [0, sums.rows - AMX_ROWS if direct else AMX_ROWS][: 1 + (sums.rows > AMX_ROWS)]
        tiles = tuple(i * _AMX_TILE for i in range(len(downs)))
        line = 2 * AMX_DEPTH  # bytes of a row of a tile
        if direct:
            row = 2 * self.spec.a.strides[-2]
            a = AmxOperand(f.a, tuple(down * row for down in downs), row, line)
        else:
            a = AmxOperand(f.a, tiles, line, 2 * plan.stride_a * AMX_DEPTH)
        across = range(sums.vectors)
        b = AmxOperand(f.b, tuple(j * _AMX_TILE for j in across), line, sums.vectors * _AMX_TILE)
        cells = tuple(4 * (down * sums.row + j * AMX_ROWS) for down in downs for j in across)
        rest = AmxOperand(f.rest, tiles, line) if direct and not self.even else None
        amx_product(f, a, b, AmxOperand(f.c, cells, 4 * sums.row), f.depth, sums.add, rest)
        return f
