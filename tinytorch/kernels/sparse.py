"""Products with a sparse matrix: out[m, n] is the sum of values[i] x[m, columns[i]] over row n.

A number of the matrix is read once for all the rows of x that lie side by side in memory: so x
(M, K) lies as (K, M), copied first where it does not, in panels of some vectors of rows. Sums of a
row of the matrix are in registers until it ends; results lie as (N, M). One row of x is the same
with vectors of one lane: its numbers are loaded one by one, which is no slower than a gather. Knows
pointers and strides, never graphs; who calls has seen that columns are inside x and that starts do
not fall.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.base.dtypes import DType, float32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    TILE_ELEMENTS,
    Epilogue,
    Kernel,
    Lowered,
    Operand,
    Pointers,
    Shares,
    Step,
    ceil_div,
    lane_width,
    named_kernel,
    register_bytes,
    register_type,
)
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import muladd
from tinytorch.kernels.packing import Strip, StripCopy, pack_strip

# Vectors of sums in registers, and of x side by side. With more the lines that are read are too far
# apart for the caches near the core, with fewer the matrix is read more often: of 1, 2, 4 and 8, 64
# rows times 90 % zeros took about 407, 305, 284 and 363 us for 1024 x 1024, and 9.5, 6.5, 5.9 and
# 7.8 ms for 4096 x 4096 (Zen 3, one thread, a shared machine).
MOST_VECTORS = 4
CHAINS = 8  # sums that do not wait for each other: a multiply-add takes 4 cycles, two begin in one
DEPTH = 512  # columns that a tile of the copy takes


@dataclass(frozen=True)
class SparseSpec:
    """One product; none of the sizes is 0.

    Args:
        m, n, k: rows of x, rows of the matrix, length of both.
        count: numbers of the matrix.
        x: floats, strides over (m, k).
        values, columns, starts: number types; they lie without gaps.
    """

    m: int
    n: int
    k: int
    count: int
    x: Operand
    values: DType
    columns: DType
    starts: DType


def lower_sparse(target: Target, spec: SparseSpec, epilogue: Epilogue) -> Lowered:
    """The kernels of one product; buffers "x", "values", "columns", "starts" and the epilogue's.

    The epilogue is given each sum once, as vectors along m: `emit(f, value, (n, m), mask, ...)`.

    Cost: reads the matrix once for each panel; 2 m operations for each of its numbers.
    """
    return _Sparse(target, spec, epilogue).lowered()


class _Sparse:
    """Writes the kernels."""

    def __init__(self, target: Target, spec: SparseSpec, epilogue: Epilogue):
        self.spec, self.epilogue = spec, epilogue
        self.type = register_type(spec.x)
        size = register_bytes(spec.x)
        self.lanes = lane_width(target, size, spec.m)
        vectors = ceil_div(spec.m, self.lanes)
        self.panels = ceil_div(vectors, MOST_VECTORS)
        self.vectors = ceil_div(vectors, self.panels)
        self.width = self.lanes * self.vectors
        self.chains = CHAINS // max(2, self.vectors)  # a sum's two loads take a cycle: 4 are enough
        beside = spec.x.strides[0] == 1 or spec.m == 1
        self.direct = beside and self.width == spec.m
        self.packed_bytes = self.panels * self.width * spec.k * size
        row = max(1, spec.count // spec.n) * (1 + self.vectors)
        self.shares = Shares.of(spec.n, row, TILE_ELEMENTS)

    def lowered(self) -> Lowered:
        """The product, behind the copy of x where it needs one."""
        kernel = self._product()
        if self.direct:
            return Lowered.of(kernel)
        arguments = tuple("packed" if name == "x" else name for name in kernel.arguments)
        product = Step(kernel, arguments, frozenset(["packed"]))
        steps = Step(self._copy(), ("x", "packed")), product
        return Lowered(steps, {"packed": self.packed_bytes})

    # x in panels: (panels, k, width)

    def _copy(self) -> Kernel:
        spec, x = self.spec, self.spec.x
        parts = ceil_div(spec.k, DEPTH)
        compute = float32 if x.dtype.itemsize < 4 else x.dtype
        strip = Strip(x.dtype, x.strides[0], x.strides[1], spec.m, compute)
        rest = spec.k - (parts - 1) * DEPTH
        deep = rest >= self.lanes or (None if parts > 1 else False)

        def body(f: Function, p: Pointers) -> None:
            panel, part = f.div(f.tile, f.index(parts)), f.rem(f.tile, f.index(parts))
            k0 = f.mul(part, f.index(DEPTH))
            depth = f.minimum(f.sub(f.index(spec.k), k0), f.index(DEPTH))
            row = f.add(f.mul(panel, f.index(spec.k)), k0)
            out = f.at(p["packed"], f.mul(row, f.index(self.width)), self.type)
            source = f.at(p["x"], f.index(x.offset), x.dtype.llvm)
            first = f.mul(panel, f.index(self.width))
            whole = spec.m % self.width == 0
            copy = StripCopy(strip, source, first, self.width, k0, depth, out, whole)
            pack_strip(f, copy, self.lanes, deep)

        return named_kernel(
            "sparse_x", ("x", "packed"), body, tiles=self.panels * parts,
            bytes=spec.m * spec.k * x.dtype.itemsize + self.packed_bytes,
            label=f"turn {spec.m}x{spec.k}",
        )  # fmt: skip

    # sums

    def _product(self) -> Kernel:
        """A tile is some rows of the matrix times a panel of x."""
        spec = self.spec
        each = spec.values.itemsize + spec.columns.itemsize
        moved = self.panels * (spec.count * each + spec.n * spec.starts.itemsize)
        return named_kernel(
            "sparse", ("x", "values", "columns", "starts", *self.epilogue.arguments), self._body,
            tiles=self.panels * self.shares.tiles, flops=2 * spec.m * spec.count,
            bytes=moved + spec.m * (spec.k + spec.n) * spec.x.dtype.itemsize,
            label=f"matmul {spec.m}x{spec.k}x{spec.n}, {spec.count} numbers",
        )  # fmt: skip

    def _body(self, f: Function, p: Pointers) -> None:
        spec, shares = self.spec, self.shares
        panel, share = (op(f.tile, f.index(shares.tiles)) for op in (f.div, f.rem))
        first = f.mul(panel, f.index(self.width))
        if self.direct:
            x = f.at(p["x"], f.index(spec.x.offset), spec.x.dtype.llvm)
        else:
            x = f.at(p["x"], f.mul(panel, f.index(self.width * spec.k)), self.type)
        begin = f.mul(share, f.index(shares.each))
        end = f.minimum(f.add(begin, f.index(shares.each)), f.index(spec.n))
        with f.loop("row", begin, end) as row:
            for j, total in enumerate(self._row(f, p, x, row.index)):
                m = f.add(first, f.index(j * self.lanes))
                mask = None
                if spec.m % self.width:
                    mask = f.mask_below(self.lanes, f.sub(f.index(spec.m), m))
                self.epilogue.emit(f, total, (row.index, m), mask, p)

    def _row(self, f: Function, p: Pointers, x: Value, row: Value) -> list[Value]:
        """The sums of one row of the matrix, a vector of rows of x each."""
        starts = self.spec.starts
        begin, end = (
            f.convert(f.load(f.at(p["starts"], i, starts.llvm), starts.llvm), "i64")
            for i in (row, f.add(row, f.index(1)))
        )
        whole = f.add(begin, f.op("and", f.sub(end, begin), f.index(-self.chains)))
        zero = f.const(vector(self.lanes, self.type), 0.0)
        with f.loop("i", begin, whole, self.chains, carry=[zero] * self.chains * self.vectors) as i:
            sums: list[Value] = []
            for chain in range(self.chains):
                before = i.carried[chain * self.vectors :][: self.vectors]
                sums += self._add(f, p, x, f.add(i.index, f.index(chain)), before)
            i.next(*sums)
        totals = i.results
        if self.chains == 1:
            return totals
        while len(totals) > self.vectors:  # halves, so that additions need not wait for each other
            half = len(totals) // 2
            totals = [f.add(a, b) for a, b in zip(totals[:half], totals[half:], strict=True)]
        with f.loop("rest", whole, end, carry=totals) as i:
            i.next(*self._add(f, p, x, i.index, i.carried))
        return i.results

    def _add(
        self, f: Function, p: Pointers, x: Value, i: Value, sums: list[Value]
    ) -> list[Value]:  # fmt: skip
        """The sums with one more number of the matrix."""
        spec = self.spec
        column = f.load(f.at(p["columns"], i, spec.columns.llvm), spec.columns.llvm, stem="column")
        column = f.convert(column, "i64", signed=False)
        value = f.load(f.at(p["values"], i, spec.values.llvm), spec.values.llvm, stem="value")
        value = f.splat(f.convert(value, self.type), self.lanes)
        step, kind = (
            (spec.x.strides[1], spec.x.dtype.llvm) if self.direct else (self.width, self.type)
        )
        line = f.at(x, f.mul(column, f.index(step)), kind)
        after: list[Value] = []
        for j, total in enumerate(sums):
            part = f.load(f.at(line, f.index(j * self.lanes), kind), vector(self.lanes, kind))
            part = f.convert(part, vector(self.lanes, self.type))
            after.append(muladd(f, part, value, total))
        return after
