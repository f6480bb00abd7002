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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import prod

from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    LINE,
    Epilogue,
    Kernel,
    Lowered,
    Operand,
    Pointers,
    Scratch,
    Shares,
    Step,
    ceil_div,
    lengths_of,
    named_kernel,
    where_needed,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.convolution_rows import (
    ConvolutionSpec,
    PairRows,
    Phase,
    PictureRows,
    PixelRows,
)
from tinytorch.kernels.register_tile import (
    EpilogueWriter,
    Rectangle,
    RegisterTile,
    Turns,
    WordEpilogue,
    rows_that_fit,
    write_micro_kernel,
)

# A tile of work: 2 million operations take about 15 us on one core, 150 times what taking it costs.
TILE_FLOPS = 2_000_000
# Of few pictures: pieces down to a quarter of a tile's work, up to one for each of 8 threads.
FINER, MOST_UNITS = 4, 8
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


class _Convolution:
    """What both kernels share: blocks of rows, scratch, register tiles and their private functions.

    Args:
        target, spec: what is written.
        block: output rows of each phase done together.
        rows: those of the picture that a block reads.
        arrays: more of scratch, words of each.
    """

    def __init__(
        self, target: Target, spec: ConvolutionSpec, block: int, rows: PictureRows | PixelRows,
        arrays: dict[str, int],
    ):  # fmt: skip
        self.target, self.spec, self.block, self.rows = target, spec, block, rows
        self.lanes = target.lanes(float32)
        each = spec.places[0] // block
        self.units = spec.shape[0] * each
        self.needed = tuple(rows.each(each) for rows in spec.needed)  # units
        self.scratch = Scratch("float", 4, self.lanes, {"rows": self.rows.size, **arrays})
        self.tiles: dict[str, RegisterTile] = {}

    def begin(self, f: Function) -> None:
        """What a tile of work needs before its first unit: nothing."""

    def end(self, f: Function) -> None:
        """What it leaves behind as it was: all."""

    def helpers(
        self, prefix: str, c_row: Callable[[RegisterTile], int], add: bool
    ) -> list[Function]:
        """The private functions."""
        return [
            write_micro_kernel(f"{prefix}.{name}", tile, c_row(tile), add)
            for name, tile in self.tiles.items()
        ]

    def take_rows(self, f: Function, p: Pointers, unit: Value) -> tuple[Value, Value]:
        """Copy what a unit of work reads; gives the picture's number and the first output row of
        each phase."""
        above = f.index(self.spec.places[0] // self.block)
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
        b_step: int, streams: bool = True,
    ) -> str:  # fmt: skip
        """Note that a register tile is needed, whose last size is in vectors; gives its name.

        Args:
            streams: b does not stay in the first-level cache: it is asked for ahead.
        """
        name, vectors = "block." + ".".join(map(str, shape)), shape[-1]
        fetches = range(0, 4 * vectors * self.lanes, LINE) if streams else ()
        self.tiles[name] = RegisterTile(
            self.spec.sums, self.lanes, vectors, offsets, loops, b_step,
            tuple(4 * AHEAD * b_step + place for place in fetches),
            self.spec.words,
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
    if spec.shifted:
        epilogue = WordEpilogue(epilogue, "added", lambda f, index: f.index(0))
    return Lowered.of(Forward(target, spec, epilogue, block, rows, {}).kernel())


def rows_in_block(
    target: Target, spec: ConvolutionSpec, budget: int = TILE_FLOPS, kept: int = KEPT_BYTES
) -> int:
    """Output rows of each phase done together: a divisor of how many there are, within what
    scratch keeps and a tile does.

    Args:
        budget: operations of a tile of work.
        kept: bytes of the rows that are read.
    """
    n, wanted = max(1, spec.shape[0]), units_wanted(spec.flops, budget)
    flops = spec.flops // n
    best, lanes, height = 1, target.lanes(float32), spec.places[0]
    for block in range(1, height + 1):
        if height % block:
            continue
        fits = 4 * PictureRows.read_by(spec, block, lanes).size <= kept
        shared = n * (height // block) >= wanted
        if fits and shared and flops * block // height <= 2 * budget:
            best = block
    return best


def units_wanted(flops: int, budget: int = TILE_FLOPS) -> int:
    """How many pieces a convolution is cut into where pictures are few, so that threads share it.

    >>> units_wanted(500_000), units_wanted(2_000_000), units_wanted(10**9)
    (1, 4, 8)
    """
    return max(1, min(MOST_UNITS, FINER * flops // budget))


class Forward(_Convolution):
    """Writes the forward kernel; arguments as those of `_Convolution`.

    `blocks` is how many blocks of rows are a unit of work.
    """

    blocks = 1

    def __init__(
        self, target: Target, spec: ConvolutionSpec, epilogue: Epilogue, block: int,
        rows: PictureRows, arrays: dict[str, int],
    ):  # fmt: skip
        sums = 20 * 3 * target.lanes(float32)  # more than any register tile
        super().__init__(target, spec, block, rows, {"sums": sums, **arrays})
        self.epilogue = epilogue
        self.vectors = ceil_div(spec.filters, self.lanes)
        self.label, self.flops, self.arguments = "convolution", spec.flops, ("x", "w")
        self.budget = TILE_FLOPS

    def kernel(self) -> Kernel:
        """The kernel and its private functions."""
        shares = Shares.of(self.units, self.flops // self.units, self.budget)

        def body(f: Function, p: Pointers) -> None:
            self.scratch.begin(f)
            self.begin(f)
            with shares.loop(f, "unit") as unit:
                first = f.mul(unit.index, f.index(self.blocks))
                with where_needed(f, p, self.needed, first, self.blocks):
                    self.unit(f, p, first)
            self.end(f)

        arguments = (*self.arguments, *self.epilogue.arguments, *lengths_of(self.needed))
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
        (height, width), down = self.spec.size, self.spec.step[0]
        number, first = self.take_rows(f, p, unit)
        row = f.add(f.mul(number, f.index(height)), f.mul(first, f.index(down)))
        return f.mul(row, f.index(width), "line")

    def panel(self, f: Function, p: Pointers, line: Value, vectors: Part, column: Value) -> None:
        """Some output channels of the block, whose first pixel is number `line`.

        Rows of all phases go together: beside each other lies what the epilogue reads and writes.
        """
        fits = rows_that_fit(self.target, vectors.size)
        for tall in parts_of(self.block, max(1, fits // self.spec.places[1])):
            with tall.loop(f, "row") as y:
                for phase in self.spec.phases:
                    for wide in parts_of(phase.size[1], fits):
                        with wide.loop(f, "pixel") as x:
                            shape = (tall.size, wide.size, vectors.size)
                            self._tile(f, p, shape, (line, y, x), column, phase)

    def _tile(
        self, f: Function, p: Pointers, shape: tuple[int, int, int],
        at: tuple[Value, Value, Value], column: Value, phase: Phase,
    ) -> None:  # fmt: skip
        """A register tile: its sums, then the epilogue; at: the block's pixel, row, column."""
        spec, lanes = self.spec, self.lanes
        tall, wide, vectors = shape
        channels, row = spec.channels, self.rows.row
        down, right = spec.stride[0] * row, spec.stride[1] * channels
        offsets = tuple(i * down + j * right for i in range(tall) for j in range(wide))
        each = spec.words.each if spec.words else 1
        loops = Turns(phase.window[0], row), Turns(phase.window[1] * channels // each, each)
        name = self.tile((tall, wide, *phase.window, vectors), offsets, loops, self.vectors * lanes)
        c = self.scratch.at("sums")
        a, w = self.operands(f, p, at[1:], column, phase)
        f.call("void", name, a, w, c)
        size = vectors * lanes
        whole = spec.filters % lanes == 0
        width = f.minimum(f.index(size), f.sub(f.index(spec.filters), column))
        columns = (column, f.index(size) if whole else width)
        results = EpilogueWriter(
            self.epilogue, spec.sums, lanes, spec.filters, size if whole else 0
        )
        self.give(f, p, results, phase, (tall, wide), at, columns, c, size)

    def operands(
        self, f: Function, p: Pointers, at: Sequence[Value], column: Value, phase: Phase
    ) -> tuple[Value, Value]:
        """Where what a tile sees begins, and its filters; at: row and column in the phase."""
        spec, (y, x), (top, left) = self.spec, at, self.spec.seen[0]
        channels, row = spec.channels, self.rows.row
        place = f.add(
            f.mul(y, f.index(spec.stride[0] * row)), f.mul(x, f.index(spec.stride[1] * channels))
        )
        if prod(phase.window):
            begin = (phase.pixel[0] - top) * row + (phase.pixel[1] - left) * channels
            place = f.add(place, f.index(begin))
        a = f.at(self.scratch.at("rows"), place, self.rows.number, "a")
        depth = channels // (spec.words.each if spec.words else 1)
        before = f.index(phase.before * depth * self.vectors * self.lanes)
        return a, f.at(p["w"], f.add(before, column), "float")

    def give(
        self, f: Function, p: Pointers, results: EpilogueWriter, phase: Phase,
        shape: tuple[int, int], at: tuple[Value, Value, Value], columns: tuple[Value, Value],
        sums: Value, size: int,
    ) -> None:  # fmt: skip
        """Hand sums to the epilogue: rows of pixels of a phase, of `size` numbers each.

        Args:
            shape: (rows, pixels of each); several rows are whole ones.
            at: the number of the block's first pixel, the row and column in the phase.
            columns: the first filter, and how many.
        """
        (line, y, x), (tall, wide), (down, right) = at, shape, self.spec.step
        height, width = self.spec.size
        if self.spec.step == (1, 1):  # rows follow one another
            tall, wide = 1, tall * wide
        with f.loop("line", 0, tall) as i:
            row = f.mul(f.add(y, i.index), f.index(down))
            row = f.add(row, f.index(phase.first[0]))
            pixel = f.add(f.mul(x, f.index(right)), f.index(phase.first[1]))
            first = f.add(f.add(line, f.mul(row, f.index(width))), pixel)
            of = f.at(sums, f.mul(i.index, f.index(wide * size)), self.spec.sums)
            part = Rectangle((), first, f.index(wide), *columns, right)
            with nullcontext() if height % down == 0 else self._within(f, line, row):
                results.emit(f, p, part, of, size)

    def _within(self, f: Function, line: Value, row: Value) -> AbstractContextManager[None]:
        """Where a row counted from the block's first pixel belongs to the picture."""
        height, width = self.spec.size
        above = f.rem(f.div(line, f.index(width)), f.index(height))
        return f.when(f.compare("lt", f.add(above, row), f.index(height)))


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

    `places` is how many sums there are of each filter, `blocks` how many blocks of rows are a unit
    of work; `share_out` says the rest.
    """

    places: int
    blocks = 1
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
            self.begin(f)
            sums = f.at(p["temporary.parts"], f.mul(f.tile, f.index(size)), "float", "sums")
            with f.loop("zero", 0, size, self.lanes) as i:
                zero = f.const(vector(self.lanes, "float"), 0)
                f.store(zero, f.at(sums, i.index, "float"))
            with self.shares.loop(f, "unit") as unit:
                first = f.mul(unit.index, f.index(self.blocks))
                with where_needed(f, p, self.needed, first, self.blocks):
                    self.unit(f, p, sums, first)
            self.end(f)

        arguments = ("x", "g", "temporary.parts", *lengths_of(self.needed))
        return named_kernel(
            "convolution_weights", arguments, body, tiles=self.shares.tiles,
            helpers=lambda prefix: self.helpers(prefix, lambda _: filters, True),
            scratch=self.scratch.bytes, flops=self.flops, bytes=self.spec.bytes,
            label=self.label,
        )  # fmt: skip

    def share_out(
        self, flops: int, label: str = "convolution weights", least: int = PART_FLOPS
    ) -> None:
        """Decide how many parts there are, for so many operations, `least` of them in each."""
        self.flops, self.label = flops, label
        parts = max(1, min(MOST_PARTS, self.units, flops // least))
        self.shares = Shares(self.units, ceil_div(self.units, parts))

    def unit(self, f: Function, p: Pointers, sums: Value, first: Value) -> None:
        """Add what the blocks of rows from number `first` on give to the sums (places, O)."""
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
        line = width * columns * (2 if spec.words else 4)  # bytes of one row of the cotangent
        block = max(
            b for b in range(1, height + 1)
            if b == 1 or height % b == 0 and b * line <= KEPT_COTANGENT_BYTES
        )  # fmt: skip
        shape = (spec.shape[0], spec.filters, *spec.size)
        if spec.words:
            rows, cotangent = PixelRows.read_by(spec, block), PairRows(g, shape, block)
        else:
            rows = PictureRows.read_by(spec, block, lanes)
            cotangent = PictureRows(g, shape, 0, 0, block, width, lanes)
        self.g, self.cotangent = g, cotangent
        self.direct = g.dtype is float32  # the cotangent is read where it lies
        super().__init__(target, spec, block, rows, {} if self.direct else {"g": cotangent.size})
        self.run = spec.window[1] * spec.shape[1]  # numbers of a window that lie side by side
        self.places = spec.window[0] * self.run
        self.share_out(spec.flops)

    def unit(self, f: Function, p: Pointers, sums: Value, first: Value) -> None:
        """See Parts."""
        spec, g = self.spec, self.g
        number, first = self.take_rows(f, p, first)
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
        # a line of one vector beside the next stays there; panels of many filters lie apart
        streams = self.direct or spec.filters > self.lanes
        name = self.tile(shape, offsets, loops, spec.filters, streams)
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
