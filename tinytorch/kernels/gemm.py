"""The loop nest around a micro-kernel: tiles, packing, epilogue.

Knows the plan and where things lie; the sums themselves, and the order of packed operands, belong
to the arithmetic it is given (`gemm_fma`, `gemm_amx`).
"""

from __future__ import annotations

from math import ceil, prod
from typing import Any, Protocol

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import (
    Epilogue,
    Kernel,
    Lowered,
    Operand,
    Step,
    StoreEpilogue,
    offset_of,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.blocking import (
    Split,
    emit_epilogue,
    emit_prefetch,
    named_kernel,
    run_of,
    start_of,
    unravel,
)
from tinytorch.kernels.gemm_plan import (
    AMX_GRAIN,
    TILE_FLOPS,
    Dot,
    GemmSpec,
    MultiplyAdd,
    Plan,
    Tiles,
    group_of,
    plan_amx,
    plan_fma,
    suits_amx,
    suits_dot,
    tile_counts,
)
from tinytorch.kernels.packing import Strip


class Arithmetic(Protocol):
    """How a block of sums is computed, and how its operands are packed.

    `packed` is the number type of packed operands, `granule` the number of k they are padded to.
    """

    packed: DType
    granule: int

    def strip(self, x: Operand, lane: int, depth: int, lanes: int) -> Strip:
        """How an operand is read."""
        ...

    def emit_pack(
        self,
        f,
        side: str,
        strip: Strip,
        source,
        first,
        k0,
        depth,
        out,
        width: int,
        whole: bool,
        deep: bool,
    ) -> None:
        """Copy one strip."""
        ...

    def emit_begin(self, f: Function) -> None:
        """What a tile needs before its first block."""
        ...

    def emit_rest(self, f: Function, nest: Nest, source, row, rows, k0, depth, out) -> None:
        """Pack what cannot be read in place of a block that is."""
        ...

    def micro(self, nest: Nest, rows: int, vectors: int, masked: bool) -> Any:
        """A description of a micro-kernel; it has a `suffix`."""
        ...

    def write(self, name: str, micro) -> Function:
        """Its code, a private function (a, b, c, depth, count, rest)."""
        ...


class Nest:
    """Writes the kernels of one product."""

    def __init__(self, spec, plan: Plan, arithmetic: Arithmetic, epilogue: Epilogue):
        self.spec, self.plan, self.arithmetic, self.epilogue = spec, plan, arithmetic, epilogue
        self.strips = {
            "a": arithmetic.strip(spec.a, spec.a.strides[-2], spec.a.strides[-1], spec.m),
            "b": arithmetic.strip(spec.b, spec.b.strides[-1], spec.b.strides[-2], spec.n),
        }
        self.tail = spec.n - (plan.panels - 1) * plan.width  # columns of the last panel
        self.tail_vectors = ceil(self.tail / plan.lanes)
        self.padded = (plan.panels - 1) * plan.width + self.tail_vectors * plan.lanes
        self.depth = ceil(spec.k / arithmetic.granule) * arithmetic.granule
        # partial sums of a long product wait in scratch, for all blocks of the tile
        self.long = spec.k > plan.depth
        # whether every stretch of the summed axis is at least a vector long
        rest = spec.k % plan.depth if self.long else spec.k
        self.deep = spec.k >= plan.lanes and (not rest or rest >= plan.lanes)
        self.c_row = plan.column_tiles.largest * plan.width if self.long else plan.width
        # sums of a block take a whole number of vectors or tiles of rows, like a packed block
        self.tile_rows = plan.row_tiles.largest * plan.stride_a

    def lowered(self) -> Lowered:
        """All kernels, in order."""
        steps, temporaries = [], {}
        for side, how in (("a", self.plan.pack_a), ("b", self.plan.pack_b)):
            if how == "step":
                kernel, size = pack_kernel(self, side)
                steps.append(Step(kernel, (side, f"temporary.{side}")))
                temporaries[f"temporary.{side}"] = size
        kernel = self.kernel()
        return Lowered((*steps, Step(kernel, kernel.arguments)), temporaries)

    def packed_size(self, side: str) -> int:
        """Elements of one packed matrix."""
        if side == "b":
            return self.padded * self.depth
        return self.plan.blocks.parts * self.plan.stride_a * self.depth

    def packed_index(self, f: Function, side: str, index) -> Value:
        """Which packed matrix belongs to a batch index."""
        total = f.index(0)
        strides = getattr(self.spec, side).strides
        for i, n, s in zip(index, self.spec.batch, strides, strict=False):
            if s:
                total = f.add(f.mul(total, f.index(n)), i)
        return total

    def kernel(self):
        """The kernel whose tiles are (group of products, row tile, column tile)."""
        plan, spec = self.plan, self.spec
        tiles = plan.row_tiles.parts * plan.column_tiles.parts
        groups = ceil(prod(spec.batch) / plan.group)
        sizes = self.scratch_sizes()
        arguments = tuple(
            f"temporary.{side}" if how == "step" else side
            for side, how in (("a", plan.pack_a), ("b", plan.pack_b))
        )
        self.micros = {}
        itemsizes = spec.a.dtype.itemsize * spec.m * spec.k, spec.b.dtype.itemsize * spec.k * spec.n
        return named_kernel(
            "gemm", (*arguments, *self.epilogue.arguments), self.body,
            helpers=lambda prefix: [
                self.arithmetic.write(f"{prefix}.{s}", m) for s, m in self.micros.items()
            ],
            tiles=tiles * groups, scratch=sum(sizes.values()), flops=spec.flops,
            bytes=prod(spec.batch) * (sum(itemsizes) + spec.out.dtype.itemsize * spec.m * spec.n),
            label=f"matmul {spec.m}x{spec.k}x{spec.n}"
            + (f" of {prod(spec.batch)}" if spec.batch else "") + f" {spec.a.dtype.name}",
        )  # fmt: skip

    def scratch_sizes(self) -> dict[str, int]:
        """Bytes of each part of a thread's scratch: sums, packed a, packed b."""
        plan = self.plan
        item = self.arithmetic.packed.itemsize
        room = min(plan.depth, self.depth)
        rows = self.tile_rows if self.long else plan.stride_a
        parts = {"c": rows * self.c_row * plan.compute.itemsize, "a": 0, "b": 0}
        if plan.pack_a == "tile":
            parts["a"] = plan.stride_a * room * item
        elif plan.pack_a == "direct" and self.depth != self.spec.k:
            parts["a"] = plan.stride_a * self.arithmetic.granule * item
        if plan.pack_b == "tile":
            parts["b"] = plan.column_tiles.largest * plan.width * room * item
        return {part: ceil(size / 64) * 64 for part, size in parts.items()}

    def body(self, f: Function, pointers) -> None:
        """One tile."""
        self.arithmetic.emit_begin(f)
        plan, spec = self.plan, self.spec
        tiles = plan.row_tiles.parts * plan.column_tiles.parts
        batch = prod(spec.batch)
        group = f.div(f.tile, f.index(tiles), "group") if batch > 1 else f.index(0)
        rest = f.sub(f.tile, f.mul(group, f.index(tiles)), "tile.rest")
        rows = f.div(rest, f.index(plan.column_tiles.parts), "row.tile")
        columns = f.sub(rest, f.mul(rows, f.index(plan.column_tiles.parts)), "column.tile")
        if plan.group == 1:
            self.emit_tile(f, pointers, unravel(f, group, spec.batch), rows, columns)
            return
        first = f.mul(group, f.index(plan.group))
        end = f.minimum(f.add(first, f.index(plan.group)), f.index(batch))
        with f.loop("member", first, end) as member:
            self.emit_tile(f, pointers, unravel(f, member.index, spec.batch), rows, columns)

    def emit_tile(self, f: Function, pointers, index, rows: Value, columns: Value) -> None:
        """One tile of one product."""
        plan, spec = self.plan, self.spec
        bases = {side: self.base(f, pointers, side, index) for side in "ab"}
        scratch = self.scratch(f)
        first_block = start_of(f, plan.row_tiles, rows)
        first_panel = start_of(f, plan.column_tiles, columns)
        if not self.long:
            self.emit_depth(
                f, pointers, bases, scratch, index, rows, columns, first_block, first_panel,
                f.index(0), f.index(spec.k),
            )  # fmt: skip
            return
        zero = f.const(f"<{plan.lanes} x {plan.compute.llvm}>", 0)
        with f.loop("clear", 0, self.tile_rows * self.c_row, plan.lanes) as at:
            f.store(zero, f.at(scratch["c"], at.index, plan.compute.llvm))
        with f.loop("k0", 0, spec.k, plan.depth) as k0:
            depth = f.minimum(f.sub(f.index(spec.k), k0.index), f.index(plan.depth))
            self.emit_depth(
                f, pointers, bases, scratch, index, rows, columns, first_block, first_panel,
                k0.index, depth,
            )  # fmt: skip
        column = f.mul(first_panel, f.index(plan.width))
        end = f.mul(start_of(f, plan.column_tiles, f.add(columns, f.index(1))), f.index(plan.width))
        width = f.sub(f.minimum(end, f.index(spec.n)), column)
        with run_of(f, plan.row_tiles, rows, "finish") as block:
            row = start_of(f, plan.blocks, block.index)
            count = f.sub(start_of(f, plan.blocks, f.add(block.index, f.index(1))), row)
            c = self.sums_at(f, scratch["c"], f.sub(block.index, first_block), f.index(0))
            self.emit_results(f, pointers, c, index, row, count, column, width)

    def emit_depth(
        self, f, pointers, bases, scratch, index, rows, columns, first_block, first_panel, k0, depth
    ) -> None:
        """All blocks of a tile, over one stretch of the summed axis."""
        plan = self.plan
        room = min(plan.depth, self.depth)
        packed = self.arithmetic.packed.llvm
        if plan.pack_b == "tile":
            with run_of(f, plan.column_tiles, columns, "fill") as panel:
                place = scratch["b"]
                emit_strip(
                    self, f, "b", bases["b"], panel.index, k0, depth, place, room, first_panel
                )
        with run_of(f, plan.row_tiles, rows, "block") as block:
            row = start_of(f, plan.blocks, block.index)
            a = scratch["a"]
            if plan.pack_a == "tile":
                emit_strip(self, f, "a", bases["a"], block.index, k0, depth, a, room, block.index)
            else:
                a = self.block_at(f, bases["a"], block.index, row, k0)
            count = self.rows_of(f, block.index)
            if plan.pack_a == "direct":
                self.arithmetic.emit_rest(f, self, bases["a"], row, count, k0, depth, scratch["a"])
            with run_of(f, plan.column_tiles, columns, "panel") as panel:
                column = f.mul(panel.index, f.index(plan.width), "column")
                left = f.minimum(f.sub(f.index(self.spec.n), column), f.index(plan.width))
                if plan.pack_b == "tile":
                    place = f.mul(f.sub(panel.index, first_panel), f.index(room * plan.width))
                    b = f.at(scratch["b"], place, packed, "b.panel")
                else:
                    b = self.panel_at(f, bases["b"], panel.index, k0)
                c = scratch["c"]
                if self.long:
                    right = f.mul(f.sub(panel.index, first_panel), f.index(plan.width))
                    c = self.sums_at(f, c, f.sub(block.index, first_block), right)
                else:
                    emit_prefetch(
                        f,
                        self.epilogue,
                        pointers,
                        index,
                        row,
                        count,
                        column,
                        plan.width,
                        plan.lanes,
                    )
                given = (a, b, c, depth, left, scratch["a"])
                self.emit_block(f, block.index, panel.index, given)
                if not self.long:
                    self.emit_results(f, pointers, c, index, row, count, column, left)

    def rows_of(self, f: Function, block: Value) -> Value:
        """How many rows a block has."""
        blocks = self.plan.blocks
        if not blocks.longer:
            return f.index(blocks.base)
        longer = f.compare("lt", block, f.index(blocks.longer))
        return f.select(longer, f.index(blocks.base + 1), f.index(blocks.base))

    def emit_block(self, f: Function, block: Value, panel: Value, given) -> None:
        """Call the micro-kernel that fits the block and the panel."""
        plan = self.plan
        blocks = plan.blocks
        sizes = sorted(set(blocks.sizes), reverse=True)
        longer = f.compare("lt", block, f.index(blocks.longer))
        shorter = f.op("xor", longer, f.const("i1", 1))
        masked = plan.pack_b == "direct" and self.tail % plan.lanes != 0
        panels = [(plan.vectors, False)] * (plan.panels > 1) + [(self.tail_vectors, masked)]
        panels = list(dict.fromkeys(panels))
        last = f.compare("eq", panel, f.index(plan.panels - 1))
        inner = f.op("xor", last, f.const("i1", 1))
        for rows, rows_fit in zip(sizes, (longer, shorter), strict=False):
            for vectors, mask in panels:
                micro = self.micro(rows, vectors, mask)
                fits = []
                if len(sizes) > 1:
                    fits.append(rows_fit)
                if len(panels) > 1:
                    fits.append(last if (vectors, mask) == panels[-1] else inner)
                with whenever(f, fits):
                    f.call("void", f"@@.{micro}", *given)

    def micro(self, rows: int, vectors: int, masked: bool) -> str:
        """Note that a micro-kernel is needed; gives its suffix."""
        micro = self.arithmetic.micro(self, rows, vectors, masked)
        self.micros[micro.suffix] = micro
        return micro.suffix

    def emit_results(self, f, pointers, c, index, row, rows, column, width) -> None:
        """Hand finished sums to the epilogue."""
        plan = self.plan
        emit_epilogue(
            f, self.epilogue, pointers, c, self.c_row, plan.compute, plan.lanes, index,
            row, rows, column, width, self.spec.n,
            0 if self.long or self.spec.n % plan.width else plan.width, ahead=self.long,
        )  # fmt: skip

    # addresses

    def scratch(self, f: Function) -> dict[str, Value]:
        """The parts of the thread's scratch."""
        out, offset = {}, 0
        for part, size in self.scratch_sizes().items():
            out[part] = f.at(f.scratch, f.index(offset), "i8", f"scratch.{part}")
            offset += size
        return out

    def base(self, f: Function, pointers, side: str, index) -> Value:
        """Where one product's operand begins: in place, or packed."""
        how = self.plan.pack_a if side == "a" else self.plan.pack_b
        if how == "step":
            which = f.mul(self.packed_index(f, side, index), f.index(self.packed_size(side)))
            return f.at(pointers[f"temporary.{side}"], which, self.arithmetic.packed.llvm)
        operand: Operand = getattr(self.spec, side)
        first = offset_of(f, operand, (*index, f.index(0), f.index(0)))
        return f.at(pointers[side], first, operand.dtype.llvm, f"{side}.matrix")

    def sums_at(self, f: Function, c: Value, block: Value, column: Value) -> Value:
        """Where the sums of the tile's block begin, at a column."""
        down = f.mul(block, f.index(self.plan.stride_a * self.c_row))
        return f.at(c, f.add(down, column), self.plan.compute.llvm, "c.block")

    def panel_at(self, f: Function, base: Value, panel: Value, k0: Value) -> Value:
        """Where b's panel begins at k0."""
        plan, spec = self.plan, self.spec
        if plan.pack_b == "direct":
            down = f.mul(k0, f.index(spec.b.strides[-2]))
            right = f.mul(panel, f.index(plan.width * spec.b.strides[-1]))
            return f.at(base, f.add(right, down), spec.b.dtype.llvm, "b.panel")
        first = f.mul(panel, f.index(plan.width * self.depth))
        last = f.compare("eq", panel, f.index(plan.panels - 1))
        wide = f.select(last, f.index(self.tail_vectors * plan.lanes), f.index(plan.width))
        return f.at(base, f.add(first, f.mul(k0, wide)), self.arithmetic.packed.llvm, "b.panel")

    def block_at(self, f: Function, base: Value, block: Value, row: Value, k0: Value) -> Value:
        """Where a's block of rows begins at k0."""
        plan, spec = self.plan, self.spec
        if plan.pack_a == "direct":
            first = f.mul(row, f.index(spec.a.strides[-2]))
            along = f.mul(k0, f.index(spec.a.strides[-1]))
            return f.at(base, f.add(first, along), spec.a.dtype.llvm, "a.block")
        first = f.mul(block, f.index(plan.stride_a * self.depth))
        along = f.mul(k0, f.index(plan.stride_a))
        return f.at(base, f.add(first, along), self.arithmetic.packed.llvm, "a.block")


def whenever(f: Function, conditions: list[Value]):
    """Run the body where all conditions hold."""
    if not conditions:
        return f.when(f.const("i1", 1))
    if len(conditions) == 1:
        return f.when(conditions[0])
    return f.when(f.op("and", conditions[0], conditions[1]))


# MERGED tinytorch.kernels.gemm: Packs the operands of a matrix product: each strip to its
# place, whole operands as kernels.
#
# Knows which strips there are and where they go; how one strip is copied belongs to the arithmetic.

# A packing tile copies about this many numbers: 20 us at one a cycle.
PACKED_AT_ONCE = 65536
# Rows that lie apart are copied this many at a time, all their strips: each touches another page,
# and the first-level address cache holds 96.
ROWS_AT_ONCE = 64


def pack_kernel(nest, side: str) -> tuple[Kernel, int]:
    """A kernel that copies a whole operand, and the bytes it fills.

    Its tiles are (matrix, group of strips, stretch of the summed axis).
    """
    plan, spec = nest.plan, nest.spec
    operand: Operand = getattr(spec, side)
    packed = nest.arithmetic.packed
    count = plan.panels if side == "b" else plan.blocks.parts
    groups, stretches, length, turn = shares(nest, side, count)
    axes = [n for n, s in zip(spec.batch, operand.strides, strict=False) if s]
    flat = Operand(operand.dtype, tuple(s for s in operand.strides[:-2] if s), operand.offset)

    def body(f: Function, pointers) -> None:
        matrix, group, stretch = unravel(f, f.tile, (prod(axes), groups.parts, stretches))
        source = offset_of(f, flat, unravel(f, matrix, axes))
        source = f.at(pointers[side], source, operand.dtype.llvm)
        out = f.mul(matrix, f.index(nest.packed_size(side)))
        out = f.at(pointers["packed"], out, packed.llvm)
        first = f.mul(stretch, f.index(length))
        end = f.minimum(f.add(first, f.index(length)), f.index(spec.k))
        with f.loop("k0", first, end, turn) as k0:
            depth = f.minimum(f.sub(end, k0.index), f.index(turn))
            with run_of(f, groups, group, "strip") as strip:
                emit_strip(
                    nest, f, side, source, strip.index, k0.index, depth, out, nest.depth, None,
                    k0.index,
                )  # fmt: skip

    size = ceil(nest.packed_size(side) * prod(axes) * packed.itemsize / 64) * 64
    read = spec.k * prod(axes) * (spec.n if side == "b" else spec.m) * operand.dtype.itemsize
    kernel = named_kernel(
        f"pack_{side}", (side, "packed"), body,
        tiles=prod(axes) * groups.parts * stretches, bytes=read + size,
        label=f"pack {side} of {spec.m}x{spec.k}x{spec.n}",
    )  # fmt: skip
    return kernel, size


def shares(nest, side: str, count: int) -> tuple[Split, int, int, int]:
    """How packing is shared: groups of strips, stretches, length of one, and k copied at a turn."""
    plan, k = nest.plan, nest.spec.k
    width = plan.width if side == "b" else plan.stride_a
    parts = max(1, round(count * width * k / PACKED_AT_ONCE))
    if nest.strips[side].lane_stride != 1:
        return Split(count, min(count, parts)), 1, max(k, 1), max(k, 1)
    length = max(ceil(k / parts / ROWS_AT_ONCE), 1) * ROWS_AT_ONCE
    stretches = max(1, ceil(k / length))
    return Split(count, min(count, ceil(parts / stretches))), stretches, length, ROWS_AT_ONCE


def emit_strip(
    nest, f: Function, side, source, strip, k0, depth, out, room, first, along=None
) -> None:
    """Pack one panel (b) or one block of rows (a) into its place behind `out`.

    Args:
        nest: the product; `side` "a" or "b", `strip` the number of the block or panel.
        source: where the operand's matrix begins; `k0`, `depth` say which stretch of it to read.
        out, room: where the strips go, and the depth that each has room for.
        first: the strip that lies first in `out`, or None for the operand's first.
        along: k at which to begin within the strip's place, or None for its begin.
    """
    plan, packed = nest.plan, nest.arithmetic.packed.llvm
    width = plan.width if side == "b" else plan.stride_a
    here: Value = strip if first is None else f.sub(strip, first)
    out = f.at(out, f.mul(here, f.index(room * width)), packed, "packed")

    def pack(lane: Value, width: int, whole: bool) -> None:
        place = out if along is None else f.at(out, f.mul(along, f.index(width)), packed, "packed")
        nest.arithmetic.emit_pack(
            f, side, nest.strips[side], source, lane, k0, depth, place, width, whole, nest.deep
        )

    if side == "a":
        pack(start_of(f, plan.blocks, strip), width, False)
        return
    column = f.mul(strip, f.index(width))
    if nest.tail_vectors == plan.vectors:
        pack(column, width, nest.tail == plan.width)
        return
    last = f.compare("eq", strip, f.index(plan.panels - 1))
    with f.when(f.op("xor", last, f.const("i1", 1))):
        pack(column, width, True)
    with f.when(last):
        pack(column, nest.tail_vectors * plan.lanes, False)


# MERGED tinytorch.kernels.gemm: Matrix products of any layout as tiles for the thread team, an
# epilogue in place of the store.
#
# Knows pointers, strides and epilogues; never Tensors or graphs. out[..., i, j] is the sum over
# k of
# a[..., i, k] * b[..., k, j], summed in an order that depends on the shapes and the target only.


def lower_gemm(target: Target, spec: GemmSpec, epilogue: Epilogue | None = None) -> Lowered:
    """The kernels of one matrix product.

    The epilogue is given each output element once, after its sum is complete, as vectors along n:
    `emit(f, value, (*batch, i, j), mask, pointers)`.

    Args:
        target: the machine.
        spec: shapes, types and strides.
        epilogue: what to do with the sums; by default store them to buffer "out".

    Returns:
        Steps over buffers "a", "b", the epilogue's, and "temporary.*".

    Cost: 2 m n k operations for each batch entry; copies of a and b where their layout asks for it.
    """
    chosen = epilogue or StoreEpilogue(spec.out)
    if not prod(spec.batch) * spec.m * spec.n:
        return Lowered(())
    if suits_dot(spec):
        return lower_dot(target, spec, chosen)
    if suits_amx(target, spec):
        return lower_amx(target, spec, chosen)
    return lower_fma(target, spec, chosen)


def lower_fma(target: Target, spec, epilogue: Epilogue) -> Lowered:
    """The kernels of a product computed with multiply-adds of float32 or float64."""
    plan = plan_fma(target, spec)
    arithmetic = MultiplyAdd(plan, spec.round_to, target.has_fma)
    return Nest(spec, plan, arithmetic, epilogue).lowered()


def lower_amx(target: Target, spec, epilogue: Epilogue) -> Lowered:
    """The kernels of a product computed with tiles."""
    plan = plan_amx(spec)
    return Nest(spec, plan, Tiles(plan, spec.k % AMX_GRAIN == 0), epilogue).lowered()


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
