"""Copies what a register tile reads into the order in which it reads it.

    pack_strip       a strip of a matrix for vectors: out[k][lane]
    pack_words       the same in words of 4 bytes, some neighbours along the summed axis (pairs of
                     bfloat16 or int16, four bytes), for vectors and for AMX tiles of 16 by 16 words
    pack_rows, pack_transposed           rows into dense scratch, as they are or turned
    pack_amx_rows, amx_pairs, amx_turned the same as operands of AMX tiles

A strip is `lanes` (rows of a, or columns of b) by `depth` (the summed axis), any strides, any
number type. Lanes past the end are filled with copies or zeros: whoever reads them ignores their
results.
Knows pointers, strides and vectors; never tensors, nor what is done with the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tinytorch.base.dtypes import DType, bfloat16, int8, uint8
from tinytorch.codegen.builder import Function, Value, lanes, vector
from tinytorch.codegen.kernel import Pointers, Prologue
from tinytorch.kernels.register_tile import AMX_DEPTH, AMX_ROWS, WORD, WORD_BYTES

AMX_WORDS = vector(AMX_ROWS, "i32")  # a row of an AMX tile: 16 pairs
_AMX_ROW = vector(AMX_DEPTH, "i16")  # the same as 32 bfloat16 numbers


def transpose(f: Function, rows: Sequence[Value]) -> list[Value]:
    """The transposed square of n vectors of n lanes, in n log2(n) two-vector shuffles."""
    n, values = len(rows), list(rows)
    if lanes(values[0].type) != n:
        raise ValueError(f"a square is needed, not {n} vectors of {values[0].type}")
    half = 1
    while half < n:
        # swap the off-diagonal half x half squares of every 2 half x 2 half square
        low = [i if i & half == 0 else n + i - half for i in range(n)]
        high = [i + half if i & half == 0 else n + i for i in range(n)]
        for i in range(n):
            if i & half == 0:
                a, b = values[i], values[i + half]
                values[i] = f.shuffle(a, b, low, "turned")
                values[i + half] = f.shuffle(a, b, high, "turned")
        half *= 2
    return values


# ---- strips of matrices


@dataclass(frozen=True)
class Strip:
    """A matrix that is read in strips.

    Args:
        dtype: number type in memory.
        lane_stride, depth_stride: elements between neighbours along each axis.
        lanes: size of the axis that becomes vector lanes.
        compute: number type that is written. uint8 of int8 numbers: 128 is added to each; int8 of
            uint8 ones: taken from it.
        round_to: a narrower type to round to on the way, or None.
        prologue: makes the numbers, (depth, lane) its row and column.
    """

    dtype: DType
    lane_stride: int
    depth_stride: int
    lanes: int
    compute: DType
    round_to: DType | None = None
    prologue: Prologue | None = None

    def convert(self, f: Function, x: Value) -> Value:
        """The number as it is computed with."""
        if self.round_to is not None and self.round_to is not self.dtype:
            x = f.convert(x, self.round_to.llvm)
        return f.convert(x, self.compute.llvm, signed=self.dtype.kind != "u")

    @property
    def shifted(self) -> bool:
        """Whether 128 is added to each number, or taken from it."""
        return {self.dtype, self.compute} == {int8, uint8}

    def bits(self, f: Function, x: Value) -> Value:
        """The number as integers of its size in words, scalar or vector."""
        if self.compute is bfloat16:
            return f.bitcast(f.convert_flushed(x), vector(lanes(x.type), "i16"))
        if self.shifted:
            return f.op("xor", x, f.const(x.type, -128), "shifted")
        return f.convert(x, self.compute.llvm, signed=self.dtype.kind == "i")

    def place(self, f: Function, source: Value, lane: Value, k: Value) -> Value:
        """Address of one number."""
        there = f.add(
            f.mul(lane, f.index(self.lane_stride)), f.mul(k, f.index(self.depth_stride)), "offset"
        )
        return f.at(source, there, self.dtype.llvm)

    def existing(self, f: Function, lane: Value) -> Value:
        """The lane, or the last one for those past the end."""
        return f.minimum(lane, f.index(self.lanes - 1))


@dataclass(frozen=True, eq=False)
class StripCopy:
    """What is copied of a strip, and where it goes.

    Args:
        strip: the matrix; source: where it begins.
        first: the first lane; width: how many lanes are written for each k.
        k0, depth: the first number of each lane, and how many.
        out: where they go.
        whole: no lane of this strip lies past the end.
        pointers: the buffers of a prologue.
    """

    strip: Strip
    source: Value
    first: Value
    width: int
    k0: Value
    depth: Value
    out: Value
    whole: bool
    pointers: Pointers | None = None

    def read(
        self, f: Function, place: Value, at: tuple[Value, Value], n: int, along_depth: bool,
        mask: Value | None = None,
    ) -> Value:  # fmt: skip
        """n numbers as they are computed with, along one axis.

        Args:
            place: where the first one lies; at: its lane and depth.
        """
        strip = self.strip
        if strip.prologue:
            lane, k = at
            there = f.add(self.k0, k), lane
            return strip.prologue.emit(f, there, n, along_depth, mask, self.pointers or {})
        x = f.load(place, vector(n, strip.dtype.llvm), mask=mask)
        return strip.convert(f, x)

    def place(self, f: Function, lane: Value, k: Value) -> Value:
        """Where a number that is read lies, counted from the first one."""
        return self.strip.place(f, self.source, lane, f.add(self.k0, k))


def pack_strip(f: Function, copy: StripCopy, step: int, deep: bool | None) -> None:
    """Copy a strip to out[k][lane], contiguous.

    Args:
        step: lanes of a vector; `copy.width` is a multiple of it.
        deep: whether `copy.depth` is at least `step`; None: that is known when it runs.
    """
    if copy.strip.lane_stride == 1:
        _copy_rows(f, copy, step)
        return
    if copy.strip.depth_stride != 1 or deep is False:
        _copy_each(f, copy)
        return
    enough = f.compare("ge", copy.depth, f.index(step)) if deep is None else f.const("i1", 1)
    with f.when(enough), f.loop("part", 0, copy.width, step) as part:
        _transpose_squares(f, copy, part.index, step)
    if deep is None:
        with f.when(f.opposite(enough)):
            _copy_each(f, copy)


def _copy_rows(f: Function, copy: StripCopy, step: int) -> None:
    """Lanes lie side by side: copy vectors."""
    strip, width = copy.strip, copy.width
    source, compute = strip.dtype.llvm, strip.compute.llvm
    masks = [
        None
        if copy.whole
        else f.mask_below(step, f.sub(f.index(strip.lanes - part), copy.first), "inside")
        for part in range(0, width, step)
    ]
    with f.loop("k", 0, copy.depth) as k:
        here = copy.place(f, copy.first, k.index)
        there = f.at(copy.out, f.mul(k.index, f.index(width)), compute, "packed.at")
        for i, mask in enumerate(masks):
            at = f.add(copy.first, f.index(i * step)), k.index
            place = f.at(here, f.index(i * step), source)
            x = copy.read(f, place, at, step, False, mask)
            f.store(x, f.at(there, f.index(i * step), compute))


def _copy_each(f: Function, copy: StripCopy) -> None:
    """Any strides: one number at a time."""
    strip = copy.strip
    with f.loop("lane", 0, copy.width) as lane:
        row = strip.existing(f, f.add(copy.first, lane.index))
        with f.loop("k", 0, copy.depth) as k:
            x = copy.read(f, copy.place(f, row, k.index), (row, k.index), 1, True)
            there = f.add(f.mul(k.index, f.index(copy.width)), lane.index)
            f.store(x, f.at(copy.out, there, strip.compute.llvm))


def _transpose_squares(f: Function, copy: StripCopy, part: Value, step: int) -> None:
    """The summed axis lies side by side: turn squares of step x step in registers.

    The last square overlaps the one before it, so there is no remainder.
    """
    strip, first = copy.strip, f.add(copy.first, part)
    source, compute = strip.dtype.llvm, strip.compute.llvm
    lanes = [strip.existing(f, f.add(first, f.index(i))) for i in range(step)]
    rows = [strip.place(f, copy.source, lane, copy.k0) for lane in lanes]
    final = f.sub(copy.depth, f.index(step))
    with f.loop("k", 0, copy.depth, step) as k:
        start = f.minimum(k.index, final)
        square = [
            copy.read(f, f.at(row, start, source), (lane, start), step, True)
            for row, lane in zip(rows, lanes, strict=True)
        ]
        place = f.add(f.mul(start, f.index(copy.width)), part)
        there = f.at(copy.out, place, compute, "packed.at")
        for i, x in enumerate(transpose(f, square)):
            f.store(x, f.at(there, f.index(i * copy.width), compute))


# Which way a strip of words is written.
Order = Literal["tiles", "paired tiles", "lines"]


def pack_words(f: Function, copy: StripCopy, side: int, order: Order, even: bool) -> None:
    """Copy a strip as words; the summed axis is filled up with zeros.

    Args:
        side: lanes that are turned at a time, as many words along the summed axis: 16 for AMX
            tiles. `copy.width` is a multiple of it. With fewer masked vectors of bytes are taken
            for no single instruction: what is incomplete is copied number by number.
        order: tiles, one after the other: of a, `[lane][k]`, or paired, of b,
            `[word][lane][k % numbers of a word]`; or lines for vectors, the same of all lanes.
        even: the depth is known to be a multiple of what `side` words hold.
    """
    square = _WordBlock(copy, side, copy.width if order == "lines" else side, order != "tiles")
    across = 1 if order == "lines" else side  # lines of `side` words to the next part
    whole, masks = copy.depth, side == AMX_ROWS
    if not (even or masks):
        whole = f.op("and", copy.depth, f.index(-square.depth))

    def part(k: Value, left: Value | None, each: bool) -> None:
        with f.loop("part", 0, copy.width, side) as i:
            down = f.mul(f.div(k, f.index(square.each)), f.index(copy.width))
            tile = f.at(copy.out, f.add(down, f.mul(i.index, f.index(across))), WORD, "tile")
            square.write(f, i.index, k, left, tile, each)

    with f.loop("k", 0, whole, square.depth) as k:
        left = None
        if not even and masks:
            left = f.minimum(f.sub(copy.depth, k.index), f.index(square.depth))
        part(k.index, left, False)
    if not (even or masks):
        with f.when(f.compare("lt", whole, copy.depth)):
            part(whole, f.sub(copy.depth, whole), True)


@dataclass(frozen=True, eq=False)
class _WordBlock:
    """`side` lanes by `side` words.

    Args:
        line: words from one line to the next.
        paired: words of one depth lie side by side; else those of one lane do.
    """

    copy: StripCopy
    side: int
    line: int
    paired: bool

    @property
    def number(self) -> str:
        """The type of a number's bits."""
        return f"i{8 * self.copy.strip.compute.itemsize}"

    @property
    def each(self) -> int:
        """Numbers in a word."""
        return WORD_BYTES // self.copy.strip.compute.itemsize

    @property
    def depth(self) -> int:
        """Numbers along the summed axis."""
        return self.side * self.each

    def write(
        self, f: Function, part: Value, k: Value, left: Value | None, tile: Value, each: bool
    ) -> None:
        """Copy the square whose first lane is `part`.

        Args:
            k: its first number of the strip; left: how many there are, if they may be too few.
            tile: where it goes.
            each: number by number, though lanes or depths lie side by side.
        """
        copy, strip = self.copy, self.copy.strip
        lane, start = f.add(copy.first, part), f.add(copy.k0, k)
        each = each or not (copy.whole or self.side == AMX_ROWS or strip.depth_stride == 1)
        if strip.depth_stride == 1 and not each:
            self._store(f, self._along_depth(f, lane, start, left), tile, turned=self.paired)
        elif strip.lane_stride == 1 and not each:
            self._store(f, self._along_lanes(f, lane, start, left), tile, turned=not self.paired)
        else:
            self._each(f, lane, start, left or f.index(self.depth), tile)

    def _store(self, f: Function, rows: list[Value], tile: Value, turned: bool) -> None:
        for i, row in enumerate(transpose(f, rows) if turned else rows):
            f.store(row, f.at(tile, f.index(i * self.line), WORD))

    def _along_depth(self, f: Function, first: Value, k: Value, left: Value | None) -> list[Value]:
        """Each lane's numbers lie side by side: rows of words."""
        strip, inside, depth = self.copy.strip, None, self.depth
        if left is not None:
            count = f.splat(f.convert(left, "i16"), depth)
            inside = f.compare("lt", f.step(depth, "i16"), count, stem="inside")
        rows: list[Value] = []
        for i in range(self.side):
            lane = strip.existing(f, f.add(first, f.index(i)))
            place = strip.place(f, self.copy.source, lane, k)
            x = f.load(place, vector(depth, strip.dtype.llvm), mask=inside, stem="row")
            rows.append(f.bitcast(strip.bits(f, x), vector(self.side, WORD)))
        return rows

    def _along_lanes(self, f: Function, first: Value, k: Value, left: Value | None) -> list[Value]:
        """Lanes lie side by side: some rows of them make one row of words."""
        copy, strip, n = self.copy, self.copy.strip, self.side
        inside = f.index(n) if copy.whole else f.sub(f.index(strip.lanes), first)
        words = vector(n, WORD)

        def below(count: Value) -> Value:
            count = f.convert(f.minimum(count, f.index(n)), "i32")
            return f.compare("lt", f.step(n, "i32"), f.splat(count, n), stem="mask")

        every = None if copy.whole else below(inside)

        def numbers(i: int) -> Value:
            mask = every
            if left is not None:
                mask = below(f.select(f.compare("lt", f.index(i), left), inside, f.index(0)))
            place = strip.place(f, copy.source, first, f.add(k, f.index(i)))
            x = f.load(place, vector(n, strip.dtype.llvm), mask=mask, stem="part")
            wide = f.convert(strip.bits(f, x), words, signed=False)
            up = i % self.each * 8 * strip.compute.itemsize
            return f.op("shl", wide, f.const(words, up)) if up else wide

        rows: list[Value] = []
        for i in range(0, self.depth, self.each):
            row = numbers(i)
            for j in range(1, self.each):
                row = f.op("or", row, numbers(i + j))
            rows.append(row)
        return rows

    def _each(self, f: Function, first: Value, k: Value, left: Value, tile: Value) -> None:
        """Any strides: one number at a time."""
        copy, strip, number = self.copy, self.copy.strip, self.number
        with f.loop("lane", 0, self.side) as lane:
            row = strip.existing(f, f.add(first, lane.index))
            with f.loop("each", 0, self.depth) as each:
                here = f.minimum(each.index, f.sub(left, f.index(1)))
                x = f.load(strip.place(f, copy.source, row, f.add(k, here)), strip.dtype.llvm)
                inside = f.compare("lt", each.index, left)
                bits = f.select(inside, strip.bits(f, x), f.const(number, 0))
                if self.paired:
                    word, which = (op(each.index, f.index(self.each)) for op in (f.div, f.rem))
                    down = f.mul(word, f.index(self.line * self.each))
                    place = f.add(down, f.add(f.mul(lane.index, f.index(self.each)), which))
                else:
                    place = f.add(f.mul(lane.index, f.index(self.line * self.each)), each.index)
                f.store(bits, f.at(tile, place, number))


# ---- rows of small blocks


@dataclass(frozen=True, eq=False)
class Rows:
    """Strided rows.

    Args:
        at: gives the address where row i begins.
        type: LLVM type of the numbers; stride: elements from one to the next.
    """

    at: Callable[[Value], Value]
    type: str
    stride: int

    def piece(
        self, f: Function, row: Value, column: Value, n: int, count: int, compute: str
    ) -> Value:
        """n numbers of a row from a column on, as `load_row_piece` gives them."""
        at = f.at(self.at(row), f.mul(column, f.index(self.stride)), self.type)
        return load_row_piece(f, at, self.type, self.stride, n, count, compute)


def load_row_piece(
    f: Function, pointer: Value, type: str, stride: int, n: int, count: int, compute: str
) -> Value:
    """n elements from `pointer` in the type `compute`; those after the first `count` are 0."""
    if n == 1:
        return f.convert(f.load(pointer, type), compute)
    if stride == 1:
        mask = f.mask_below(n, f.index(count)) if count < n else None
        return f.convert(f.load(pointer, vector(n, type), mask=mask), vector(n, compute))
    value = f.const(vector(n, type), 0.0)
    for lane in range(min(n, count)):
        x = f.load(f.at(pointer, f.index(lane * stride), type), type)
        value = f.insert(value, x, lane)
    return f.convert(value, vector(n, compute))


def pack_transposed(
    f: Function, n: int, source: Rows, out: Value, compute: str, sizes: tuple[int, int], scale:
    float = 1.0,
) -> None:  # fmt: skip
    """out[column * rows + row] = scale * source[row, column], for `sizes` (rows, columns).

    Args:
        n: lanes of a vector; rows is a multiple of it.
    """
    rows, columns = sizes
    factor = f.const(vector(n, compute), scale)

    def square(row: Value, column: Value, count: int) -> None:
        read: list[Value] = []
        for i in range(n):
            x = source.piece(f, f.add(row, f.index(i)), column, n, count, compute)
            read.append(x if scale == 1.0 else f.mul(x, factor))
        base = f.at(out, f.add(f.mul(column, f.index(rows)), row), compute)
        for i, x in enumerate(transpose(f, read)[:count]):
            f.store(x, f.at(base, f.index(i * rows), compute))

    with f.loop("row", 0, rows, n) as row:
        _in_pieces(f, columns, n, lambda column, count: square(row.index, column, count))


def pack_rows(
    f: Function, n: int, source: Rows, out: Value, compute: str, sizes: tuple[Value, int], width:
    int,
) -> None:  # fmt: skip
    """out[row * width + column] = source[row, column] in the type `compute`; the rest is 0.

    Args:
        n: lanes of a vector.
        sizes: (rows, columns); rows may be known at run time only.
        width: elements of a packed row, a multiple of n.
    """
    rows, columns = sizes

    def piece(row: Value, column: Value, count: int) -> None:
        x = source.piece(f, row, column, n, count, compute)
        f.store(x, f.at(out, f.add(f.mul(row, f.index(width)), column), compute))

    with f.loop("row", 0, rows) as row:
        _in_pieces(f, columns, n, lambda column, count: piece(row.index, column, count))


def _in_pieces(f: Function, columns: int, n: int, piece: Callable[[Value, int], None]) -> None:
    """`piece(column, count)` for n columns at a time and for the rest."""
    full = columns // n * n
    if full:
        with f.loop("column", 0, full, n) as column:
            piece(column.index, n)
    if columns - full:
        piece(f.index(full), columns - full)


def pack_amx_rows(
    f: Function, source: Rows, exist: tuple[Value, int], out: Value, sizes: tuple[int, int]
) -> None:
    """Copy bfloat16 rows without gaps between them; rows and columns that do not exist are 0.

    Args:
        source: dense rows.
        exist: how many rows (at least 1) and columns exist.
        out: (rows, columns) numbers.
        sizes: rows and columns of `out`, multiples of 32.
    """
    rows, columns = sizes
    with f.loop("row", 0, rows) as row:
        line = _existing_line(f, source, exist, row.index)
        for column in range(0, columns, AMX_DEPTH):
            at = f.add(f.mul(row.index, f.index(columns)), f.index(column))
            f.store(line(column), f.at(out, at, "i16"))


def pack_amx_pairs(
    f: Function, source: Rows, exist: tuple[Value, int], out: Value, sizes: tuple[int, int]
) -> None:
    """`amx_pairs` of what `pack_amx_rows` would copy."""
    rows, columns = sizes
    with f.loop("row", 0, rows, 2) as row:
        upper = _existing_line(f, source, exist, row.index)
        lower = _existing_line(f, source, exist, f.add(row.index, f.index(1)))
        for column in range(0, columns, AMX_DEPTH):
            to = f.add(f.mul(row.index, f.index(columns)), f.index(2 * column))
            _store_pairs(f, upper(column), lower(column), out, to)


def amx_pairs(f: Function, source: Value, out: Value, sizes: tuple[int, int]) -> None:
    """out pair (i, column) = source (2 i, column) and (2 i + 1, column), for dense blocks."""
    rows, columns = sizes
    with f.loop("row", 0, rows, 2) as row:
        for column in range(0, columns, AMX_DEPTH):
            at = f.add(f.mul(row.index, f.index(columns)), f.index(column))
            upper = f.load(f.at(source, at, "i16"), _AMX_ROW)
            lower = f.load(f.at(source, f.add(at, f.index(columns)), "i16"), _AMX_ROW)
            to = f.add(f.mul(row.index, f.index(columns)), f.index(2 * column))
            _store_pairs(f, upper, lower, out, to)


def _existing_line(
    f: Function, source: Rows, exist: tuple[Value, int], row: Value
) -> Callable[[int], Value]:
    """Gives AMX_DEPTH numbers of a row from a column on, 0 where it or they do not exist."""
    last = f.sub(exist[0], f.index(1))
    start, there = source.at(f.minimum(row, last)), f.compare("le", row, last)

    def numbers(column: int) -> Value:
        count = exist[1] - column
        mask = f.mask_below(AMX_DEPTH, f.index(count)) if count < AMX_DEPTH else None
        x = f.load(f.at(start, f.index(column), "i16"), _AMX_ROW, mask=mask)
        return f.select(there, x, f.const(_AMX_ROW, 0))

    return numbers


def _store_pairs(f: Function, upper: Value, lower: Value, out: Value, to: Value) -> None:
    """Store the numbers of two rows by turns, from number `to` of out on."""
    low = [x for i in range(AMX_ROWS) for x in (i, AMX_DEPTH + i)]
    high = [x + AMX_ROWS for x in low]
    f.store(f.shuffle(upper, lower, low), f.at(out, to, "i16"))
    f.store(f.shuffle(upper, lower, high), f.at(out, f.add(to, f.index(AMX_DEPTH)), "i16"))


def amx_turned(
    f: Function, source: Value, out: Value, sizes: tuple[int, int], row_pairs: int = 0
) -> None:
    """out (column, row) = source (row, column), blocks of pairs; sizes (rows, columns).

    Args:
        row_pairs: pairs from one row of `out` to the next; default: no gap.
    """
    rows, columns = sizes
    gap = row_pairs or rows
    with f.loop("row", 0, rows, AMX_ROWS) as row, f.loop("column", 0, columns, AMX_ROWS) as column:
        base = f.add(f.mul(row.index, f.index(columns)), column.index)
        lines = [
            f.load(f.at(source, f.add(base, f.index(i * columns)), "i32"), AMX_WORDS)
            for i in range(AMX_ROWS)
        ]
        to = f.add(f.mul(column.index, f.index(gap)), row.index)
        for i, turned in enumerate(transpose(f, lines)):
            f.store(turned, f.at(out, f.add(to, f.index(i * gap)), "i32"))


def amx_rounded(f: Function, first: Value, second: Value) -> Value:
    """16 and 16 float32 numbers as 32 bfloat16, one after the other."""
    both = f.shuffle(first, second, range(2 * AMX_ROWS), "both")
    return f.bitcast(f.convert_flushed(both), _AMX_ROW)


def amx_paired(f: Function, first: Value, second: Value) -> Value:
    """The same as pairs: number i of the first beside number i of the second."""
    order = [x for i in range(AMX_ROWS) for x in (i, AMX_ROWS + i)]
    both = amx_rounded(f, first, second)
    return f.shuffle(both, both, order, "pairs")
