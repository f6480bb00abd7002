"""Convolution of bfloat16 by AMX tiles, straight from the picture's rows.

A tile of the first operand is up to 16 neighbouring pixels of an output row: in scratch, channels
innermost, the KW * C numbers that each of them sees of one line lie side by side, so its rows are
read in place, a pixel apart, and one tile follows the other along the window, 32 numbers further.
The second operand is the packed filters. A block of sums is four tiles of pixels by 16 filters:
the 16 filters of a whole window then stay in the first-level cache while all pixels of the block
of rows go by. Where KW * C is no multiple of 32, the last tile of a line has fewer columns: what
lies behind them belongs to the next pixel, and 0 times an infinity there would be no number.

The gradient of the filters is, of each line of the window, a product of matrices summed over the
pixels of the cotangent: filters by pixels, times pixels by the KW * C numbers that a pixel sees.
The first has pixels innermost, so the cotangent is turned, once; the second has pairs of pixels
side by side, to which two neighbours of the picture are interleaved.

Knows pointers, strides and epilogues, never graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tinytorch.base.dtypes import bfloat16
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    Epilogue,
    Kernel,
    Lowered,
    Operand,
    Pointers,
    Shares,
    ceil_div,
    named_kernel,
    round_up,
    some_needed,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.convolution import (
    PART_FLOPS,
    Forward,
    Part,
    Parts,
    parts_of,
    rows_in_block,
)
from tinytorch.kernels.convolution_rows import ConvolutionSpec, Phase, PictureRows
from tinytorch.kernels.packing import transpose
from tinytorch.kernels.register_tile import (
    AMX_DEPTH,
    AMX_ROWS,
    PAIRS,
    AmxOperand,
    EpilogueWriter,
    amx_configure,
    amx_memory,
    amx_register,
    begin_micro_kernel,
)

# A tile of work: AMX tiles do ten times as many operations in the same time as vectors.
TILE_FLOPS = 24_000_000
# Rows of the picture that a tile keeps, in bytes: a part of the first-level cache. Rows that are
# written to the second take 7 cycles a line; of 12, 16, 32, 48 and 256 KB the first two were best.
TILE_KEPT_BYTES = 16 << 10
FOUR = 4  # tiles of sums: more multiplications on their way than one takes to end
_LINE = 2 * AMX_DEPTH  # bytes of a row of a tile
# The tile registers beside the sums: of the first operand and the second, whole, and where the
# summed axis ends within a tile.
_WHOLE, _REST = (4, 5), (6, 7)


# ---- sums of tiles


def configure(f: Function, high: int, rest: int, place: Value | None = None) -> None:
    """Say how large the tiles are, unless all are whole, as the thread team has asked for.

    Args:
        high: rows of the first operand's tiles, and of the sums.
        rest: numbers in a row of its last tile along the summed axis, even; 0: none is short.
        place: where tiles are no longer as the team has asked for: a line that is overwritten.
    """
    if high == AMX_ROWS and not rest and place is None:
        return
    rest = rest or AMX_DEPTH
    sums = (high, _LINE)
    amx_configure(
        f, [*[sums] * FOUR, sums, (AMX_ROWS, _LINE), (high, 2 * rest), (rest // 2, _LINE)], place
    )


def multiply_along(f: Function, a: AmxOperand, b: AmxOperand, depth: int) -> tuple[Value, Value]:
    """sums += a b, for up to FOUR tiles of sums; gives where both operands end.

    The sums of tile i of a and tile j of b are in register i * (tiles of b) + j.

    Args:
        depth: numbers summed, even; tiles are configured for depth % 32.
    """
    whole, rest = depth // AMX_DEPTH, depth % AMX_DEPTH
    with f.loop("turn", 0, whole, carry=[a.pointer, b.pointer]) as k:
        _turn(f, replace(a, pointer=k.carried[0]), replace(b, pointer=k.carried[1]), _WHOLE)
        a_next = f.at(k.carried[0], f.index(a.step), "i8", "a.next")
        k.next(a_next, f.at(k.carried[1], f.index(b.step), "i8", "b.next"))
    a_end, b_end = k.results
    if rest:
        _turn(f, replace(a, pointer=a_end), replace(b, pointer=b_end), _REST)
        b_end = f.at(b_end, f.index(rest // 2 * b.row), "i8", "b.next")
        a_end = f.at(a_end, f.index(2 * rest), "i8", "a.next")
    return a_end, b_end


def _turn(f: Function, a: AmxOperand, b: AmxOperand, registers: tuple[int, int]) -> None:
    """All products of a turn; loads of a tile go on while the one before it is multiplied."""
    for j, right in enumerate(b.tiles):
        amx_memory(f, "tileloadd64", registers[1], f.at(b.pointer, f.index(right), "i8"), b.row)
        for i, left in enumerate(a.tiles):
            amx_memory(f, "tileloadd64", registers[0], f.at(a.pointer, f.index(left), "i8"), a.row)
            which = [amx_register(f, n) for n in (i * len(b.tiles) + j, *registers)]
            f.call("void", "llvm.x86.tdpbf16ps", *which)


def zero_sums(f: Function, sums: AmxOperand) -> None:
    """Begin with 0."""
    for number in range(len(sums.tiles)):
        f.call("void", "llvm.x86.tilezero", amx_register(f, number))


def load_sums(f: Function, sums: AmxOperand) -> None:
    """Begin with what is in memory."""
    for number, place in enumerate(sums.tiles):
        amx_memory(f, "tileloadd64", number, f.at(sums.pointer, f.index(place), "i8"), sums.row)


def store_sums(f: Function, sums: AmxOperand) -> None:
    """Leave the sums in memory."""
    for number, place in enumerate(sums.tiles):
        amx_memory(f, "tilestored64", number, f.at(sums.pointer, f.index(place), "i8"), sums.row)


# ---- forward


def suits_tiles(target: Target, spec: ConvolutionSpec) -> bool:
    """Whether the target has AMX tiles, and pairs of bfloat16 are multiplied."""
    return target.has_amx and spec.words == PAIRS


def lower_convolution_by_tiles(
    target: Target, spec: ConvolutionSpec, epilogue: Epilogue
) -> Lowered:
    """The kernel of a convolution that `suits_tiles`; buffers as those of `lower_convolution`."""
    return Lowered.of(_TileForward(target, spec, epilogue).kernel())


def tile_starts(width: int) -> list[int]:
    """Where the tiles of a row of pixels begin; the last ends with the row.

    >>> tile_starts(32), tile_starts(8), tile_starts(37)
    ([0, 16], [0], [0, 16, 21])
    """
    last = max(0, width - AMX_ROWS)
    return [*range(0, last, AMX_ROWS), last]


class _TileForward(Forward):
    """Writes the kernel."""

    def __init__(self, target: Target, spec: ConvolutionSpec, epilogue: Epilogue):
        block = rows_in_block(target, spec, TILE_FLOPS, TILE_KEPT_BYTES)
        rows = PictureRows.read_by(spec, block, target.lanes(PAIRS.type_of("a")))
        arrays = {"sums": FOUR * AMX_ROWS * AMX_ROWS}
        super().__init__(target, spec, epilogue, block, rows, arrays)
        self.label, self.budget = "convolution (tiles)", TILE_FLOPS
        self.micro_kernels: dict[str, tuple[Phase, tuple[int, ...]]] = {}
        self.sizes = {self._tile_sizes(phase) for phase in spec.phases}

    def _tile_sizes(self, phase: Phase) -> tuple[int, int]:
        """Pixels of a tile, and numbers in a row of the last one along a line of the window."""
        rest = phase.window[1] * self.spec.channels % AMX_DEPTH
        return min(AMX_ROWS, phase.size[1]), rest

    def begin(self, f: Function) -> None:
        """Say how large the tiles are, if all phases' are alike."""
        if len(self.sizes) == 1:
            configure(f, *next(iter(self.sizes)))

    def end(self, f: Function) -> None:
        """Say that tiles are whole again."""
        if self.sizes != {(AMX_ROWS, 0)}:
            amx_configure(f)

    def helpers(self, prefix: str, c_row: object, add: bool) -> list[Function]:
        """The private functions."""
        return [self._write(f"{prefix}.{n}", *what) for n, what in self.micro_kernels.items()]

    def unit(self, f: Function, p: Pointers, unit: Value) -> None:
        """One block of output rows of one picture."""
        line = self.begin_unit(f, p, unit)
        for phase in self.spec.phases:
            if len(self.sizes) > 1:
                configure(f, *self._tile_sizes(phase), self.scratch.at("sums"))
            self._phase(f, p, line, phase)

    def _phase(self, f: Function, p: Pointers, line: Value, phase: Phase) -> None:
        """The outputs of a phase; line: the number of the block's first pixel."""
        starts, (high, _) = tile_starts(phase.size[1]), self._tile_sizes(phase)
        with f.loop("filters", 0, self.vectors) as o:
            column = f.mul(o.index, f.index(AMX_ROWS), "column")
            for tall in parts_of(self.block, max(1, FOUR // len(starts))):
                with tall.loop(f, "row") as y:
                    for i in range(0, len(starts), FOUR):
                        done = starts[i - 1] + high if i else 0
                        chosen = starts[i : i + FOUR]
                        self._pixels(f, p, phase, (line, y, column), tall.size, chosen, done)

    def _pixels(
        self, f: Function, p: Pointers, phase: Phase, at: tuple[Value, Value, Value], tall: int,
        starts: Sequence[int], done: int,
    ) -> None:  # fmt: skip
        """The sums of up to FOUR tiles, then the epilogue.

        Args:
            at: the number of the block's first pixel, a row of the block, the first filter.
            tall: how many rows of pixels; starts: where in each of them tiles begin.
            done: pixels in front of that one have been given to the epilogue.
        """
        spec, (line, y, column) = self.spec, at
        right, down = spec.stride[1] * spec.channels, spec.stride[0] * self.rows.row
        width, first, (high, _) = phase.size[1], starts[0], self._tile_sizes(phase)
        places = [(i, x - first) for i in range(tall) for x in starts]
        which = (tall, *phase.first, *(x - first for x in starts))
        name = f"tiles.{'.'.join(map(str, which))}"
        tiles = (n for i, x in places for n in (2 * (i * down + x * right), 64 * (i * width + x)))
        self.micro_kernels[name] = phase, tuple(tiles)
        a, w = self.operands(f, p, (y, f.index(first)), column, phase)
        f.call("void", f"@@.{name}", a, w, self.scratch.at("sums"))
        skip = max(0, done - first)
        count = starts[-1] - first + high - skip
        whole = spec.filters % AMX_ROWS == 0
        columns = f.minimum(f.index(AMX_ROWS), f.sub(f.index(spec.filters), column))
        columns = f.index(AMX_ROWS) if whole else columns
        unrolled = AMX_ROWS if whole else 0
        results = EpilogueWriter(self.epilogue, "float", AMX_ROWS, spec.filters, unrolled)
        c = self.scratch.at("sums", f.index(skip * AMX_ROWS))
        at = line, y, f.index(first + skip)
        self.give(f, p, results, phase, (tall, count), at, (column, columns), c, AMX_ROWS)

    def _write(self, name: str, phase: Phase, tiles: tuple[int, ...]) -> Function:
        """The private function (a, b, c): sums over the window.

        Args:
            tiles: where the pixels and the sums of each tile begin, in bytes.
        """
        spec, f = self.spec, begin_micro_kernel(name, ())
        pixel, line = 2 * spec.stride[1] * spec.channels, _LINE * self.vectors
        sums = AmxOperand(f.c, tiles[1::2], _LINE)
        zero_sums(f, sums)
        with f.loop("line", 0, phase.window[0], carry=[f.a, f.b]) as i:
            a = AmxOperand(i.carried[0], tiles[::2], pixel, _LINE)
            b = AmxOperand(i.carried[1], (0,), line, AMX_ROWS * line)
            _, end = multiply_along(f, a, b, phase.window[1] * spec.channels)
            i.next(f.at(i.carried[0], f.index(2 * self.rows.row), "i8", "line.next"), end)
        store_sums(f, sums)
        return f


# ---- the gradient of the filters

# Pixels summed over before sums go back to memory, which costs as much as 4 turns of 32 pixels;
# those of 32 filters stay in the first-level cache beside a group. 512 are 5 to 10 % slower.
SUMMED = 256
# A block's pairs of pixels, in bytes: a part of the second-level cache.
KEPT_PAIRS = 512 << 10
# A part should be worth its share of the final sum, see PART_FLOPS: ten times as many operations.
TILE_PART_FLOPS = 10 * PART_FLOPS
_GROUP = 32  # numbers of a vector of bfloat16; their pairs are two tiles of columns
_PAIR = 2 * _LINE  # bytes of a pair of pixels, of a group
_QUARTERS, _EIGHT = 4, 8  # of a vector, 128 bits; numbers in one, in which all shuffles stay
# What interleaves the lower and the upper halves of all quarters of two vectors: by numbers, by
# two of them and by four.
_INTERLEAVED = {
    size: [
        [
            number
            for quarter in range(0, _GROUP, _EIGHT)
            for place in range(half * 4, half * 4 + 4, size)
            for side in (0, _GROUP)
            for number in range(side + quarter + place, side + quarter + place + size)
        ]
        for half in (0, 1)
    ]
    for size in (1, 2, 4)
}


def suits_tile_weights(target: Target, spec: ConvolutionSpec, g: Operand) -> bool:
    """Whether AMX tiles make the gradient: of bfloat16, an even number of pixels in a row, whole
    tiles of filters, the cotangent channels innermost without gaps."""
    filters, (height, width) = spec.filters, spec.size
    dense = (height * width * filters, 1, width * filters, filters)
    of_pairs = spec.image.dtype is g.dtype is bfloat16
    whole = width % 2 == 0 and filters % AMX_ROWS == 0
    return target.has_amx and of_pairs and whole and g.strides == dense


def lower_weights_by_tiles(
    target: Target, spec: ConvolutionSpec, g: Operand, epilogue: Epilogue
) -> Lowered:
    """The kernels of a gradient that `suits_tile_weights`; arguments and buffers as those of
    `lower_weights`."""
    return _TileWeights(target, spec, g).lowered(epilogue)


class _TileWeights(Parts):
    """Sums in tiles of 16 filters by 16 numbers of a window's line: (lines, tiles of filters,
    tiles of numbers, 16, 16)."""

    def __init__(self, target: Target, spec: ConvolutionSpec, g: Operand):
        spec = replace(spec, words=None)
        (height, width), down = spec.size, spec.stride[0]
        self.g, self.run = g, spec.window[1] * spec.shape[1]  # numbers of a window's line
        self.panels = self.run // _GROUP * 2 + ceil_div(self.run % _GROUP, AMX_ROWS)
        block = max(b for b in range(1, height + 1) if b == 1 or self._fits(spec, b))
        self.pixels = block * width
        units = spec.shape[0] * (height // block)
        most = max(1, SUMMED // self.pixels)
        self.blocks = max(b for b in range(1, most + 1) if units % b == 0)
        # lines a stride apart lie one after the other, so that pixels below each other do
        self.lines = ceil_div((block - 1) * down + spec.window[0], down)
        self.pairs = down * self.lines * width // 2 * _PAIR  # bytes of a block, of each group
        self.group = self.blocks * self.pairs + _PAIR
        # of a filter's pixels in scratch: a line more, lest the rows of a tile share a set
        self.pitch = round_up(self.blocks * self.pixels, AMX_DEPTH) + AMX_DEPTH
        rows = PictureRows.read_by(spec, block, target.lanes(bfloat16))
        arrays = {
            "pairs": ceil_div(self.panels, 2) * self.group // 4,
            "turned": spec.filters * self.pitch // 2,
        }
        super().__init__(target, spec, block, replace(rows, to=bfloat16), arrays)
        self.units = units // self.blocks
        self.places = spec.window[0] * self.panels * AMX_ROWS
        self.share_out(spec.flops, "convolution weights (tiles)", TILE_PART_FLOPS)
        self.micro_kernels: dict[str, tuple[int, int]] = {}

    def _fits(self, spec: ConvolutionSpec, block: int) -> bool:
        """Whether so many output rows are a block."""
        height, width = spec.size
        lines = (block - 1) * spec.stride[0] + spec.window[0]
        kept = lines * width // 2 * _PAIR * ceil_div(self.panels, 2)
        return height % block == 0 and block * width <= SUMMED and kept <= KEPT_PAIRS

    def begin(self, f: Function) -> None:
        """Say how large the tiles are."""
        configure(f, AMX_ROWS, self.pixels % AMX_DEPTH)

    def end(self, f: Function) -> None:
        """Say that tiles are whole again."""
        if self.pixels % AMX_DEPTH:
            amx_configure(f)

    def helpers(self, prefix: str, c_row: object, add: bool) -> list[Function]:
        """The private functions."""
        return [self._write(f"{prefix}.{n}", *size) for n, size in self.micro_kernels.items()]

    def unit(self, f: Function, p: Pointers, sums: Value, first: Value) -> None:
        """Some blocks of rows: both operands in scratch, and their product."""
        with f.loop("block", 0, self.blocks) as i:
            self._block(f, p, f.add(first, i.index), i.index)
        filters = self.spec.filters // AMX_ROWS
        high = 2 if filters > 1 else 1
        for down in pieces(filters, high):
            with down.loop(f, "filters") as o:
                for across in pieces(self.panels, FOUR // down.size):
                    # lines innermost: they see nearly the same pixels
                    with across.loop(f, "panel") as j, f.loop("line", 0, self.spec.window[0]) as i:
                        self._multiply(f, sums, (down.size, across.size), (o, i.index, j))

    def _block(self, f: Function, p: Pointers, number: Value, block: Value) -> None:
        """Both operands of a block; zeros if its picture is not needed."""
        if self.blocks == 1 or not self.needed:
            self._take(f, p, number, block)
            return
        needed = some_needed(f, p, self.needed, number, 1)
        with f.when(needed):
            self._take(f, p, number, block)
        with f.when(f.opposite(needed)):
            self._clear(f, block)

    def _take(self, f: Function, p: Pointers, number: Value, block: Value) -> None:
        """Both operands of a block."""
        at = self.take_rows(f, p, number)
        for phase in range(self.spec.stride[0]):
            self._pair(f, block, phase)
        self._turn(f, p, at, block)

    def _clear(self, f: Function, block: Value) -> None:
        """Zeros in place of both, where nobody needs the picture."""
        line = vector(_LINE, "i8")
        first, groups = f.mul(block, f.index(self.pairs)), ceil_div(self.panels, 2)
        with f.loop("group", 0, groups) as k, f.loop("pair", 0, self.pairs, _LINE) as i:
            begin = f.add(first, f.mul(k.index, f.index(self.group)))
            f.store(f.const(line, 0), self.scratch.at("pairs", f.add(begin, i.index), "i8"))
        first = f.mul(block, f.index(self.pixels))
        with f.loop("o", 0, self.spec.filters) as o, f.loop("pixel", 0, self.pixels) as x:
            at = f.add(f.mul(o.index, f.index(self.pitch)), f.add(first, x.index))
            f.store(f.const("i16", 0), self.scratch.at("turned", at, "i16"))

    def _pair(self, f: Function, block: Value, phase: int) -> None:
        """Interleave neighbouring pixels of the lines that lie a stride apart."""
        (down, right), half = self.spec.stride, self.spec.size[1] // 2
        apart, wide = right * self.spec.shape[1], vector(_GROUP, "i16")
        rest = self.run % _GROUP
        with f.loop("line", 0, self.lines) as line, f.loop("pair", 0, half) as x:
            y = f.add(f.mul(line.index, f.index(down)), f.index(phase))
            at = f.add(f.mul(y, f.index(self.rows.row)), f.mul(x.index, f.index(2 * apart)))
            left = self.scratch.at("rows", at, "i16")
            at = f.mul(f.add(line.index, f.index(phase * self.lines)), f.index(half))
            at = f.mul(f.add(at, x.index), f.index(_PAIR))
            to = self.scratch.at("pairs", f.add(f.mul(block, f.index(self.pairs)), at), "i8")

            def interleave(number: Value, tiles: int) -> None:
                both = [
                    f.load(f.at(left, f.add(number, f.index(k)), "i16"), wide) for k in (0, apart)
                ]
                group = f.mul(f.div(number, f.index(_GROUP)), f.index(self.group))
                for i in range(tiles):
                    place = f.add(group, f.index(i * _LINE))
                    f.store(
                        f.shuffle(both[0], both[1], self._order(tiles)[i]), f.at(to, place, "i8")
                    )

            with f.loop("number", 0, self.run - rest, _GROUP) as k:
                interleave(k.index, 2)
            if rest:
                interleave(f.index(self.run - rest), ceil_div(rest, AMX_ROWS))

    def _order(self, tiles: int) -> list[list[int]]:
        """How two vectors become pairs, in so many tiles: where there are two, within quarters."""
        if tiles == 2:
            return _INTERLEAVED[1]
        return [[x for i in range(AMX_ROWS) for x in (i, _GROUP + i)]]

    def _turn(self, f: Function, p: Pointers, at: tuple[Value, Value], block: Value) -> None:
        """The cotangent of a block with pixels innermost.

        Args:
            at: the number of the picture, the first row; block: which of the unit.
        """
        number, first = at
        (n, _, row, apart), eight = self.g.strides, vector(_EIGHT, "i16")
        begin = f.add(f.mul(number, f.index(n)), f.mul(first, f.index(row)))
        g = f.at(p["g"], f.add(begin, f.index(self.g.offset)), "i16", "cotangent")
        column = f.mul(block, f.index(self.pixels))
        channels = range(_EIGHT)
        with (
            f.loop("pixel", 0, self.pixels, _GROUP) as x,
            f.loop("o", 0, self.spec.filters, _EIGHT) as o,
        ):
            lines: list[Value] = []
            for i in range(_EIGHT):
                quarters: list[Value] = []
                for quarter in range(_QUARTERS):
                    pixel = f.add(x.index, f.index(quarter * _EIGHT + i))
                    if self.pixels % _GROUP:  # nobody reads what is beside the last one
                        pixel = f.minimum(pixel, f.index(self.pixels - 1))
                    here = f.add(f.mul(pixel, f.index(apart)), o.index)
                    quarters.append(f.load(f.at(g, here, "i16"), eight))
                halves = [
                    f.shuffle(quarters[k], quarters[k + 1], range(2 * _EIGHT)) for k in (0, 2)
                ]
                lines.append(f.shuffle(halves[0], halves[1], range(_GROUP)))
            for size in (1, 2, 4):
                lines = self._interleave(f, lines, size)
            for i, line in zip(channels, lines, strict=True):
                here = f.mul(f.add(o.index, f.index(i)), f.index(self.pitch))
                here = f.add(here, f.add(column, x.index))
                f.store(line, self.scratch.at("turned", here, "i16"))

    @staticmethod
    def _interleave(f: Function, lines: Sequence[Value], size: int) -> list[Value]:
        """Eight vectors after one of the three steps that turn all squares of 8 x 8 numbers."""
        found: list[Value] = []
        for i in range(0, _EIGHT, 2 * size):
            for k in range(i, i + size):
                found += [f.shuffle(lines[k], lines[k + size], o) for o in _INTERLEAVED[size]]
        return found

    def _multiply(
        self, f: Function, sums: Value, shape: tuple[int, int], at: tuple[Value, Value, Value]
    ) -> None:
        """Tiles of filters times tiles of numbers; at: first filters, the line, first numbers."""
        (o, i, j), down, panels = at, self.spec.stride[0], self.panels
        name = f"tiles.{shape[0]}.{shape[1]}"
        self.micro_kernels[name] = shape
        a = self.scratch.at("turned", f.mul(o, f.index(AMX_ROWS * self.pitch)), "i16")
        line = f.add(f.mul(f.rem(i, f.index(down)), f.index(self.lines)), f.div(i, f.index(down)))
        place = f.mul(line, f.index(self.spec.size[1] // 2 * _PAIR))
        group = f.mul(f.div(j, f.index(2)), f.index(self.group))  # j is even
        b = self.scratch.at("pairs", f.add(place, group), "i8")
        tile = f.add(f.mul(i, f.index(self.spec.filters // AMX_ROWS)), o)
        tile = f.add(f.mul(tile, f.index(panels)), j)
        c = f.at(sums, f.mul(tile, f.index(AMX_ROWS * AMX_ROWS)), "float", "tile")
        f.call("void", f"@@.{name}", a, b, c)

    def _write(self, name: str, high: int, wide: int) -> Function:
        """The private function (a, b, c): sums over the pixels of all blocks are added to c."""
        f, tile = begin_micro_kernel(name, ()), AMX_ROWS * _LINE
        cells = tuple((i * self.panels + j) * tile for i in range(high) for j in range(wide))
        sums = AmxOperand(f.c, cells, _LINE)
        load_sums(f, sums)
        filters = tuple(i * AMX_ROWS * 2 * self.pitch for i in range(high))
        numbers = tuple(j // 2 * self.group + j % 2 * _LINE for j in range(wide))
        with f.loop("block", 0, self.blocks, carry=[f.a, f.b]) as i:
            a = AmxOperand(i.carried[0], filters, 2 * self.pitch, _LINE)
            b = AmxOperand(i.carried[1], numbers, _PAIR, AMX_ROWS * _PAIR)
            end, _ = multiply_along(f, a, b, self.pixels)
            i.next(end, f.at(i.carried[1], f.index(self.pairs), "i8", "block.next"))
        store_sums(f, sums)
        return f

    def sum_kernel(self, epilogue: Epilogue) -> Kernel:
        """See Parts."""
        filters, parts = self.spec.filters, self.shares.tiles
        whole, rest = self.run // _GROUP, self.run % _GROUP
        groups, high = whole + (rest > 0), filters // AMX_ROWS
        lines = self.spec.window[0]
        shares = Shares.of(lines * high * groups, 2 * AMX_ROWS * AMX_ROWS * parts)

        def body(f: Function, p: Pointers) -> None:
            with shares.loop(f, "group") as unit:
                group = f.rem(unit.index, f.index(groups))
                tile = f.div(unit.index, f.index(groups))
                at = f.div(tile, f.index(high)), f.rem(tile, f.index(high)), group
                last = f.compare("ge", group, f.index(whole))
                with f.when(f.opposite(last)):
                    self._give(f, p, epilogue, at, _GROUP)
                if rest:
                    with f.when(last):
                        self._give(f, p, epilogue, at, rest)

        return named_kernel(
            "convolution_weights_sum", ("temporary.parts", *epilogue.arguments), body,
            tiles=shares.tiles, flops=parts * self.places * filters,
            bytes=4 * (parts + 1) * self.places * filters, label="convolution weights: sum",
        )  # fmt: skip

    def _give(
        self, f: Function, p: Pointers, epilogue: Epilogue, at: tuple[Value, Value, Value],
        count: int,
    ) -> None:  # fmt: skip
        """Hand on `count` numbers of a group; at: the line, the tile of filters, the group."""
        line, o, group = at
        tile = f.add(f.mul(line, f.index(self.spec.filters // AMX_ROWS)), o)
        tile = f.add(f.mul(tile, f.index(self.panels)), f.mul(group, f.index(2)))
        first = f.add(f.mul(line, f.index(self.run)), f.mul(group, f.index(_GROUP)))
        column = f.mul(o, f.index(AMX_ROWS))
        for i, order in enumerate(self._order(ceil_div(count, AMX_ROWS))):
            begin = f.mul(f.add(tile, f.index(i)), f.index(AMX_ROWS * AMX_ROWS))
            rows = [self.total(f, p, f.add(begin, f.index(k * AMX_ROWS))) for k in range(AMX_ROWS)]
            for number, value in zip(order[::2], transpose(f, rows), strict=True):
                if number < count:
                    epilogue.emit(f, value, (f.add(first, f.index(number)), column), None, p)


def pieces(total: int, size: int) -> list[Part]:
    """`total` in pieces of `size`, the rest last.

    >>> pieces(6, 4)
    [Part(size=4, start=0, count=1), Part(size=2, start=4, count=1)]
    """
    whole, rest = divmod(total, size)
    found = [Part(size, 0, whole), Part(rest, whole * size, 1)]
    return [part for part in found if part.size and part.count]
