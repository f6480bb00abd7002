"""Convolution straight from the picture: register tiles over windows that are never written out.

Knows pointers, strides and epilogues, never graphs. A tile of work copies the rows it needs into
scratch (channels innermost, zeros around: `PictureRows`); a window is then KH runs of KW * C
numbers. The register tile is that of Georganas et al., "Anatomy of high-performance deep learning
convolutions on SIMD architectures", 2018, on channels-last pictures: pixels times output channels,
summed over the window. In the gradient of the filters it is window places times output channels,
summed over pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tinytorch.base.dtypes import DType, bfloat16, float32
from tinytorch.codegen.builder import Function, Value, size_of, vector
from tinytorch.codegen.kernel import (
    LINE,
    Epilogue,
    Kernel,
    Lowered,
    Operand,
    Pointers,
    RaggedRows,
    Scratch,
    Shares,
    Step,
    ceil_div,
    length_of,
    named_kernel,
    where_needed,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.packing import load_row_piece, transpose
from tinytorch.kernels.register_tile import (
    PAIRS,
    EpilogueWriter,
    Rectangle,
    RegisterTile,
    Turns,
    rows_that_fit,
    write_micro_kernel,
)

# A tile of work: 2 million operations take about 15 us on one core, 150 times what taking it costs.
TILE_FLOPS = 2_000_000
# Rows of the picture that a tile keeps, in bytes: a part of the second-level cache (1-2 MB) that
# leaves room for the filters.
KEPT_BYTES = 256 << 10
# Turns between asking for a line of b and using it: filters of 32 or more channels stream from the
# second-level cache (14 cycles away, a turn takes 11-14). Of 0, 4, 8, 16 and 32 turns all but 0
# were alike, up to 5 % faster than 0 (docs/log.md, 2026-11-20).
AHEAD = 8
# The filters' gradient is made in parts: tiles of work, enough for 8 threads to share evenly, few
# enough to add up cheaply.
MOST_PARTS = 16
# A part should be worth its share of the final sum: 1 million operations, about 7 us on one core.
PART_FLOPS = 1_000_000
# The cotangent of a block of rows is read once for each register tile of window places: with the
# rows of the picture it should stay in the first-level cache. Of 4, 8, 16 and 32 KB, 16 was best
# (docs/log.md, 2026-11-20).
KEPT_COTANGENT_BYTES = 16 << 10
SQUARE = 16  # channels and pixels that are turned at a time


@dataclass(frozen=True)
class ConvolutionSpec:
    """One convolution of float32, bfloat16 or float16 pictures, groups = 1, dilation = 1.

    Sums are float32 whatever the pictures are.

    Args:
        image: strides over (N, C, H, W); shape: those sizes.
        top, left: zeros in front of the first row and column; what is missing at the end is 0 too.
        step: pixels of the picture lie this far apart, zeros between them: (1, 1) but in gradients.
        size: (OH, OW).
        window: (KH, KW).
        stride: of the windows.
        filters: O. Buffer "w" holds them as float32 (KH, KW, C, O rounded up to whole
            vectors), or as (KH, KW, C / 2, O rounded up) pairs of bfloat16.
        pairs: multiply pairs of channels, bfloat16, on a processor that does; C is even.
        needed: which pictures are, default all; a forward pass leaves out others.
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
    pairs: bool = False
    needed: RaggedRows | None = None

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        n, c, _, _ = self.shape
        depth = c * self.window[0] * self.window[1]
        return 2 * n * self.size[0] * self.size[1] * depth * self.filters

    @property
    def bytes(self) -> int:
        """Memory read and written, filters aside."""
        n, c, h, w = self.shape
        return 4 * (n * c * h * w + n * self.filters * self.size[0] * self.size[1])


@dataclass(frozen=True)
class Part:
    """Equal pieces of an axis: `count` pieces of `size`, the first at `start`."""

    size: int
    start: int
    count: int

    @contextmanager
    def loop(self, f: Function, name: str) -> Generator[Value, None, None]:
        """Run over where the pieces begin."""
        with f.loop(name, 0, self.count) as i:
            yield f.add(f.mul(i.index, f.index(self.size)), f.index(self.start))


def parts_of(total: int, most: int) -> list[Part]:
    """`total` cut into as few pieces of at most `most` as it takes, as equal as can be.

    >>> parts_of(32, 14)
    [Part(size=11, start=0, count=2), Part(size=10, start=22, count=1)]
    """
    pieces = ceil_div(total, most)
    size, longer = divmod(total, pieces)
    found = [Part(size + 1, 0, longer), Part(size, longer * (size + 1), pieces - longer)]
    return [p for p in found if p.count]


def vector_parts(vectors: int) -> list[Part]:
    """Output channels, in vectors, cut into pieces for the registers: three alone, else pairs."""
    if vectors == 3:
        return [Part(3, 0, 1)]
    pairs = [Part(2, 0, vectors // 2), Part(1, vectors // 2 * 2, vectors % 2)]
    return [p for p in pairs if p.count]


class _RowCopy:
    """Some rows of one picture in scratch: which of them exist, and zeros for the others.

    Subclasses say what a row is: `row` numbers of the type `number`, written by `_row`.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    count: int
    lanes: int  # numbers copied at a time

    @property
    def every(self) -> int:
        """How far apart rows of the picture lie, zeros between them."""
        return 1

    @property
    def number(self) -> str:
        """The type of a number in scratch."""
        raise NotImplementedError

    @property
    def row(self) -> int:
        """Numbers in one row."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Words of 4 bytes in all rows."""
        return ceil_div(self.count * self.row * size_of(self.number), 4)

    @property
    def llvm(self) -> str:
        """The type of a number in the picture."""
        return self.image.dtype.llvm

    def emit(self, f: Function, pointer: Value, to: Value, number: Value, first: Value) -> None:
        """Copy rows first, first + 1, ... of the padded picture `number`."""
        stride = self.image.strides
        base = f.add(f.mul(number, f.index(stride[0])), f.index(self.image.offset))
        base = f.at(pointer, base, self.llvm, "image")
        with f.loop("copied", 0, self.count) as i:
            line = f.at(to, f.mul(i.index, f.index(self.row)), self.number, "line")
            y = f.sub(f.add(first, i.index), f.index(self.top), "y")
            inside = f.compare("ge", y, f.index(0))
            if self.every > 1:
                on_row = f.compare("eq", f.rem(y, f.index(self.every)), f.index(0))
                inside = f.op("and", inside, on_row)
                y = f.div(y, f.index(self.every))
            inside = f.op("and", inside, f.compare("lt", y, f.index(self.shape[2])))
            with f.when(inside, "inside"):
                self._row(f, f.at(base, f.mul(y, f.index(stride[2])), self.llvm), line)
            with f.when(f.op("xor", inside, f.const("i1", 1)), "outside"):
                self._zeros(f, line, self.row)

    def _row(self, f: Function, source: Value, line: Value) -> None:
        """Copy one row, zeros around its pixels included."""
        raise NotImplementedError

    def _zeros(self, f: Function, to: Value, count: int) -> None:
        def clear(i: Value, width: int) -> None:
            f.store(f.const(vector(width, self.number), 0), f.at(to, i, self.number))

        self._in_runs(f, count, clear)

    def _in_runs(self, f: Function, count: int, write: Callable[[Value, int], None]) -> None:
        """`write(at, width)` for whole vectors, then for single numbers."""
        whole = count // self.lanes * self.lanes
        if whole:
            with f.loop("run", 0, whole, self.lanes) as i:
                write(i.index, self.lanes)
        if count - whole:
            with f.loop("last", whole, count) as i:
                write(i.index, 1)


@dataclass(frozen=True)
class PictureRows(_RowCopy):
    """Some rows of one picture, as scratch holds them: channels innermost, zeros around.

    What a tile reads lies close together then, whatever the layout of the picture, and edges need
    no code of their own.

    Args:
        image: strides over (N, C, H, W).
        shape: (N, C, H, W).
        top, left: zeros in front.
        step: pixels of the picture lie this far apart, (rows, columns), zeros between them.
        count: rows copied at a time; width: pixels in one row, zeros included.
        lanes: of a vector.
        to: the type in scratch: float32, or bfloat16 as it is in the picture.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    step: tuple[int, int]
    count: int
    width: int
    lanes: int
    to: DType = float32

    @staticmethod
    def read_by(spec: ConvolutionSpec, block: int, lanes: int) -> PictureRows:
        """What a block of output rows reads."""
        count = (block - 1) * spec.stride[0] + spec.window[0]
        width = (spec.size[1] - 1) * spec.stride[1] + spec.window[1]
        return PictureRows(
            spec.image, spec.shape, spec.top, spec.left, spec.step, count, width, lanes,
            bfloat16 if spec.pairs else float32,
        )  # fmt: skip

    @property
    def number(self) -> str:
        """See _RowCopy."""
        return self.to.llvm

    @property
    def every(self) -> int:
        """See _RowCopy."""
        return self.step[0]

    @property
    def row(self) -> int:
        """See _RowCopy."""
        return self.width * self.shape[1]

    def _row(self, f: Function, source: Value, line: Value) -> None:
        _, channels, _, width = self.shape
        _, c, _, w = self.image.strides
        every, left = self.step[1], self.left
        copied = min(width, ceil_div(self.width - left, every))
        side_by_side = c == 1 or channels == 1
        if every == 1 and side_by_side and w == channels:
            self._zeros(f, line, left * channels)
            to = f.at(line, f.index(left * channels), self.number)
            self._copy(f, source, to, copied * channels)
            right = (left + copied) * channels
            self._zeros(f, f.at(line, f.index(right), self.number), self.row - right)
            return
        self._zeros(f, line, self.row)
        with f.loop("x", 0, copied) as x:
            of = f.at(source, f.mul(x.index, f.index(w)), self.llvm)
            place = f.mul(f.add(f.mul(x.index, f.index(every)), f.index(left)), f.index(channels))
            to = f.at(line, place, self.number)
            if side_by_side:
                self._copy(f, of, to, channels)
            else:
                with f.loop("c", 0, channels) as k:
                    value = f.load(f.at(of, f.mul(k.index, f.index(c)), self.llvm), self.llvm)
                    f.store(f.convert(value, self.number), f.at(to, k.index, self.number))

    def _copy(self, f: Function, of: Value, to: Value, count: int) -> None:
        def move(i: Value, width: int) -> None:
            value = f.load(f.at(of, i, self.llvm), vector(width, self.llvm))
            f.store(f.convert(value, self.number), f.at(to, i, self.number))

        self._in_runs(f, count, move)


@dataclass(frozen=True)
class PixelRows(_RowCopy):
    """The same with pixels innermost, bfloat16: [row][phase][channel][pixel].

    Pairs of neighbouring output pixels, which the gradient of the filters sums over, see pixels of
    the picture a stride apart: one phase of the stride holds every stride-th pixel, side by side.

    Args:
        image, shape, top, left: see PictureRows.
        phases: the stride.
        count: rows copied at a time; width: pixels in one row, zeros included.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    phases: int
    count: int
    width: int
    lanes: int = 2 * SQUARE

    @staticmethod
    def read_by(spec: ConvolutionSpec, block: int) -> PixelRows:
        """What a block of output rows reads."""
        count = (block - 1) * spec.stride[0] + spec.window[0]
        width = (spec.size[1] - 1) * spec.stride[1] + spec.window[1]
        return PixelRows(spec.image, spec.shape, spec.top, spec.left, spec.stride[1], count, width)

    @property
    def length(self) -> int:
        """Pixels of a channel in one phase."""
        return ceil_div(self.width, self.phases)

    @property
    def number(self) -> str:
        """See _RowCopy."""
        return "i16"

    @property
    def row(self) -> int:
        """See _RowCopy."""
        return self.phases * self.shape[1] * self.length

    def place(self, column: int) -> int:
        """Where the pixels begin that a column of the window sees in channel 0, in numbers."""
        return column % self.phases * self.shape[1] * self.length + column // self.phases

    def _row(self, f: Function, source: Value, line: Value) -> None:
        self._zeros(f, line, self.row)
        channels, width = self.shape[1], self.shape[3]
        for phase in range(self.phases):
            # pixel x of the picture is number (x + left - phase) / phases of its phase
            first = max(0, ceil_div(self.left - phase, self.phases))
            end = min(self.length, ceil_div(width + self.left - phase, self.phases))
            if first >= end:
                continue
            begins = first * self.phases + phase - self.left
            here = f.at(source, f.index(begins * self.image.strides[3]), "i16")
            to = f.at(line, f.index(phase * channels * self.length + first), "i16")
            self._phase(f, here, to, end - first)

    def _phase(self, f: Function, source: Value, to: Value, count: int) -> None:
        """`count` pixels of all channels, turned in squares where channels lie side by side."""
        channels, step = self.shape[1], self.image.strides[3] * self.phases
        apart = self.image.strides[1]
        if apart != 1:
            with f.loop("c", 0, channels) as c, f.loop("x", 0, count) as x:
                at = f.add(f.mul(c.index, f.index(apart)), f.mul(x.index, f.index(step)))
                place = f.add(f.mul(c.index, f.index(self.length)), x.index)
                f.store(f.load(f.at(source, at, "i16"), "i16"), f.at(to, place, "i16"))
            return

        def squares(c: Value, high: int) -> None:
            with f.loop("x", 0, count, SQUARE) as x:
                there = f.at(to, f.add(f.mul(c, f.index(self.length)), x.index), "i16")
                read: list[Value] = []
                for i in range(SQUARE):
                    pixel = f.minimum(f.add(x.index, f.index(i)), f.index(count - 1))
                    here = f.at(source, f.add(c, f.mul(pixel, f.index(step))), "i16")
                    read.append(f.load(here, vector(SQUARE, "i16"), mask=below(high)))
                kept = f.mask_below(SQUARE, f.sub(f.index(count), x.index))
                for i, channel in enumerate(transpose(f, read)[:high]):
                    f.store(channel, f.at(there, f.index(i * self.length), "i16"), mask=kept)

        def below(high: int) -> Value | None:
            return f.mask_below(SQUARE, f.index(high)) if high < SQUARE else None

        whole = channels // SQUARE * SQUARE
        if whole:
            with f.loop("c", 0, whole, SQUARE) as c:
                squares(c.index, SQUARE)
        if channels - whole:
            squares(f.index(whole), channels - whole)


@dataclass(frozen=True)
class PairRows:
    """Rows of a cotangent as pairs of neighbouring pixels: [row][pixel / 2][channel][2], bfloat16.

    Args:
        image: strides over (N, O, OH, OW); shape: those sizes, OW even, O a multiple of 16.
        count: rows copied at a time.
    """

    image: Operand
    shape: tuple[int, ...]
    count: int

    @property
    def size(self) -> int:
        """Words of 4 bytes in all rows."""
        return self.count * self.shape[3] // 2 * self.shape[1]

    def emit(self, f: Function, pointer: Value, to: Value, number: Value, first: Value) -> None:
        """Copy rows first, first + 1, ... of picture `number`."""
        channels, pixels = self.shape[1], self.shape[3]
        n, o, h, w = self.image.strides
        base = f.add(f.mul(number, f.index(n)), f.mul(first, f.index(h)))
        base = f.at(pointer, f.add(base, f.index(self.image.offset)), "i16", "cotangent")
        order = [x for i in range(SQUARE) for x in (i, SQUARE + i)]
        with f.loop("line", 0, self.count) as i, f.loop("pair", 0, pixels // 2) as pair:
            at = f.add(f.mul(i.index, f.index(h)), f.mul(pair.index, f.index(2 * w)))
            left = f.at(base, at, "i16")
            place = f.add(f.mul(i.index, f.index(pixels // 2)), pair.index)
            out = f.at(to, f.mul(place, f.index(2 * channels)), "i16")
            with f.loop("o", 0, channels, SQUARE) as c:
                here = f.at(left, f.mul(c.index, f.index(o)), "i16")
                one, other = (
                    load_row_piece(
                        f, f.at(here, f.index(k * w), "i16"), "i16", o, SQUARE, SQUARE, "i16"
                    )
                    for k in range(2)
                )
                pairs = f.shuffle(one, other, order, "pairs")
                f.store(pairs, f.at(out, f.mul(c.index, f.index(2)), "i16"))


class _Convolution:
    """What both kernels share: blocks of rows, scratch, register tiles and their private functions.

    Args:
        target, spec: what is written.
        block: output rows done together.
        rows: those of the picture that a block reads.
        arrays: more of scratch, words of each.
    """

    def __init__(
        self, target: Target, spec: ConvolutionSpec, block: int, rows: PictureRows | PixelRows,
        arrays: dict[str, int],
    ):  # fmt: skip
        self.target, self.spec, self.block, self.rows = target, spec, block, rows
        self.lanes = target.lanes(float32)
        self.units = spec.shape[0] * (spec.size[0] // block)
        self.scratch = Scratch("float", 4, self.lanes, {"rows": self.rows.size, **arrays})
        self.tiles: dict[str, RegisterTile] = {}

    def helpers(
        self, prefix: str, c_row: Callable[[RegisterTile], int], add: bool
    ) -> list[Function]:
        """The private functions."""
        return [
            write_micro_kernel(f"{prefix}.{name}", tile, c_row(tile), add)
            for name, tile in self.tiles.items()
        ]

    def take_rows(self, f: Function, p: Pointers, unit: Value) -> tuple[Value, Value]:
        """Copy what a unit of work reads; gives the picture's number and the first output row."""
        above = f.index(self.spec.size[0] // self.block)
        number = f.div(unit, above)
        first = f.mul(f.rem(unit, above), f.index(self.block), "first")
        top = f.mul(first, f.index(self.spec.stride[0]))
        self.rows.emit(f, p["x"], self.scratch.at("rows"), number, top)
        return number, first

    @contextmanager
    def columns(self, f: Function, vectors: Part) -> Generator[Value, None, None]:
        """Run over the first channels of register tiles."""
        with vectors.loop(f, "channels") as c:
            yield f.mul(c, f.index(self.lanes), "column")

    def tile(
        self, shape: Sequence[int], offsets: tuple[int, ...], loops: tuple[Turns, Turns],
        b_step: int,
    ) -> str:  # fmt: skip
        """Note that a register tile is needed, whose last size is in vectors; gives its name."""
        name, vectors = "block." + ".".join(map(str, shape)), shape[-1]
        fetches = range(0, 4 * vectors * self.lanes, LINE)
        self.tiles[name] = RegisterTile(
            "float", self.lanes, vectors, offsets, loops, b_step,
            tuple(4 * AHEAD * b_step + place for place in fetches),
            PAIRS if self.spec.pairs else None,
        )  # fmt: skip
        return f"@@.{name}"


# ---- forward


def lower_convolution(target: Target, spec: ConvolutionSpec, epilogue: Epilogue) -> Lowered:
    """The kernel of a convolution; buffers "x", "w" and the epilogue's.

    The epilogue is given each output once, as vectors along O: index ((n * OH + y) * OW + x, o).
    """
    if not spec.flops:
        raise ValueError("a convolution without work")
    block = rows_in_block(target, spec)
    rows = PictureRows.read_by(spec, block, target.lanes(float32))
    return Lowered.of(Forward(target, spec, epilogue, block, rows, {}).kernel())


def rows_in_block(target: Target, spec: ConvolutionSpec) -> int:
    """Output rows done together: a divisor of OH, within what scratch keeps and a tile does."""
    flops = spec.flops // max(1, spec.shape[0])
    best, lanes = 1, target.lanes(float32)
    for block in range(1, spec.size[0] + 1):
        if spec.size[0] % block:
            continue
        fits = 4 * PictureRows.read_by(spec, block, lanes).size <= KEPT_BYTES
        if fits and flops * block // spec.size[0] <= 2 * TILE_FLOPS:
            best = block
    return best


class Forward(_Convolution):
    """Writes the forward kernel; arguments as those of `_Convolution`."""

    def __init__(
        self, target: Target, spec: ConvolutionSpec, epilogue: Epilogue, block: int,
        rows: PictureRows, arrays: dict[str, int],
    ):  # fmt: skip
        sums = 20 * 3 * target.lanes(float32)  # more than any register tile
        super().__init__(target, spec, block, rows, {"sums": sums, **arrays})
        self.epilogue = epilogue
        self.vectors = ceil_div(spec.filters, self.lanes)
        self.label, self.flops, self.arguments = "convolution", spec.flops, ("x", "w")

    def kernel(self) -> Kernel:
        """The kernel and its private functions."""
        shares = Shares.of(self.units, self.flops // self.units, TILE_FLOPS)
        needed = self.spec.needed and self.spec.needed.each(self.spec.size[0] // self.block)

        def body(f: Function, p: Pointers) -> None:
            self.scratch.begin(f)
            with shares.loop(f, "unit") as unit, where_needed(f, p, needed, unit.index, 1):
                self.unit(f, p, unit.index)

        arguments = (*self.arguments, *self.epilogue.arguments, *length_of(needed))
        return named_kernel(
            "convolution", arguments, body, tiles=shares.tiles,
            helpers=lambda prefix: self.helpers(prefix, lambda t: t.vectors * t.lanes, False),
            scratch=self.scratch.bytes, flops=self.flops, bytes=self.spec.bytes, label=self.label,
        )  # fmt: skip

    def unit(self, f: Function, p: Pointers, unit: Value) -> None:
        """One block of output rows of one picture."""
        line = self.begin_unit(f, p, unit)
        for vectors in vector_parts(self.vectors):
            with self.columns(f, vectors) as column:
                self.panel(f, p, line, vectors, column)

    def begin_unit(self, f: Function, p: Pointers, unit: Value) -> Value:
        """Copy what it reads; gives the number of its first output pixel."""
        height, width = self.spec.size
        number, first = self.take_rows(f, p, unit)
        return f.mul(f.add(f.mul(number, f.index(height)), first), f.index(width), "line")

    def panel(self, f: Function, p: Pointers, line: Value, vectors: Part, column: Value) -> None:
        """Some output channels of the block, whose first pixel is number `line`."""
        width = self.spec.size[1]
        fits = rows_that_fit(self.target, vectors.size)
        for tall in parts_of(self.block, max(1, fits // width)):
            with tall.loop(f, "row") as y:
                for wide in parts_of(width, fits):
                    with wide.loop(f, "pixel") as x:
                        shape = (tall.size, wide.size, vectors.size)
                        self._tile(f, p, shape, line, y, x, column)

    def _tile(
        self, f: Function, p: Pointers, shape: tuple[int, int, int], line: Value, y: Value,
        x: Value, column: Value,
    ) -> None:  # fmt: skip
        """A register tile: its sums, then the epilogue."""
        spec, lanes = self.spec, self.lanes
        tall, wide, vectors = shape
        channels, row = spec.shape[1], self.rows.row
        down, right = spec.stride[0] * row, spec.stride[1] * channels
        offsets = tuple(i * down + j * right for i in range(tall) for j in range(wide))
        each = 2 if spec.pairs else 1
        loops = Turns(spec.window[0], row), Turns(spec.window[1] * channels // each, each)
        name = self.tile(shape, offsets, loops, self.vectors * lanes)
        place = f.add(f.mul(y, f.index(down)), f.mul(x, f.index(right)))
        a = f.at(self.scratch.at("rows"), place, "i16" if spec.pairs else "float", "a")
        c = self.scratch.at("sums")
        f.call("void", name, a, f.at(p["w"], column, "float"), c)
        first = f.add(f.add(line, f.mul(y, f.index(spec.size[1]))), x)
        whole = spec.filters % lanes == 0
        size = vectors * lanes
        width = f.minimum(f.index(size), f.sub(f.index(spec.filters), column))
        part = Rectangle(
            (), first, f.index(len(offsets)), column, f.index(size) if whole else width
        )
        results = EpilogueWriter(self.epilogue, "float", lanes, spec.filters, size if whole else 0)
        results.emit(f, p, part, c, size)


# ---- the gradient of the filters


def suits_weights(target: Target, filters: int) -> bool:
    """Whether output channels fill whole vectors."""
    return filters % target.lanes(float32) == 0


def lower_weights(target: Target, spec: ConvolutionSpec, g: Operand, epilogue: Epilogue) -> Lowered:
    """The kernels of the filters' gradient; buffers "x", "g", the epilogue's, "temporary.parts".

    The epilogue is given each number once, as vectors along O: index ((i * KW + j) * C + c, o).
    A tile of work goes over some pictures and adds up sums of its own over all their pixels; a
    second kernel adds the parts in their order. How pictures are shared out depends on the shapes
    only, so the result does not depend on the number of threads.

    Args:
        spec: of the forward pass; step is (1, 1).
        g: strides over (N, O, OH, OW); if float32, channels innermost and without gaps.
    """
    return _Weights(target, spec, g).lowered(epilogue)


class Parts(_Convolution):
    """Writes a kernel that makes parts of sums, and one that adds them up; the base of the two.

    `places` is how many sums there are of each filter; `share_out` says the rest.
    """

    places: int
    shares: Shares
    flops: int
    label: str

    def lowered(self, epilogue: Epilogue) -> Lowered:
        """Both kernels."""
        first, second = self.kernel(), self.sum_kernel(epilogue)
        return Lowered(
            (Step(first, first.arguments), Step(second, second.arguments)),
            {"temporary.parts": 4 * self.shares.tiles * self.places * self.spec.filters},
        )

    def kernel(self) -> Kernel:
        """The kernel that makes the parts, and its private functions."""
        filters = self.spec.filters
        size = self.places * filters

        def body(f: Function, p: Pointers) -> None:
            self.scratch.begin(f)
            sums = f.at(p["temporary.parts"], f.mul(f.tile, f.index(size)), "float", "sums")
            with f.loop("zero", 0, size, self.lanes) as i:
                zero = f.const(vector(self.lanes, "float"), 0)
                f.store(zero, f.at(sums, i.index, "float"))
            with self.shares.loop(f, "unit") as unit:
                self.unit(f, p, sums, unit.index)

        return named_kernel(
            "convolution_weights", ("x", "g", "temporary.parts"), body, tiles=self.shares.tiles,
            helpers=lambda prefix: self.helpers(prefix, lambda _: filters, True),
            scratch=self.scratch.bytes, flops=self.flops, bytes=self.spec.bytes,
            label=self.label,
        )  # fmt: skip

    def share_out(self, flops: int, label: str = "convolution weights") -> None:
        """Decide how many parts there are, for so many operations."""
        self.flops, self.label = flops, label
        parts = max(1, min(MOST_PARTS, self.units, flops // PART_FLOPS))
        self.shares = Shares(self.units, ceil_div(self.units, parts))

    def unit(self, f: Function, p: Pointers, sums: Value, unit: Value) -> None:
        """Add what one block of rows of one picture gives to the sums (places, O)."""
        raise NotImplementedError

    def sum_kernel(self, epilogue: Epilogue) -> Kernel:
        """Adds up the parts, first to last, and hands each gradient on."""
        raise NotImplementedError

    def total(self, f: Function, p: Pointers, first: Value) -> Value:
        """A vector of sums over all parts, of which `first` is the number of the first one."""
        size, type = self.places * self.spec.filters, vector(self.lanes, "float")
        total = f.load(f.at(p["temporary.parts"], first, "float"), type)
        with f.loop("part", 1, self.shares.tiles, carry=[total]) as part:
            at = f.add(f.mul(part.index, f.index(size)), first)
            more = f.load(f.at(p["temporary.parts"], at, "float"), type)
            part.next(f.add(part.carried[0], more))
        return part.results[0]


class _Weights(Parts):
    """Sums over windows: KH KW C places."""

    def __init__(self, target: Target, spec: ConvolutionSpec, g: Operand):
        lanes, (height, width) = target.lanes(float32), spec.size
        columns = min(spec.filters, 2 * lanes)
        line = width * columns * (2 if spec.pairs else 4)  # bytes of one row of the cotangent
        block = max(
            b for b in range(1, height + 1)
            if b == 1 or height % b == 0 and b * line <= KEPT_COTANGENT_BYTES
        )  # fmt: skip
        shape = (spec.shape[0], spec.filters, *spec.size)
        if spec.pairs:
            rows, cotangent = PixelRows.read_by(spec, block), PairRows(g, shape, block)
        else:
            rows = PictureRows.read_by(spec, block, lanes)
            cotangent = PictureRows(g, shape, 0, 0, (1, 1), block, width, lanes)
        self.g, self.cotangent = g, cotangent
        self.direct = g.dtype is float32  # the cotangent is read where it lies
        super().__init__(target, spec, block, rows, {} if self.direct else {"g": cotangent.size})
        self.run = spec.window[1] * spec.shape[1]  # numbers of a window that lie side by side
        self.places = spec.window[0] * self.run
        self.share_out(spec.flops)

    def unit(self, f: Function, p: Pointers, sums: Value, unit: Value) -> None:
        """See Parts."""
        spec, g = self.spec, self.g
        number, first = self.take_rows(f, p, unit)
        if self.direct:
            begin = f.add(f.mul(number, f.index(g.strides[0])), f.mul(first, f.index(g.strides[2])))
            cotangent = f.at(p["g"], f.add(begin, f.index(g.offset)), "float", "cotangent")
        else:
            cotangent = self.scratch.at("g")
            self.cotangent.emit(f, p["g"], cotangent, number, first)
        for vectors in vector_parts(spec.filters // self.lanes):
            fits = rows_that_fit(self.target, vectors.size)
            lines, runs, pieces = spec.window[0], [(0, 0)], parts_of(self.run, fits)
            if isinstance(self.rows, PixelRows):  # channels of one column of the window
                channels = spec.shape[1]
                runs = [(j * channels, self.rows.place(j)) for j in range(spec.window[1])]
                pieces = parts_of(channels, fits)
            elif self.places <= fits:  # small windows of few channels: all places in one block
                lines, pieces = 1, [Part(self.places, 0, 1)]
            with self.columns(f, vectors) as column, f.loop("i", 0, lines) as i:
                for run in runs:
                    for piece in pieces:
                        with piece.loop(f, "piece") as place:
                            shape = (piece.size, vectors.size)
                            self._tile(f, shape, i.index, run, place, cotangent, column, sums)

    def _tile(
        self, f: Function, shape: tuple[int, int], line: Value, run: tuple[int, int], place: Value,
        g: Value, column: Value, sums: Value,
    ) -> None:  # fmt: skip
        """A register tile of places times output channels, over all pixels of the block.

        Args:
            run: the number of a place among those of its line, and where its pixels begin.
        """
        spec, row = self.spec, self.rows.row
        if isinstance(self.rows, PixelRows):
            number, apart = "i16", self.rows.length
            offsets = tuple(k * apart for k in range(shape[0]))
            pixels = Turns(spec.size[1] // 2, 2)
        else:
            number, apart = "float", 1
            offsets = tuple(k // self.run * row + k % self.run for k in range(shape[0]))
            pixels = Turns(spec.size[1], spec.stride[1] * spec.shape[1])
        loops = Turns(self.block, spec.stride[0] * row), pixels
        name = self.tile(shape, offsets, loops, spec.filters)
        at = f.add(f.mul(line, f.index(row)), f.mul(place, f.index(apart)))
        a = f.at(self.scratch.at("rows"), f.add(at, f.index(run[1])), number, "a")
        at = f.add(f.mul(line, f.index(self.run)), f.add(place, f.index(run[0])))
        at = f.mul(at, f.index(spec.filters))
        c = f.at(sums, f.add(at, column), "float")
        f.call("void", name, a, f.at(g, column, "float"), c)

    def sum_kernel(self, epilogue: Epilogue) -> Kernel:
        """See Parts."""
        filters, places, parts = self.spec.filters, self.places, self.shares.tiles
        shares = Shares.of(places, filters * parts)

        def body(f: Function, p: Pointers) -> None:
            with shares.loop(f, "place") as place, f.loop("o", 0, filters, self.lanes) as column:
                first = f.add(f.mul(place.index, f.index(filters)), column.index)
                epilogue.emit(f, self.total(f, p, first), (place.index, column.index), None, p)

        return named_kernel(
            "convolution_weights_sum", ("temporary.parts", *epilogue.arguments), body,
            tiles=shares.tiles, flops=parts * places * filters,
            bytes=4 * (parts + 1) * places * filters, label="convolution weights: sum",
        )  # fmt: skip
