"""Chooses the sizes of a matrix product: register block, cache blocks, tiles, what is packed where.

Knows integers only: no IR, no buffers. Everything here is fixed before the program runs, so that a
result never depends on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from tinytorch.base.dtypes import DType, bfloat16, float32, float64
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.blocking import Split
from tinytorch.kernels.packing import Strip, emit_pack, emit_tiles, transpose
from tinytorch.kernels.register_tile import Micro, begin_micro, write_micro


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


# MERGED tinytorch.kernels.gemm_plan: Matrix products by fused multiply-adds of float32 or
# float64 vectors.
#
# Knows how operands of any float type become packed numbers of the computing type; narrow types are
# exact in float32.

# Packed panels stream from the second-level cache; 16 turns ahead gained 4 % over none at 1000^3.
FETCH_AHEAD = 2048


class MultiplyAdd:
    """Blocks of vector sums; packed operands are `out[k][lane]`."""

    granule = 1

    def __init__(self, plan: Plan, round_to: DType | None, fused: bool):
        self.plan, self.round_to, self.fused = plan, round_to, fused
        self.packed = plan.compute

    def strip(self, x: Operand, lane: int, depth: int, lanes: int) -> Strip:
        """How an operand is read."""
        return Strip(x.dtype, lane, depth, lanes, self.packed, self.round_to)

    def emit_pack(self, f, side, strip, source, first, k0, depth, out, width, whole, deep) -> None:
        """Copy one strip; both sides lie the same way."""
        emit_pack(f, strip, source, first, k0, depth, out, width, self.plan.lanes, whole, deep)

    def emit_begin(self, f: Function) -> None:
        """Nothing is needed before the first block."""

    def emit_rest(self, f: Function, nest, source, row, rows, k0, depth, out) -> None:
        """Any depth is read in place."""

    def micro(self, nest, rows: int, vectors: int, masked: bool) -> Micro:
        """The description of a micro-kernel."""
        plan, spec = self.plan, nest.spec
        direct = plan.pack_a == "direct"
        return Micro(
            plan.compute, plan.lanes, rows, vectors,
            a_row=spec.a.strides[-2] if direct else 1,
            a_depth=spec.a.strides[-1] if direct else plan.stride_a,
            b_depth=spec.b.strides[-2] if plan.pack_b == "direct" else vectors * plan.lanes,
            c_row=nest.c_row, masked=masked, add=nest.long, fused=self.fused,
            ahead=0 if plan.pack_b == "direct" else FETCH_AHEAD,
        )  # fmt: skip

    def write(self, name: str, micro: Micro) -> Function:
        """The micro-kernel's code."""
        return write_micro(name, micro)


# MERGED tinytorch.kernels.gemm_plan: Matrix products of bfloat16 by AMX tiles, summed in float32.
#
# Knows the tile registers: eight of 16 rows by 64 bytes. Four hold 32 x 32 sums, two hold rows
# of a,
# two hold columns of b. One instruction adds 16 x 16 products of 32 numbers each.

ROWS = 16  # rows of a tile, and its columns of 4 bytes
AMX_GRAIN = 32  # bfloat16 numbers in a row of 64 bytes
TILE = ROWS * AMX_GRAIN  # bfloat16 numbers in a tile
# tile registers; the sums of tile row i and tile column j are in 2 i + j
SUMS, A, B = (0, 1, 2, 3), (4, 5), (6, 7)


def suits_amx(target: Target, spec) -> bool:
    """Whether a product's operands are, or are to be rounded to, bfloat16, and there are tiles."""
    rounded = spec.round_to is bfloat16
    return target.has_amx and spec.k > 0 and all(
        x.dtype is bfloat16 or (rounded and x.dtype.is_float) for x in (spec.a, spec.b)
    )  # fmt: skip


@dataclass(frozen=True)
class TileMicro:
    """One micro-kernel: up to 32 x 32 sums.

    Args:
        rows, vectors: size of the block; columns are `16 * vectors`.
        a_row: elements from one row of a to the next; 0 if a is packed as tiles.
        a_step: elements of a from one 32 of k to the next.
        c_row: elements of one row of sums.
        add: start from the sums in c.
        rest: the last k, fewer than 32, are read from packed tiles behind `rest`.
    """

    rows: int
    vectors: int
    a_row: int
    a_step: int
    c_row: int
    add: bool
    rest: bool = False

    @property
    def suffix(self) -> str:
        """Ends the symbol."""
        return f"tiles.{self.rows}x{self.vectors}"


class Tiles:
    """Blocks of tile sums; packed operands are tiles, in the order in which they are loaded."""

    packed = bfloat16
    granule = AMX_GRAIN

    def __init__(self, plan: Plan, even: bool):
        self.plan, self.even = plan, even

    def strip(self, x: Operand, lane: int, depth: int, lanes: int) -> Strip:
        """How an operand is read."""
        return Strip(x.dtype, lane, depth, lanes, bfloat16)

    def emit_pack(self, f, side, strip, source, first, k0, depth, out, width, whole, deep) -> None:
        """Copy one strip into tiles."""
        even = self.even
        emit_tiles(f, strip, source, first, k0, depth, out, width, side == "b", whole, even)

    def emit_begin(self, f: Function) -> None:
        """Say how large the tiles are: palette 1, all of 16 rows by 64 bytes.

        Source: Intel 64 and IA-32 Architectures Software Developer's Manual, LDTILECFG: byte 0 is
        the palette, bytes 16.. are 16-bit row lengths, bytes 48.. are row counts.
        """
        f.store(f.const("<16 x i32>", 0), f.scratch)
        f.store(f.const("i8", 1), f.scratch)
        f.store(f.const("<8 x i16>", 64), f.at(f.scratch, f.index(16), "i8"))
        f.store(f.const("<8 x i8>", ROWS), f.at(f.scratch, f.index(48), "i8"))
        f.call("void", "llvm.x86.ldtilecfg", f.scratch)

    def emit_rest(self, f: Function, nest, source, row, rows, k0, depth, out) -> None:
        """Pack the last k of a block read in place, as the two tiles its micro-kernel reads."""
        if self.even:
            return
        whole = f.op("and", depth, f.index(-AMX_GRAIN))
        left, k = f.sub(depth, whole), f.add(k0, whole)
        strip = nest.strips["a"]
        emit_tiles(f, strip, source, row, k, left, out, ROWS, False, False, False)
        if nest.plan.stride_a > ROWS:
            second = f.sub(f.add(row, rows), f.index(ROWS))
            out = f.at(out, f.index(TILE), "i16")
            emit_tiles(f, strip, source, second, k, left, out, ROWS, False, False, False)

    def micro(self, nest, rows: int, vectors: int, masked: bool) -> TileMicro:
        """The description of a micro-kernel."""
        direct = self.plan.pack_a == "direct"
        return TileMicro(
            rows, vectors,
            a_row=nest.spec.a.strides[-2] if direct else 0,
            a_step=AMX_GRAIN if direct else self.plan.stride_a * AMX_GRAIN,
            c_row=nest.c_row, add=nest.long, rest=direct and not self.even,
        )  # fmt: skip

    def write(self, name: str, micro: TileMicro) -> Function:
        """The micro-kernel's code."""
        return write_tiles(name, micro)


def write_tiles(name: str, micro: TileMicro) -> Function:
    """The private function `name(a, b, c, depth, count, rest)`."""
    f = begin_micro(name)
    a, b, c = f.a, f.b, f.c
    # in place there is nothing behind the last row: the second tile ends with the block's last row
    # and repeats rows of the first, which gives the same sums again
    second = micro.rows - ROWS if micro.a_row else ROWS
    downs = (0, second) if micro.rows > ROWS else (0,)
    columns = range(micro.vectors)
    cells = [
        (SUMS[2 * i + j], f.at(c, f.index(down * micro.c_row + j * ROWS), "float"))
        for i, down in enumerate(downs)
        for j in columns
    ]
    sums_row = f.index(micro.c_row * 4)
    for tile, place in cells:
        if micro.add:
            _tile(f, "tileloadd64", tile, place, sums_row)
        else:
            f.call("void", "llvm.x86.tilezero", _amx_register(f, tile))

    def turn(a: Value, b: Value, a_row: int, offsets: list[int]) -> None:
        for i, offset in enumerate(offsets):
            _tile(f, "tileloadd64", A[i], f.at(a, f.index(offset), "i16"), f.index(a_row))
            for j in columns:
                if i == 0:
                    _tile(f, "tileloadd64", B[j], f.at(b, f.index(j * TILE), "i16"), f.index(64))
                which = [_amx_register(f, t) for t in (SUMS[2 * i + j], A[i], B[j])]
                f.call("void", "llvm.x86.tdpbf16ps", *which)

    packed = [i * TILE for i in range(len(downs))]
    whole = f.op("and", f.depth, f.index(-AMX_GRAIN)) if micro.rest else f.depth
    with f.loop("k", 0, whole, AMX_GRAIN, carry=[a, b]) as k:
        a, b = k.carried
        turn(
            a, b, micro.a_row * 2 or 64, [d * micro.a_row for d in downs] if micro.a_row else packed
        )
        a = f.at(a, f.index(micro.a_step), "i16", "a.next")
        k.next(a, f.at(b, f.index(micro.vectors * TILE), "i16", "b.next"))
    if micro.rest:
        with f.when(f.compare("lt", whole, f.depth)):
            turn(f.rest, k.results[1], 64, packed)
    for tile, place in cells:
        _tile(f, "tilestored64", tile, place, sums_row)
    return f


def _amx_register(f: Function, number: int) -> Value:
    return f.const("i8", number)


def _tile(f: Function, name: str, tile: int, place: Value, row: Value) -> None:
    f.call("void", f"llvm.x86.{name}", _amx_register(f, tile), place, row)


# MERGED tinytorch.kernels.gemm_plan: One or two rows times a matrix whose columns lie along k:
# dot products, nothing copied.
#
# Knows the case of a weight (out, in) applied to one sample: each number of b is used once, so
# packing it would cost more than the product. A vector runs along k; the sums of as many
# columns as a
# vector has lanes are turned and added at the end, which gives one vector along n.

FEW_ROWS = 2


def suits_dot(spec) -> bool:
    """Whether a product has few rows, and both operands lie along k."""
    along = spec.a.strides[-1] == 1 and spec.b.strides[-2] == 1
    return spec.m <= FEW_ROWS and along and spec.k > 1


@dataclass(frozen=True)
class DotMicro:
    """One row times one panel; `masked` if the panel has fewer columns than a vector lanes."""

    masked: bool

    @property
    def suffix(self) -> str:
        """Ends the symbol."""
        return "dot.masked" if self.masked else "dot"


class Dot:
    """Vectors along k, nothing packed."""

    granule = 1

    def __init__(self, plan: Plan, spec, fused: bool):
        self.plan, self.spec, self.fused, self.packed = plan, spec, fused, plan.compute

    def strip(self, x: Operand, lane: int, depth: int, lanes: int) -> Strip:
        """How an operand is read."""
        return Strip(x.dtype, lane, depth, lanes, self.packed, self.spec.round_to)

    def emit_pack(self, f, side, strip, source, first, k0, depth, out, width, whole, deep) -> None:
        """Nothing is packed."""

    def emit_begin(self, f: Function) -> None:
        """Nothing is needed before the first block."""

    def emit_rest(self, f: Function, nest, source, row, rows, k0, depth, out) -> None:
        """Any depth is read in place."""

    def micro(self, nest, rows: int, vectors: int, masked: bool) -> DotMicro:
        """The description of a micro-kernel."""
        return DotMicro(masked)

    def write(self, name: str, micro: DotMicro) -> Function:
        """The private function `name(a, b, c, depth, count, rest)`."""
        f = begin_micro(name)
        lanes, dtype = self.plan.lanes, self.spec.b.dtype
        columns = []
        for j in range(lanes):
            column = f.index(j)
            if micro.masked:
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

    def _turn(self, f, columns: list[Value], k: Value, sums: list[Value], mask) -> list[Value]:
        """One vector of products added to each column's sum."""
        x = self._load(f, f.a, self.spec.a.dtype, k, mask)
        after = []
        for column, total in zip(columns, sums, strict=True):
            y = self._load(f, column, self.spec.b.dtype, k, mask)
            after.append(f.fma(x, y, total) if self.fused else f.add(f.mul(x, y), total))
        return after

    def _load(self, f, start: Value, dtype: DType, k: Value, mask) -> Value:
        x = f.load(f.at(start, k, dtype.llvm), vector(self.plan.lanes, dtype.llvm), mask=mask)
        return Strip(dtype, 1, 1, 1, self.packed, self.spec.round_to).convert(f, x)
