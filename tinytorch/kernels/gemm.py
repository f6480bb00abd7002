"""Matrix products of any layout as tiles for the thread team, an epilogue in place of the store.

The loop nest around a micro-kernel: tiles, blocks of rows, panels of columns, packing. Knows
pointers, strides and epilogues; never Tensors or graphs. out[..., i, j] is the sum over k of
a[..., i, k] * b[..., k, j], summed in an order that depends on the shapes and the target only. How
a block of sums is computed, and the order of packed operands, is in `gemm_arithmetic`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import reduce
from math import ceil, prod

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    LINE,
    Epilogue,
    Kernel,
    Lowered,
    NeededRows,
    Operand,
    Pointers,
    Scratch,
    Split,
    Step,
    StoreEpilogue,
    address,
    ceil_div,
    end_of_needed,
    how_many_needed,
    lengths_of,
    named_kernel,
    round_up,
    unravel,
    where_needed,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.gemm_arithmetic import (
    AmxTiles,
    Arithmetic,
    MicroKernel,
    Sums,
    WordDots,
    arithmetic_of,
)
from tinytorch.kernels.gemm_plan import (
    GemmSpec,
    repeats,
)
from tinytorch.kernels.packing import StripCopy
from tinytorch.kernels.register_tile import EpilogueWriter, Rectangle, WordEpilogue

# A packing tile copies about this many numbers: 20 us at one a cycle.
PACKED_AT_ONCE = 65536
# Of a small operand fewer, so that threads share it: 64 rows of 1024 took 30 us, on one of two.
FEW_PACKS, FEWEST_PACKED = 4, 8192
# Rows that lie apart are copied this many at a time, all their strips: each touches another page,
# and the first-level address cache holds 96.
ROWS_AT_ONCE = 64


def lower_gemm(
    target: Target, spec: GemmSpec, epilogue: Epilogue | None = None, needed: NeededRows = (),
) -> Lowered:  # fmt: skip
    """The kernels of one matrix product.

    The epilogue is given each output element once, after its sum is complete, as vectors along n:
    `emit(f, value, (*batch, i, j), mask, pointers)`.

    Args:
        target: the machine.
        spec: shapes, types and strides.
        epilogue: what to do with the sums; by default store them to buffer "out".
        needed: which rows are, those of all products one after the other; default all.

    Returns:
        Steps over buffers "a", "b", the epilogue's, and "temporary.*".

    Cost: 2 m n k operations for each batch entry; copies of a and b where their layout asks for it.
    """
    if not prod(spec.batch) * spec.m * spec.n:
        return Lowered(())
    arithmetic = arithmetic_of(target, spec)
    return GemmNest(arithmetic, epilogue or StoreEpilogue(spec.out), needed).lowered()


@dataclass(frozen=True, eq=False)
class _Tile:
    """One tile of one product, while its code is written.

    Args:
        pointers: the kernel's buffers.
        number, index: of the product, and that along the batch axes.
        rows, columns: which row tile and column tile.
        first_block, first_panel: where they begin.
        bases: where the operands' matrices begin, in place or packed, by "a" and "b".
    """

    pointers: Pointers
    number: Value
    index: list[Value]
    rows: Value
    columns: Value
    first_block: Value
    first_panel: Value
    bases: dict[str, Value]


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of rows: its number, first row, and how many."""

    number: Value
    row: Value
    rows: Value


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A part of the summed axis: where it begins, and how many numbers it has."""

    k0: Value
    depth: Value


class GemmNest:
    """Writes the kernels of one product."""

    def __init__(self, arithmetic: Arithmetic, epilogue: Epilogue, needed: NeededRows = ()):
        self.needed = needed
        self.arithmetic, self.spec, self.plan = arithmetic, arithmetic.spec, arithmetic.plan
        spec, plan = self.spec, self.plan
        if arithmetic.shift:
            epilogue = WordEpilogue(epilogue, "temporary.added", self._added_at)
        self.epilogue = epilogue
        self.strips = {side: arithmetic.strip(side) for side in "ab"}
        self.packing = {"a": plan.pack_a, "b": plan.pack_b}
        self.tail = spec.n - (plan.panels - 1) * plan.width  # columns of the last panel
        self.tail_vectors = ceil(self.tail / plan.lanes)
        self.depth = round_up(spec.k, arithmetic.granule)
        # partial sums of a long product wait in scratch, for all blocks of the tile
        self.long = spec.k > plan.depth
        # whether every stretch of the summed axis is at least a vector long
        rest = spec.k % plan.depth if self.long else spec.k
        self.deep = None if spec.summed else spec.k >= plan.lanes and not 0 < rest < plan.lanes
        self.sums_row = plan.column_tiles.largest * plan.width if self.long else plan.width
        # sums of a block take a whole number of vectors or tiles of rows, like a packed block
        self.tile_rows = plan.row_tiles.largest * plan.stride_a
        self.room = min(plan.depth, self.depth)  # k that a packed strip of a tile has place for
        self.copied = 0  # of them for those of a, in place only what is left of a granule
        if plan.pack_a == "tile":
            self.copied = self.room
        elif plan.pack_a == "direct" and (self.depth != spec.k or spec.summed):
            self.copied = arithmetic.granule
        self.scratch = Scratch("i8", 1, 1, self._scratch_sizes())
        self.micro_kernels: dict[str, MicroKernel] = {}
        # the buffers each operand is read from
        of_b = spec.prologue.arguments if spec.prologue else ("b",)
        self.given: dict[str, tuple[str, ...]] = {"a": ("a",), "b": of_b}
        unrolled = 0 if self.long or spec.n % plan.width else plan.width
        self.results = EpilogueWriter(
            epilogue, plan.compute.llvm, plan.lanes, spec.n, unrolled, ahead=self.long
        )

    def _scratch_sizes(self) -> dict[str, int]:
        """Bytes of each part of a thread's scratch: sums, packed a, packed b."""
        plan, item = self.plan, self.arithmetic.packed.itemsize
        rows = self.tile_rows if self.long else plan.stride_a
        sizes = {"c": rows * self.sums_row * plan.compute.itemsize, "a": 0, "b": 0}
        sizes["a"] = (self.tile_rows if plan.panels_outside else plan.stride_a) * self.copied * item
        if plan.pack_b == "tile":
            panels = 1 if plan.panels_outside else plan.column_tiles.largest
            sizes["b"] = panels * plan.width * self.room * item
        return sizes

    def lowered(self) -> Lowered:
        """All kernels, in order."""
        steps: list[Step] = []
        temporaries: dict[str, int] = {}
        for side, how in self.packing.items():
            if how == "step":
                kernel, size = self.pack_kernel(side)
                given = [f"temporary.{side}" if x == "packed" else x for x in kernel.arguments]
                steps.append(Step(kernel, tuple(given)))
                temporaries[f"temporary.{side}"] = size
        if isinstance(self.arithmetic, WordDots) and self.arithmetic.shift:
            kernel, size = self.added_kernel(self.arithmetic)
            steps.append(Step(kernel, kernel.arguments))
            temporaries["temporary.added"] = size
        kernel = self.kernel()
        last = Step(kernel, kernel.arguments, frozenset(temporaries))
        return Lowered((*steps, last), temporaries)

    def kernel(self) -> Kernel:
        """The kernel whose tiles are (group of products, row tile, column tile)."""
        plan, spec = self.plan, self.spec
        tiles = plan.row_tiles.parts * plan.column_tiles.parts
        arguments = [
            name
            for side, how in self.packing.items()
            for name in ((f"temporary.{side}",) if how == "step" else self.given[side])
        ]
        weight = spec.prologue.bytes if spec.prologue else spec.b.dtype.itemsize * spec.k * spec.n
        read = spec.a.dtype.itemsize * spec.m * spec.k + weight
        many = f" of {prod(spec.batch)}" if spec.batch else ""
        lengths = lengths_of(self.needed, spec.summed)
        return named_kernel(
            "gemm", (*arguments, *self.epilogue.arguments, *lengths), self.body,
            helpers=lambda prefix: [
                micro.write(f"{prefix}.{suffix}") for suffix, micro in self.micro_kernels.items()
            ],
            tiles=tiles * ceil_div(prod(spec.batch), plan.group), scratch=self.scratch.bytes,
            flops=spec.flops,
            bytes=prod(spec.batch) * (read + spec.out.dtype.itemsize * spec.m * spec.n),
            label=f"matmul {spec.m}x{spec.k}x{spec.n}{many} {spec.a.dtype.name}",
        )  # fmt: skip

    def body(self, f: Function, pointers: Pointers) -> None:
        """One tile."""
        plan, spec = self.plan, self.spec
        tiles = plan.row_tiles.parts * plan.column_tiles.parts
        batch = prod(spec.batch)
        group = f.div(f.tile, f.index(tiles), "group") if batch > 1 else f.index(0)
        rest = f.sub(f.tile, f.mul(group, f.index(tiles)), "tile.rest")
        rows = f.div(rest, f.index(plan.column_tiles.parts), "row.tile")
        columns = f.sub(rest, f.mul(rows, f.index(plan.column_tiles.parts)), "column.tile")

        def product(number: Value) -> None:
            index = unravel(f, number, spec.batch)
            bases = {side: self._base(f, pointers, side, index) for side in "ab"}
            self.scratch.begin(f)
            first = plan.row_tiles.start(f, rows), plan.column_tiles.start(f, columns)
            self._emit_tile(f, _Tile(pointers, number, index, rows, columns, *first, bases))

        if plan.group == 1:
            product(group)
            return
        first = f.mul(group, f.index(plan.group))
        end = f.minimum(f.add(first, f.index(plan.group)), f.index(batch))
        with f.loop("member", first, end) as member:
            product(member.index)

    def _emit_tile(self, f: Function, tile: _Tile) -> None:
        """One tile of one product, if one of its rows is needed."""
        if not self.needed:
            self._emit_rows(f, tile)
            return
        blocks = self.plan.blocks
        row = blocks.start(f, tile.first_block)
        end = self.plan.row_tiles.start(f, f.add(tile.rows, f.index(1)))
        count = f.sub(blocks.start(f, end), row)
        with self._where_needed(f, tile.pointers, tile.number, row, count):
            self._emit_rows(f, tile)

    def _emit_rows(self, f: Function, tile: _Tile) -> None:
        """All rows of a tile."""
        plan, spec = self.plan, self.spec
        end = end_of_needed(f, tile.pointers, spec.summed, f.index(spec.k))
        if not self.long:
            self._emit_depth(f, tile, f.index(0), end)
            return
        zero = f.const(vector(plan.lanes, plan.compute.llvm), 0)
        with f.loop("clear", 0, self.tile_rows * self.sums_row, plan.lanes) as at:
            f.store(zero, f.at(self.scratch.start["c"], at.index, plan.compute.llvm))
        with f.loop("k0", 0, end, plan.depth) as k0:
            depth = f.minimum(f.sub(end, k0.index), f.index(plan.depth))
            with self._stretch(f, tile.pointers, k0.index, depth) as depth:
                self._emit_depth(f, tile, k0.index, depth)
        column = f.mul(tile.first_panel, f.index(plan.width))
        end = plan.column_tiles.start(f, f.add(tile.columns, f.index(1)))
        width = f.sub(f.minimum(f.mul(end, f.index(plan.width)), f.index(spec.n)), column)
        with plan.row_tiles.loop(f, tile.rows, "finish") as block:
            row = plan.blocks.start(f, block.index)
            count = f.sub(plan.blocks.start(f, f.add(block.index, f.index(1))), row)
            with self._where_needed(f, tile.pointers, tile.number, row, count):
                c = self._sums_at(f, f.sub(block.index, tile.first_block), f.index(0))
                part = Rectangle(tile.index, row, count, column, width)
                self.results.emit(f, tile.pointers, part, c, self.sums_row)

    @contextmanager
    def _stretch(
        self, f: Function, pointers: Pointers, k0: Value, most: Value
    ) -> Generator[Value, None, None]:
        """If one of `most` places of the summed axis from k0 on counts: how many do."""
        if self.spec.run == self.spec.k:
            yield most
            return
        depth = how_many_needed(f, pointers, self.spec.summed, k0, most)
        with f.when(f.compare("gt", depth, f.index(0)), "counts"):
            yield depth

    def _emit_depth(self, f: Function, tile: _Tile, k0: Value, depth: Value) -> None:
        """All blocks of a tile, over one stretch of the summed axis."""
        plan, part = self.plan, _Stretch(k0, depth)
        if plan.panels_outside:
            with self._blocks(f, tile) as block:
                self._prepare_block(f, tile, block, part)
            with plan.column_tiles.loop(f, tile.columns, "panel") as panel:
                self._prepare_panel(f, tile, panel.index, part)
                with self._blocks(f, tile) as block:
                    self._emit_part(f, tile, block, panel.index, part)
            return
        if plan.pack_b == "tile":
            with plan.column_tiles.loop(f, tile.columns, "fill") as panel:
                self._prepare_panel(f, tile, panel.index, part)
        with self._blocks(f, tile) as block:
            self._prepare_block(f, tile, block, part)
            with plan.column_tiles.loop(f, tile.columns, "panel") as panel:
                self._emit_part(f, tile, block, panel.index, part)

    @contextmanager
    def _blocks(self, f: Function, tile: _Tile) -> Generator[_Block, None, None]:
        """Run over the blocks of rows of a tile that are needed."""
        plan = self.plan
        with plan.row_tiles.loop(f, tile.rows, "block") as block:
            row = plan.blocks.start(f, block.index)
            count = self._rows_of(f, block.index)
            with self._where_needed(f, tile.pointers, tile.number, row, count):
                yield _Block(block.index, row, count)

    def _prepare_panel(self, f: Function, tile: _Tile, panel: Value, part: _Stretch) -> None:
        """Pack b's panel, if each tile does."""
        if self.plan.pack_b == "tile":
            out = self._panel_at(f, tile, panel, part.k0)
            source = tile.pointers, tile.bases["b"]
            self._pack(f, "b", panel, source, part.k0, part.depth, out, f.index(0))

    def _prepare_block(self, f: Function, tile: _Tile, block: _Block, part: _Stretch) -> None:
        """Pack a's block of rows, if each tile does, or what cannot be read in place of it."""
        plan, place = self.plan, self._copy_at(f, tile, block)
        if plan.pack_a == "tile":
            source = tile.pointers, tile.bases["a"]
            self._pack(f, "a", block.number, source, part.k0, part.depth, place, f.index(0))
        if plan.pack_a == "direct":
            copy = StripCopy(
                self.strips["a"], tile.bases["a"], block.row, plan.stride_a, part.k0, part.depth,
                place, False,
            )  # fmt: skip
            self.arithmetic.pack_rest(f, copy, block.rows)

    def _emit_part(
        self, f: Function, tile: _Tile, block: _Block, panel: Value, part: _Stretch
    ) -> None:
        """One block of rows of one panel, over one stretch of the summed axis."""
        plan, copy = self.plan, self._copy_at(f, tile, block)
        a = copy
        if plan.pack_a != "tile":
            a = self._block_at(f, tile.bases["a"], block.number, block.row, part.k0)
        column = f.mul(panel, f.index(plan.width), "column")
        left = f.minimum(f.sub(f.index(self.spec.n), column), f.index(plan.width))
        b = self._panel_at(f, tile, panel, part.k0)
        rectangle = Rectangle(tile.index, block.row, block.rows, column, left)
        c = self.scratch.start["c"]
        if self.long:
            right = f.mul(f.sub(panel, tile.first_panel), f.index(plan.width))
            c = self._sums_at(f, f.sub(block.number, tile.first_block), right)
        else:
            self.results.prefetch(f, tile.pointers, rectangle, plan.width)
        given = (a, b, c, part.depth, left, copy)
        if plan.pack_b == "direct" and self.spec.prologue:
            given += (part.k0, column, *(tile.pointers[n] for n in self.given["b"]))
        if isinstance(self.arithmetic, AmxTiles) and self.arithmetic.asked:
            granule = f.index(self.arithmetic.granule)
            turns = f.div(f.add(part.depth, f.index(self.arithmetic.granule - 1)), granule)
            each = f.mul(turns, f.index(LINE * self.arithmetic.asked))
            following = self._panel_at(f, tile, f.add(panel, f.index(1)), part.k0)
            here = f.mul(f.sub(block.number, tile.first_block), each)
            given += (f.at(following, here, "i8", "ahead"),)
        self._emit_block(f, block.number, panel, given)
        if not self.long:
            self.results.emit(f, tile.pointers, rectangle, c, self.sums_row)

    def _rows_of(self, f: Function, block: Value) -> Value:
        """How many rows a block has."""
        blocks = self.plan.blocks
        if not blocks.longer:
            return f.index(blocks.base)
        longer = f.compare("lt", block, f.index(blocks.longer))
        return f.select(longer, f.index(blocks.largest), f.index(blocks.base))

    def _emit_block(
        self, f: Function, block: Value, panel: Value, given: tuple[Value, ...]
    ) -> None:
        """Call the micro-kernel that fits the block and the panel."""
        plan, blocks = self.plan, self.plan.blocks
        sizes = sorted(set(blocks.sizes), reverse=True)
        longer = f.compare("lt", block, f.index(blocks.longer))
        shorter = f.opposite(longer)
        masked = plan.pack_b == "direct" and self.tail % plan.lanes != 0
        panels = [(plan.vectors, False)] * (plan.panels > 1) + [(self.tail_vectors, masked)]
        panels = list(dict.fromkeys(panels))
        last = f.compare("eq", panel, f.index(plan.panels - 1))
        inner = f.opposite(last)
        for rows, rows_fit in zip(sizes, (longer, shorter), strict=False):
            for vectors, mask in panels:
                sums = Sums(rows, vectors, mask, self.sums_row, self.long)
                micro = self.arithmetic.micro_kernel(sums)
                self.micro_kernels[micro.suffix] = micro
                fits = [rows_fit] if len(sizes) > 1 else []
                if len(panels) > 1:
                    fits.append(last if (vectors, mask) == panels[-1] else inner)
                with _when_all(f, fits):
                    f.call("void", f"@@.{micro.suffix}", *given)

    # addresses

    def _packed_size(self, side: str) -> int:
        """Elements of one packed matrix."""
        plan = self.plan
        if side == "a":
            return plan.blocks.parts * plan.stride_a * self.depth
        return ((plan.panels - 1) * plan.width + self.tail_vectors * plan.lanes) * self.depth

    def _base(self, f: Function, pointers: Pointers, side: str, index: list[Value]) -> Value:
        """Where one product's operand begins: in place, or packed."""
        operand: Operand = getattr(self.spec, side)
        if self.packing[side] != "step":
            at = (*index, f.index(0), f.index(0))
            # of what is computed there is no address, and none is looked at
            return address(f, pointers[self.given[side][0]], operand, at)
        which = _matrix_number(f, self.spec, operand, index)
        which = f.mul(which, f.index(self._packed_size(side)))
        return f.at(pointers[f"temporary.{side}"], which, self.arithmetic.packed.llvm)

    def _sums_at(self, f: Function, block: Value, column: Value) -> Value:
        """Where the sums of the tile's block begin, at a column."""
        down = f.mul(block, f.index(self.plan.stride_a * self.sums_row))
        at = f.add(down, column)
        return f.at(self.scratch.start["c"], at, self.plan.compute.llvm, "c.block")

    def _copy_at(self, f: Function, tile: _Tile, block: _Block) -> Value:
        """Where a tile's copy of a block of a goes."""
        start = self.scratch.start["a"]
        if not self.plan.panels_outside:
            return start
        here = f.sub(block.number, tile.first_block)
        return self._strip_at(f, "a", start, here, self.copied)

    def _strip_at(self, f: Function, side: str, start: Value, strip: Value, room: int) -> Value:
        """Where a packed strip lies; each has room for `room` numbers of each lane."""
        width = self.plan.width if side == "b" else self.plan.stride_a
        at = f.mul(strip, f.index(room * width))
        return f.at(start, at, self.arithmetic.packed.llvm, "packed")

    def _panel_at(self, f: Function, tile: _Tile, panel: Value, k0: Value) -> Value:
        """Where b's panel begins at k0."""
        plan, spec, base = self.plan, self.spec, tile.bases["b"]
        if plan.pack_b == "tile":
            here = f.index(0) if plan.panels_outside else f.sub(panel, tile.first_panel)
            return self._strip_at(f, "b", self.scratch.start["b"], here, self.room)
        if plan.pack_b == "direct":
            down = f.mul(k0, f.index(spec.b.strides[-2]))
            right = f.mul(panel, f.index(plan.width * spec.b.strides[-1]))
            return f.at(base, f.add(right, down), spec.b.dtype.llvm, "b.panel")
        first = f.mul(panel, f.index(plan.width * self.depth))
        last = f.compare("eq", panel, f.index(plan.panels - 1))
        wide = f.select(last, f.index(self.tail_vectors * plan.lanes), f.index(plan.width))
        return f.at(base, f.add(first, f.mul(k0, wide)), self.arithmetic.packed.llvm, "b.panel")

    def _block_at(self, f: Function, base: Value, block: Value, row: Value, k0: Value) -> Value:
        """Where a's block of rows begins at k0."""
        plan, spec = self.plan, self.spec
        if plan.pack_a == "direct":
            first = f.mul(row, f.index(spec.a.strides[-2]))
            right = f.mul(k0, f.index(spec.a.strides[-1]))
            return f.at(base, f.add(first, right), spec.a.dtype.llvm, "a.block")
        first = f.mul(block, f.index(plan.stride_a * self.depth))
        right = f.mul(k0, f.index(plan.stride_a))
        return f.at(base, f.add(first, right), self.arithmetic.packed.llvm, "a.block")

    # packing

    def _added_at(self, f: Function, index: Sequence[Value]) -> Value:
        """Where what was added to the columns of one matrix lies."""
        number = _matrix_number(f, self.spec, self.spec.b, index)
        return f.mul(number, f.index(self.plan.panels * self.plan.width))

    def added_kernel(self, dots: WordDots) -> tuple[Kernel, int]:
        """A kernel that computes what the shift of a adds to each column, and the bytes it fills.

        Its tiles are (matrix, group of panels).
        """
        plan, spec = self.plan, self.spec
        axes = [n for n, s in zip(spec.batch, spec.b.strides, strict=False) if s]
        # as many numbers as a tile that packs them, four at a time
        parts = max(1, round(self._packed_size("b") / (4 * PACKED_AT_ONCE)))
        groups = Split(plan.panels, min(plan.panels, parts))
        widths = list(dict.fromkeys([plan.vectors] * (plan.panels > 1) + [self.tail_vectors]))
        micro = {vectors: dots.column_sums(vectors) for vectors in widths}

        def body(f: Function, pointers: Pointers) -> None:
            matrix, group = unravel(f, f.tile, (prod(axes), groups.parts))
            f.store(f.const(vector(4, "i8"), -dots.shift), f.scratch)
            with groups.loop(f, group, "panel") as panel:
                at = f.mul(matrix, f.index(self._packed_size("b")))
                b = f.at(pointers["temporary.b"], at, "i8")
                b = self._strip_at(f, "b", b, panel.index, self.depth)
                column = f.add(f.mul(matrix, f.index(plan.panels)), panel.index)
                column = f.mul(column, f.index(plan.width))
                c = f.at(pointers["temporary.added"], column, "i32")
                last = f.compare("eq", panel.index, f.index(plan.panels - 1))
                inner = f.opposite(last)
                for vectors in widths:
                    fits = [last if vectors == widths[-1] else inner] if len(widths) > 1 else []
                    with _when_all(f, fits):
                        given = (f.scratch, b, c, f.index(self.depth), f.index(0), f.scratch)
                        f.call("void", f"@@.{micro[vectors].suffix}", *given)

        size = round_up(4 * prod(axes) * plan.panels * plan.width, 64)
        kernel = named_kernel(
            "column_sums", ("temporary.b", "temporary.added"), body,
            tiles=prod(axes) * groups.parts, scratch=64,
            helpers=lambda prefix: [m.write(f"{prefix}.{m.suffix}") for m in micro.values()],
            flops=2 * prod(axes) * spec.k * spec.n, bytes=prod(axes) * self._packed_size("b"),
            label=f"column sums of {spec.k}x{spec.n}",
        )  # fmt: skip
        return kernel, size

    def pack_kernel(self, side: str) -> tuple[Kernel, int]:
        """A kernel that copies a whole operand, and the bytes it fills.

        Its tiles are (matrix, group of strips, stretch of the summed axis).
        """
        spec, packed = self.spec, self.arithmetic.packed
        operand: Operand = getattr(spec, side)
        groups, stretches, length, turn = self.packing_shares(side)
        axes = [n for n, s in zip(spec.batch, operand.strides, strict=False) if s]
        flat = Operand(operand.dtype, tuple(s for s in operand.strides[:-2] if s), operand.offset)

        def body(f: Function, pointers: Pointers) -> None:
            matrix, group, stretch = unravel(f, f.tile, (prod(axes), groups.parts, stretches))
            base = address(f, pointers[self.given[side][0]], flat, unravel(f, matrix, axes))
            source = pointers, base
            out = f.mul(matrix, f.index(self._packed_size(side)))
            out = f.at(pointers["packed"], out, packed.llvm)
            first = f.mul(stretch, f.index(length))
            end = f.minimum(f.add(first, f.index(length)), f.index(spec.k))
            end = end_of_needed(f, pointers, spec.summed, end)
            with f.loop("k0", first, end, turn) as k0:
                depth = f.minimum(f.sub(end, k0.index), f.index(turn))
                with (
                    self._stretch(f, pointers, k0.index, depth) as depth,
                    groups.loop(f, group, "strip") as strip,
                    self._if_read(f, side, pointers, matrix, strip.index),
                ):
                    place = self._strip_at(f, side, out, strip.index, self.depth)
                    self._pack(f, side, strip.index, source, k0.index, depth, place, k0.index)

        size = round_up(self._packed_size(side) * prod(axes) * packed.itemsize, 64)
        read = spec.k * prod(axes) * (spec.n if side == "b" else spec.m) * operand.dtype.itemsize
        lengths = lengths_of(spec.summed, self.needed if side == "a" else ())
        kernel = named_kernel(
            f"pack_{side}", (*self.given[side], "packed", *lengths), body,
            tiles=prod(axes) * groups.parts * stretches, bytes=read + size,
            label=f"pack {side} of {spec.m}x{spec.k}x{spec.n}",
        )  # fmt: skip
        return kernel, size

    def _if_read(
        self, f: Function, side: str, pointers: Pointers, matrix: Value, strip: Value
    ) -> AbstractContextManager[object]:
        """A block of rows that nobody needs is not packed; what several products read is."""
        if side == "b" or repeats(self.spec, self.spec.a):
            return nullcontext()
        row = self.plan.blocks.start(f, strip)
        return self._where_needed(f, pointers, matrix, row, self._rows_of(f, strip))

    def _where_needed(
        self, f: Function, pointers: Pointers, number: Value, row: Value, count: Value
    ) -> AbstractContextManager[object]:
        """What is written within is done only if one of so many rows of a product is needed."""
        if self.needed and self.spec.batch:
            row = f.add(f.mul(number, f.index(self.spec.m)), row)
        return where_needed(f, pointers, self.needed, row, count)

    def packing_shares(self, side: str) -> tuple[Split, int, int, int]:
        """How packing is shared: groups of strips, stretches, length of one, and k at a turn."""
        plan, k = self.plan, self.spec.k
        count, width = plan.blocks.parts, plan.stride_a
        if side == "b":
            count, width = plan.panels, plan.width
        numbers = count * width * k
        parts = max(1, round(numbers / PACKED_AT_ONCE), min(FEW_PACKS, numbers // FEWEST_PACKED))
        if self.strips[side].lane_stride != 1:
            turn = max(k if self.spec.run == k else plan.depth, 1)
            return Split(count, min(count, parts)), 1, max(k, 1), turn
        length = max(ceil(k / parts / ROWS_AT_ONCE), 1) * ROWS_AT_ONCE
        stretches = max(1, ceil(k / length))
        return Split(count, min(count, ceil(parts / stretches))), stretches, length, ROWS_AT_ONCE

    def _pack(
        self, f: Function, side: str, strip: Value, source: tuple[Pointers, Value], k0: Value,
        depth: Value, out: Value, k: Value,
    ) -> None:  # fmt: skip
        """Pack one panel (b) or one block of rows (a).

        Args:
            side: "a" or "b"; strip: the number of the block or panel.
            source: the buffers, and where the operand's matrix begins; `k0`, `depth` say which
                stretch of it to read.
            out: where the strip goes.
            k: where to begin within the strip's place.
        """
        plan, packed = self.plan, self.arithmetic.packed.llvm

        def pack(lane: Value, width: int, whole: bool) -> None:
            place = f.at(out, f.mul(k, f.index(width)), packed, "packed")
            pointers, base = source
            copy = StripCopy(
                self.strips[side], base, lane, width, k0, depth, place, whole, pointers
            )
            self.arithmetic.pack(f, side, copy, self.deep)

        if side == "a":
            pack(plan.blocks.start(f, strip), plan.stride_a, False)
            return
        column = f.mul(strip, f.index(plan.width))
        if self.tail_vectors == plan.vectors:
            pack(column, plan.width, self.tail == plan.width)
            return
        last = f.compare("eq", strip, f.index(plan.panels - 1))
        with f.when(f.opposite(last)):
            pack(column, plan.width, True)
        with f.when(last):
            pack(column, self.tail_vectors * plan.lanes, False)


def _matrix_number(f: Function, spec: GemmSpec, x: Operand, index: Sequence[Value]) -> Value:
    """Which of an operand's matrices a batch index means: those that are not repeated count."""
    which = f.index(0)
    for i, n, s in zip(index, spec.batch, x.strides, strict=False):
        if s:
            which = f.add(f.mul(which, f.index(n)), i)
    return which


def _when_all(f: Function, conditions: list[Value]) -> AbstractContextManager[None]:
    """Run the body where all conditions hold."""
    if not conditions:
        return f.when(f.const("i1", 1))
    return f.when(reduce(lambda x, y: f.op("and", x, y), conditions))
