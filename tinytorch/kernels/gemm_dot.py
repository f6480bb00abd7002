"""One or two rows times a matrix whose columns lie along k: dot products, nothing copied.

Knows the case of a weight (out, in) applied to one sample: each number of b is used once, so
packing it would cost more than the product. A vector runs along k; the sums of as many columns as a
vector has lanes are turned and added at the end, which gives one vector along n.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Epilogue, Lowered, Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.block_transpose import transpose
from tinytorch.kernels.gemm_micro import begin_micro
from tinytorch.kernels.gemm_nest import Nest
from tinytorch.kernels.gemm_plan import TILE_FLOPS, Plan, Split, group_of, tile_counts
from tinytorch.kernels.packing import Strip

FEW_ROWS = 2


def suits_dot(spec) -> bool:
    """Whether a product has few rows, and both operands lie along k."""
    along = spec.a.strides[-1] == 1 and spec.b.strides[-2] == 1
    return spec.m <= FEW_ROWS and along and spec.k > 1


def lower_dot(target: Target, spec, epilogue: Epilogue) -> Lowered:
    """The kernels of a product computed with dot products."""
    compute = float64 if spec.a.dtype is float64 else float32
    lanes = target.lanes(compute)
    blocks, panels = Split(spec.m, spec.m), ceil(spec.n / lanes)
    rows, columns = tile_counts(spec, blocks, panels, TILE_FLOPS)
    plan = Plan(
        compute, lanes, 1, blocks, Split(spec.m, rows), panels, Split(panels, columns),
        group_of(spec, rows * columns, TILE_FLOPS), spec.k, "direct", "direct",
    )  # fmt: skip
    return Nest(spec, plan, Dot(plan, spec, target.has_fma), epilogue).lowered()


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

    def emit_rest(self, f: Function, nest: Nest, source, row, rows, k0, depth, out) -> None:
        """Any depth is read in place."""

    def micro(self, nest: Nest, rows: int, vectors: int, masked: bool) -> DotMicro:
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
