"""Convolution straight from the picture: a register tile of pixels times output channels.

Knows pointers, strides and epilogues, never graphs. A tile of work copies the rows it needs into
scratch (channels innermost, zeros around: `window_rows`); a window is then KH runs of KW * C
numbers, so no array of windows is ever written. The register tile is that of Georganas et al.,
"Anatomy of high-performance deep learning convolutions on SIMD architectures", 2018, on
channels-last pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Epilogue, Kernel, Lowered, Operand, Step
from tinytorch.codegen.target import Target
from tinytorch.kernels.blocking import Scratch, emit_epilogue, named_kernel
from tinytorch.kernels.register_tile import Block, Turn, rows_that_fit, write_block

# A tile of work: 2 million operations take about 15 us on one core, 150 times what taking it costs.
TILE_FLOPS = 2_000_000
# Rows of the picture that a tile keeps, in bytes: a part of the second-level cache (1-2 MB) that
# leaves room for the filters.
KEPT_BYTES = 256 << 10


@dataclass(frozen=True)
class ConvolutionSpec:
    """One convolution of float32, bfloat16 or float16 pictures, groups = 1, dilation = 1.

    Products and sums are float32 whatever the pictures are.

    Args:
        image: strides over (N, C, H, W); shape: those sizes.
        top, left: zeros in front of the first row and column; what is missing at the end is 0 too.
        step: pixels of the picture lie this far apart, zeros between them: (1, 1) but in gradients.
        size: (OH, OW).
        window: (KH, KW).
        stride: of the windows.
        filters: O. Buffer "w" holds them as float32 (KH, KW, C, O rounded up to whole
            vectors).
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    step: tuple[int, int]
    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, int]
    filters: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        n, c, _, _ = self.shape
        depth = c * self.window[0] * self.window[1]
        return 2 * n * self.size[0] * self.size[1] * depth * self.filters


@dataclass(frozen=True)
class Part:
    """Equal pieces of an axis: `count` pieces of `size`, the first at `start`."""

    size: int
    start: int
    count: int


def parts_of(total: int, most: int) -> list[Part]:
    """`total` cut into as few pieces of at most `most` as it takes, as equal as can be.

    >>> parts_of(32, 14)
    [Part(size=11, start=0, count=2), Part(size=10, start=22, count=1)]
    """
    pieces = -(-total // most)
    size, longer = divmod(total, pieces)
    found = [Part(size + 1, 0, longer), Part(size, longer * (size + 1), pieces - longer)]
    return [p for p in found if p.count]


def vector_parts(vectors: int) -> list[Part]:
    """Output channels, in vectors, cut into pieces for the registers: three alone, else pairs."""
    if vectors == 3:
        return [Part(3, 0, 1)]
    pairs = [Part(2, 0, vectors // 2), Part(1, vectors // 2 * 2, vectors % 2)]
    return [p for p in pairs if p.count]


def rows_of(target: Target, spec: ConvolutionSpec, block: int) -> Rows:
    """What a block of output rows reads."""
    count = (block - 1) * spec.stride[0] + spec.window[0]
    width = (spec.size[1] - 1) * spec.stride[1] + spec.window[1]
    lanes = target.lanes(float32)
    return Rows(
        spec.image, spec.shape, spec.top, spec.left, spec.step, count, width, lanes
    )  # fmt: skip


def rows_in_block(target: Target, spec: ConvolutionSpec) -> int:
    """Output rows done together: a divisor of OH, within what scratch keeps and a tile does."""
    flops = spec.flops // max(1, spec.shape[0])
    best = 1
    for block in range(1, spec.size[0] + 1):
        if spec.size[0] % block:
            continue
        fits = 4 * rows_of(target, spec, block).size <= KEPT_BYTES
        if fits and flops * block // spec.size[0] <= 2 * TILE_FLOPS:
            best = block
    return best


def lower_convolution(target: Target, spec: ConvolutionSpec, epilogue: Epilogue) -> Lowered:
    """The kernel of a convolution; buffers "x", "w" and the epilogue's.

    The epilogue is given each output once, as vectors along O: index ((n * OH + y) * OW + x, o).
    """
    if not spec.flops:
        raise ValueError("a convolution without work")
    kernel = _Forward(target, spec, epilogue).kernel()
    return Lowered((Step(kernel, kernel.arguments),))


class _Forward:
    """Writes one kernel."""

    def __init__(self, target: Target, spec: ConvolutionSpec, epilogue: Epilogue):
        self.target, self.spec, self.epilogue = target, spec, epilogue
        self.lanes = target.lanes(float32)
        self.vectors = -(-spec.filters // self.lanes)
        self.block = rows_in_block(target, spec)
        self.rows = rows_of(target, spec, self.block)
        self.blocks: dict[str, Block] = {}
        sums = 20 * 3 * self.lanes  # more than any register tile
        sizes = {"rows": self.rows.size, "sums": sums}
        self.scratch = Scratch("float", 4, self.lanes, sizes)

    def kernel(self):
        """The kernel and its private functions."""
        spec = self.spec
        units = spec.shape[0] * (spec.size[0] // self.block)
        per_unit = max(1, spec.flops // units)
        together = max(1, min(TILE_FLOPS // per_unit, -(-units // 8)))

        def body(f: Function, p) -> None:
            self.scratch.begin(f, f.scratch)
            start = f.mul(f.tile, f.index(together))
            stop = f.minimum(f.add(start, f.index(together)), f.index(units))
            with f.loop("unit", start, stop) as unit:
                self._unit(f, p, unit.index)

        n, c, h, w = spec.shape
        moved = 4 * (n * c * h * w + n * spec.filters * spec.size[0] * spec.size[1])
        return named_kernel(
            "convolution", ("x", "w", *self.epilogue.arguments), body, tiles=-(-units // together),
            helpers=lambda prefix: [
                write_block(f"{prefix}.{name}", b) for name, b in self.blocks.items()
            ],
            scratch=self.scratch.bytes, flops=spec.flops, bytes=moved, label="convolution",
        )  # fmt: skip

    def _unit(self, f: Function, p, unit: Value) -> None:
        """One block of output rows of one picture."""
        spec = self.spec
        height, width = spec.size
        above = f.index(height // self.block)
        number = f.div(unit, above)
        first = f.mul(f.rem(unit, above), f.index(self.block), "first")
        self.rows.emit(
            f, p["x"], self.scratch.at("rows"), number, f.mul(first, f.index(spec.stride[0]))
        )
        line = f.mul(f.add(f.mul(number, f.index(height)), first), f.index(width), "line")
        for vectors in vector_parts(self.vectors):
            fits = rows_that_fit(self.target, vectors.size)
            lines = parts_of(self.block, max(1, fits // width))
            pixels = parts_of(width, fits)
            with f.loop("channels", 0, vectors.count) as c:
                column = f.add(f.mul(c.index, f.index(vectors.size)), f.index(vectors.start))
                column = f.mul(column, f.index(self.lanes), "column")
                for tall in lines:
                    with f.loop("row", 0, tall.count) as i:
                        y = f.add(f.mul(i.index, f.index(tall.size)), f.index(tall.start), "y")
                        for wide in pixels:
                            with f.loop("pixel", 0, wide.count) as j:
                                x = f.add(f.mul(j.index, f.index(wide.size)), f.index(wide.start))
                                shape = (tall.size, wide.size, vectors.size)
                                self._tile(f, p, shape, line, y, x, column)

    def _tile(self, f: Function, p, shape, line: Value, y: Value, x: Value, column: Value) -> None:
        """A register tile: its sums, then the epilogue."""
        spec, lanes = self.spec, self.lanes
        tall, wide, vectors = shape
        channels, row = spec.shape[1], self.rows.row
        down, right = spec.stride[0] * row, spec.stride[1] * channels
        offsets = tuple(i * down + j * right for i in range(tall) for j in range(wide))
        name = f"block.{tall}.{wide}.{vectors}"
        self.blocks[name] = Block(
            offsets, vectors, lanes, Turn(spec.window[0], row), Turn(spec.window[1] * channels, 1),
            self.vectors * lanes, vectors * lanes, False, self.target.has_fma,
        )  # fmt: skip
        place = f.add(f.mul(y, f.index(down)), f.mul(x, f.index(right)))
        a, c = self.scratch.at("rows", place), self.scratch.at("sums")
        f.call("void", f"@@.{name}", a, f.at(p["w"], column, "float"), c)
        first = f.add(f.add(line, f.mul(y, f.index(spec.size[1]))), x)
        whole = spec.filters % lanes == 0
        size = vectors * lanes
        width = f.minimum(f.index(size), f.sub(f.index(spec.filters), column))
        emit_epilogue(
            f, self.epilogue, p, c, size, float32, lanes, (), first, f.index(len(offsets)), column,
            f.index(size) if whole else width, spec.filters, size if whole else 0,
        )  # fmt: skip


# MERGED tinytorch.kernels.convolution: Rows of a picture copied into scratch, channels
# innermost, with zeros around and in between.
#
# Knows pointers and strides, not what reads the rows. What a tile of a convolution reads lies close
# together then, whatever the layout of the picture, and edges need no code of their own.


@dataclass(frozen=True)
class Rows:
    """Some rows of one picture, as scratch holds them.

    Args:
        image: strides over (N, C, H, W); bfloat16 and float16 become float32 on the way.
        shape: (N, C, H, W).
        top, left: zeros in front.
        step: pixels of the picture lie this far apart, (rows, columns), zeros between them.
        count: rows copied at a time; width: pixels in one row, zeros included.
        lanes: of a vector.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    step: tuple[int, int]
    count: int
    width: int
    lanes: int

    @property
    def llvm(self) -> str:
        """The type of a number in the picture."""
        return self.image.dtype.llvm

    @property
    def row(self) -> int:
        """Numbers in one row."""
        return self.width * self.shape[1]

    @property
    def size(self) -> int:
        """Numbers in all rows."""
        return self.count * self.row

    def emit(self, f: Function, pointer: Value, to: Value, number: Value, first: Value) -> None:
        """Copy rows first, first + 1, ... of the padded picture `number`."""
        stride = self.image.strides
        base = f.add(f.mul(number, f.index(stride[0])), f.index(self.image.offset))
        base = f.at(pointer, base, self.llvm, "image")
        every = self.step[0]
        with f.loop("copied", 0, self.count) as i:
            line = f.at(to, f.mul(i.index, f.index(self.row)), "float", "line")
            y = f.sub(f.add(first, i.index), f.index(self.top), "y")
            inside = f.compare("ge", y, f.index(0))
            if every > 1:
                on_row = f.compare("eq", f.rem(y, f.index(every)), f.index(0))
                inside = f.op("and", inside, on_row)
                y = f.div(y, f.index(every))
            inside = f.op("and", inside, f.compare("lt", y, f.index(self.shape[2])))
            with f.when(inside, "inside"):
                self._row(f, f.at(base, f.mul(y, f.index(stride[2])), self.llvm), line)
            with f.when(f.op("xor", inside, f.const("i1", 1)), "outside"):
                _zeros(f, line, self.row, self.lanes)

    def _row(self, f: Function, source: Value, line: Value) -> None:
        _, channels, _, width = self.shape
        _, c, _, w = self.image.strides
        every, left = self.step[1], self.left
        copied = min(width, -(-(self.width - left) // every))
        side_by_side = c == 1 or channels == 1
        if every == 1 and side_by_side and w == channels:
            _zeros(f, line, left * channels, self.lanes)
            to = f.at(line, f.index(left * channels), "float")
            self._copy(f, source, to, copied * channels)
            right = (left + copied) * channels
            _zeros(f, f.at(line, f.index(right), "float"), self.row - right, self.lanes)
            return
        _zeros(f, line, self.row, self.lanes)
        with f.loop("x", 0, copied) as x:
            of = f.at(source, f.mul(x.index, f.index(w)), self.llvm)
            place = f.mul(f.add(f.mul(x.index, f.index(every)), f.index(left)), f.index(channels))
            to = f.at(line, place, "float")
            if side_by_side:
                self._copy(f, of, to, channels)
            else:
                with f.loop("c", 0, channels) as k:
                    value = f.load(f.at(of, f.mul(k.index, f.index(c)), self.llvm), self.llvm)
                    f.store(f.convert(value, "float"), f.at(to, k.index, "float"))

    def _copy(self, f: Function, of: Value, to: Value, count: int) -> None:
        whole, rest = _runs(count, self.lanes)

        def move(i: Value, width: int) -> None:
            value = f.load(f.at(of, i, self.llvm), vector(width, self.llvm))
            f.store(f.convert(value, "float"), f.at(to, i, "float"))

        if whole:
            with f.loop("run", 0, whole, self.lanes) as i:
                move(i.index, self.lanes)
        if rest:
            with f.loop("last", whole, count) as i:
                move(i.index, 1)


def _runs(count: int, lanes: int) -> tuple[int, int]:
    """(numbers moved by whole vectors, the rest)."""
    return count // lanes * lanes, count % lanes


def _zeros(f: Function, to: Value, count: int, lanes: int) -> None:
    whole, rest = _runs(count, lanes)
    if whole:
        with f.loop("zeros", 0, whole, lanes) as i:
            f.store(f.const(vector(lanes, "float"), 0), f.at(to, i.index, "float"))
    if rest:
        with f.loop("zero", whole, count) as i:
            f.store(f.const("float", 0), f.at(to, i.index, "float"))


# MERGED tinytorch.kernels.convolution: The gradient of a convolution's filters: register tiles
# of window places times output channels.
#
# Knows pointers, strides and epilogues, never graphs. A tile of work goes over some pictures, keeps
# the rows it needs in scratch as the forward pass does, and adds up sums of its own over all their
# pixels; a second kernel adds the parts in their order. How pictures are shared out depends on the
# shapes only, so the result does not depend on the number of threads.

# Parts are tiles of work: enough for 8 threads to share evenly, few enough to add up cheaply.
MOST_PARTS = 16
# A part should be worth its share of the final sum: 1 million operations, about 7 us on one core.
PART_FLOPS = 1_000_000
# The cotangent of a block of rows is read once for each register tile of window places: with the
# rows of the picture it should stay in the first-level cache. Of 4, 8, 16 and 32 KB, 16 was best
# (docs/log.md, 2026-11-20).
KEPT_COTANGENT_BYTES = 16 << 10


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
            if height % b == 0 and 4 * b * width * columns <= KEPT_COTANGENT_BYTES
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
