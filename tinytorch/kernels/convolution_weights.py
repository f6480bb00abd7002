"""The gradient of a convolution's filters: register tiles of window places times output channels.

Knows pointers, strides and epilogues, never graphs. A tile of work goes over some pictures, keeps
the rows it needs in scratch as the forward pass does, and adds up sums of its own over all their
pixels; a second kernel adds the parts in their order. How pictures are shared out depends on the
shapes only, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Epilogue, Kernel, Lowered, Operand, Step
from tinytorch.codegen.target import Target
from tinytorch.kernels.convolution import ConvolutionSpec, Part, parts_of, rows_of, vector_parts
from tinytorch.kernels.naming import named_kernel
from tinytorch.kernels.scratch import Scratch
from tinytorch.kernels.window_block import Block, Turn, rows_that_fit, write_block
from tinytorch.kernels.window_rows import Rows

# Parts are tiles of work: enough for 8 threads to share evenly, few enough to add up cheaply.
MOST_PARTS = 16
# A part should be worth its share of the final sum: 1 million operations, about 7 us on one core.
PART_FLOPS = 1_000_000
# The cotangent of a block of rows is read once for each register tile of window places: with the
# rows of the picture it should stay in the first-level cache. Of 4, 8, 16 and 32 KB, 16 was best
# (docs/log.md, 2026-11-20).
KEPT_BYTES = 16 << 10


def suits_weights(target: Target, filters: int) -> bool:
    """Whether output channels fill whole vectors."""
    return filters % target.lanes(float32) == 0


def lower_weights(target: Target, spec: ConvolutionSpec, g: Operand, epilogue: Epilogue) -> Lowered:
    """The kernels; buffers "x", "g", the epilogue's, and "temporary.parts".

    The epilogue is given each number once, as vectors along O: index ((i * KW + j) * C + c, o).

    Args:
        spec: of the forward pass; step is (1, 1).
        g: strides over (N, O, OH, OW); if float32, channels innermost and without gaps.
    """
    writer = _Weights(target, spec, g)
    first = writer.kernel()
    second = _combine(target, writer.places, spec.filters, writer.parts, epilogue)
    return Lowered(
        (Step(first, first.arguments), Step(second, second.arguments)),
        {"temporary.parts": 4 * writer.parts * writer.places * spec.filters},
    )


class _Weights:
    """Writes the kernel that makes the parts."""

    def __init__(self, target: Target, spec: ConvolutionSpec, g: Operand):
        self.target, self.spec, self.g = target, spec, g
        self.lanes = target.lanes(float32)
        self.run = spec.window[1] * spec.shape[1]  # numbers of a window that lie side by side
        self.places = spec.window[0] * self.run
        self.block = self._rows_in_block()
        self.rows = rows_of(target, spec, self.block)
        self.units = spec.shape[0] * (spec.size[0] // self.block)
        self.parts = max(1, min(MOST_PARTS, self.units, spec.flops // PART_FLOPS))
        self.each = -(-self.units // self.parts)
        self.parts = -(-self.units // self.each)
        self.blocks: dict[str, Block] = {}
        shape = (spec.shape[0], spec.filters, *spec.size)
        lanes = self.lanes
        self.cotangent = Rows(g, shape, 0, 0, (1, 1), self.block, spec.size[1], lanes)
        wide = {} if g.dtype is float32 else {"g": self.cotangent.size}
        self.scratch = Scratch("float", 4, lanes, {"rows": self.rows.size, **wide})

    def _rows_in_block(self) -> int:
        height, width = self.spec.size
        columns = min(self.spec.filters, 2 * self.lanes)
        fits = [
            b for b in range(1, height + 1)
            if height % b == 0 and 4 * b * width * columns <= KEPT_BYTES
        ]  # fmt: skip
        return max(fits, default=1)

    def kernel(self) -> Kernel:
        """The kernel and its private functions."""
        size = self.places * self.spec.filters

        def body(f: Function, p) -> None:
            self.scratch.begin(f, f.scratch)
            sums = f.at(p["temporary.parts"], f.mul(f.tile, f.index(size)), "float", "sums")
            with f.loop("zero", 0, size, self.lanes) as i:
                zero = f.const(vector(self.lanes, "float"), 0)
                f.store(zero, f.at(sums, i.index, "float"))
            start = f.mul(f.tile, f.index(self.each))
            stop = f.minimum(f.add(start, f.index(self.each)), f.index(self.units))
            with f.loop("unit", start, stop) as unit:
                self._unit(f, p, sums, unit.index)

        n, c, h, w = self.spec.shape
        pixels = n * self.spec.size[0] * self.spec.size[1]
        moved = 4 * (n * c * h * w + pixels * self.spec.filters)
        return named_kernel(
            "convolution_weights", ("x", "g", "temporary.parts"), body, tiles=self.parts,
            helpers=lambda prefix: [
                write_block(f"{prefix}.{name}", b) for name, b in self.blocks.items()
            ],
            scratch=self.scratch.bytes, flops=self.spec.flops, bytes=moved,
            label="convolution weights",
        )  # fmt: skip

    def _unit(self, f: Function, p, sums: Value, unit: Value) -> None:
        """One block of rows of one picture."""
        spec, g = self.spec, self.g
        above = f.index(spec.size[0] // self.block)
        number = f.div(unit, above)
        first = f.mul(f.rem(unit, above), f.index(self.block), "first")
        top = f.mul(first, f.index(spec.stride[0]))
        self.rows.emit(f, p["x"], self.scratch.at("rows"), number, top)
        begin = f.add(f.mul(number, f.index(g.strides[0])), f.mul(first, f.index(g.strides[2])))
        if g.dtype is float32:
            cotangent = f.at(p["g"], f.add(begin, f.index(g.offset)), "float", "cotangent")
        else:
            cotangent = self.scratch.at("g")
            self.cotangent.emit(f, p["g"], cotangent, number, first)
        for vectors in vector_parts(spec.filters // self.lanes):
            fits = rows_that_fit(self.target, vectors.size)
            lines, run = (spec.window[0], self.run)
            if self.places <= fits:  # small windows of few channels: all places in one block
                pieces = [Part(self.places, 0, 1)]
                lines = 1
            else:
                pieces = parts_of(run, fits)
            with f.loop("channels", 0, vectors.count) as c:
                column = f.add(f.mul(c.index, f.index(vectors.size)), f.index(vectors.start))
                column = f.mul(column, f.index(self.lanes), "column")
                with f.loop("i", 0, lines) as i:
                    for piece in pieces:
                        with f.loop("piece", 0, piece.count) as j:
                            place = f.add(f.mul(j.index, f.index(piece.size)), f.index(piece.start))
                            shape = (piece.size, vectors.size)
                            self._tile(f, shape, i.index, place, cotangent, column, sums)

    def _tile(self, f: Function, shape, line: Value, place: Value, g, column: Value, sums) -> None:
        """A register tile of places times output channels, over all pixels of the block."""
        spec, row = self.spec, self.rows.row
        size, vectors = shape
        offsets = tuple(k // self.run * row + k % self.run for k in range(size))
        name = f"block.{size}.{vectors}"
        self.blocks[name] = Block(
            offsets, vectors, self.lanes, Turn(self.block, spec.stride[0] * row),
            Turn(spec.size[1], spec.stride[1] * spec.shape[1]), spec.filters, spec.filters, True,
            self.target.has_fma,
        )  # fmt: skip
        a = self.scratch.at("rows", f.add(f.mul(line, f.index(row)), place))
        at = f.mul(f.add(f.mul(line, f.index(self.run)), place), f.index(spec.filters))
        c = f.at(sums, f.add(at, column), "float")
        f.call("void", f"@@.{name}", a, f.at(g, column, "float"), c)


def _combine(target: Target, places: int, filters: int, parts: int, epilogue: Epilogue) -> Kernel:
    """Adds up the parts, first to last, and hands each sum on."""
    lanes = target.lanes(float32)
    per_tile = max(1, min(-(-places // 8), 50_000 // (filters * parts)))

    def body(f: Function, p) -> None:
        start = f.mul(f.tile, f.index(per_tile))
        stop = f.minimum(f.add(start, f.index(per_tile)), f.index(places))
        type = vector(lanes, "float")
        with f.loop("place", start, stop) as place, f.loop("column", 0, filters, lanes) as column:
            first = f.add(f.mul(place.index, f.index(filters)), column.index)
            total = f.load(f.at(p["temporary.parts"], first, "float"), type)
            with f.loop("part", 1, parts, carry=[total]) as part:
                at = f.add(f.mul(part.index, f.index(places * filters)), first)
                more = f.load(f.at(p["temporary.parts"], at, "float"), type)
                part.next(f.add(part.carried[0], more))
            epilogue.emit(f, part.results[0], (place.index, column.index), None, p)

    return named_kernel(
        "convolution_weights_sum", ("temporary.parts", *epilogue.arguments), body,
        tiles=-(-places // per_tile), flops=parts * places * filters,
        bytes=4 * (parts + 1) * places * filters, label="convolution weights: sum",
    )  # fmt: skip
