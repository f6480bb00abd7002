"""How the sums of a matrix product are computed, and how their operands are packed: three ways.

    MultiplyAdd   vectors of float32 or float64 along n; any float type is converted while packed
    Dot           vectors along k for one or two rows; nothing is packed
    AmxTiles      AMX tiles of bfloat16, summed in float32

Knows one block of rows and one panel of columns; not where they come from, nor what becomes of the
sums, which micro-kernels leave in scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tinytorch.base.dtypes import DType, bfloat16
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.gemm_plan import (
    GemmSpec,
    Plan,
    plan_amx,
    plan_dot,
    plan_fma,
    suits_amx,
    suits_dot,
)
from tinytorch.kernels.packing import Strip, StripCopy, pack_amx_strip, pack_strip, transpose
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
    write_micro_kernel,
)

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
    """How a block of sums is computed: the base of the three ways, which say `micro_kernel`.

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
    if suits_amx(target, spec):
        return AmxTiles(spec, plan_amx(spec))
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


class AmxTiles(Arithmetic):
    """Blocks of up to 32 x 32 sums in AMX tiles; packed operands are tiles, as they are loaded."""

    granule = AMX_DEPTH

    def __init__(self, spec: GemmSpec, plan: Plan):
        super().__init__(spec, plan)
        self.packed, self.even = bfloat16, spec.k % AMX_DEPTH == 0

    def strip(self, x: Operand, lane: int, depth: int, lanes: int) -> Strip:
        """How an operand is read; whatever it is becomes bfloat16."""
        return Strip(x.dtype, lane, depth, lanes, bfloat16)

    def begin(self, f: Function) -> None:
        """Say how large the tiles are."""
        amx_configure(f)

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool) -> None:
        """Copy one strip into tiles."""
        pack_amx_strip(f, copy, side == "b", self.even)

    def pack_rest(self, f: Function, copy: StripCopy, rows: Value) -> None:
        """Pack the last k of a block read in place, as the two tiles its micro-kernel reads."""
        if self.even:
            return
        whole = f.op("and", copy.depth, f.index(-AMX_DEPTH))
        left, k = f.sub(copy.depth, whole), f.add(copy.k0, whole)
        copy = replace(copy, width=AMX_ROWS, k0=k, depth=left)
        pack_amx_strip(f, copy, False, False)
        if self.plan.stride_a > AMX_ROWS:
            second = f.sub(f.add(copy.first, rows), f.index(AMX_ROWS))
            out = f.at(copy.out, f.index(AMX_ROWS * AMX_DEPTH), "i16")
            pack_amx_strip(f, replace(copy, first=second, out=out), False, False)

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
