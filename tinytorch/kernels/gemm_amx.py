"""Matrix products of bfloat16 by AMX tiles, summed in float32.

Knows the tile registers: eight of 16 rows by 64 bytes. Four hold 32 x 32 sums, two hold rows of a,
two hold columns of b. One instruction adds 16 x 16 products of 32 numbers each.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.base.dtypes import bfloat16
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Epilogue, Lowered, Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.gemm_micro import begin_micro
from tinytorch.kernels.gemm_nest import Nest
from tinytorch.kernels.gemm_plan import Plan, plan_amx
from tinytorch.kernels.packing import Strip
from tinytorch.kernels.packing_amx import emit_tiles

ROWS = 16  # rows of a tile, and its columns of 4 bytes
DEPTH = 32  # bfloat16 numbers in a row of 64 bytes
TILE = ROWS * DEPTH  # bfloat16 numbers in a tile
# tile registers; the sums of tile row i and tile column j are in 2 i + j
SUMS, A, B = (0, 1, 2, 3), (4, 5), (6, 7)


def suits_amx(target: Target, spec) -> bool:
    """Whether a product's operands are, or are to be rounded to, bfloat16, and there are tiles."""
    rounded = spec.round_to is bfloat16
    return target.has_amx and spec.k > 0 and all(
        x.dtype is bfloat16 or (rounded and x.dtype.is_float) for x in (spec.a, spec.b)
    )  # fmt: skip


def lower_amx(target: Target, spec, epilogue: Epilogue) -> Lowered:
    """The kernels of a product computed with tiles."""
    plan = plan_amx(spec)
    return Nest(spec, plan, Tiles(plan, spec.k % DEPTH == 0), epilogue).lowered()


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
    granule = DEPTH

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

    def emit_rest(self, f: Function, nest: Nest, source, row, rows, k0, depth, out) -> None:
        """Pack the last k of a block read in place, as the two tiles its micro-kernel reads."""
        if self.even:
            return
        whole = f.op("and", depth, f.index(-DEPTH))
        left, k = f.sub(depth, whole), f.add(k0, whole)
        strip = nest.strips["a"]
        emit_tiles(f, strip, source, row, k, left, out, ROWS, False, False, False)
        if nest.plan.stride_a > ROWS:
            second = f.sub(f.add(row, rows), f.index(ROWS))
            out = f.at(out, f.index(TILE), "i16")
            emit_tiles(f, strip, source, second, k, left, out, ROWS, False, False, False)

    def micro(self, nest: Nest, rows: int, vectors: int, masked: bool) -> TileMicro:
        """The description of a micro-kernel."""
        direct = self.plan.pack_a == "direct"
        return TileMicro(
            rows, vectors,
            a_row=nest.spec.a.strides[-2] if direct else 0,
            a_step=DEPTH if direct else self.plan.stride_a * DEPTH,
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
            f.call("void", "llvm.x86.tilezero", _register(f, tile))

    def turn(a: Value, b: Value, a_row: int, offsets: list[int]) -> None:
        for i, offset in enumerate(offsets):
            _tile(f, "tileloadd64", A[i], f.at(a, f.index(offset), "i16"), f.index(a_row))
            for j in columns:
                if i == 0:
                    _tile(f, "tileloadd64", B[j], f.at(b, f.index(j * TILE), "i16"), f.index(64))
                which = [_register(f, t) for t in (SUMS[2 * i + j], A[i], B[j])]
                f.call("void", "llvm.x86.tdpbf16ps", *which)

    packed = [i * TILE for i in range(len(downs))]
    whole = f.op("and", f.depth, f.index(-DEPTH)) if micro.rest else f.depth
    with f.loop("k", 0, whole, DEPTH, carry=[a, b]) as k:
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


def _register(f: Function, number: int) -> Value:
    return f.const("i8", number)


def _tile(f: Function, name: str, tile: int, place: Value, row: Value) -> None:
    f.call("void", f"llvm.x86.{name}", _register(f, tile), place, row)
