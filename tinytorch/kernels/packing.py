"""Copies what a register tile reads into the order in which it reads it.

    pack_strip       a strip of a matrix for vectors: out[k][lane]
    pack_pairs       the same in pairs of bfloat16, for vectors and for AMX tiles of 16 lanes by 32
    pack_rows, pack_transposed           rows into dense scratch, as they are or turned
    pack_amx_rows, amx_pairs, amx_turned the same as operands of AMX tiles

A strip is `lanes` (rows of a, or columns of b) by `depth` (the summed axis), any strides, any float
type. Lanes past the end are filled with copies or zeros: whoever reads them ignores their results.
Knows pointers, strides and vectors; never tensors, nor what is done with the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Value, lanes, vector
from tinytorch.kernels.register_tile import AMX_DEPTH, AMX_ROWS

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
        compute: number type that is written.
        round_to: a narrower type to round to on the way, or None.
    """

    dtype: DType
    lane_stride: int
    depth_stride: int
    lanes: int
    compute: DType
    round_to: DType | None = None

    def convert(self, f: Function, x: Value) -> Value:
        """The number as it is computed with."""
        if self.round_to is not None and self.round_to is not self.dtype:
            x = f.convert(x, self.round_to.llvm)
        return f.convert(x, self.compute.llvm)

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
    """

    strip: Strip
    source: Value
    first: Value
    width: int
    k0: Value
    depth: Value
    out: Value
    whole: bool

    def place(self, f: Function, lane: Value, k: Value) -> Value:
        """Where a number that is read lies, counted from the first one."""
        return self.strip.place(f, self.source, lane, f.add(self.k0, k))


def pack_strip(f: Function, copy: StripCopy, step: int, deep: bool) -> None:
    """Copy a strip to out[k][lane], contiguous.

    Args:
        step: lanes of a vector; `copy.width` is a multiple of it.
        deep: `copy.depth` is known to be at least `step`.
    """
    if copy.strip.lane_stride == 1:
        _copy_rows(f, copy, step)
    elif copy.strip.depth_stride == 1 and deep:
        with f.loop("part", 0, copy.width, step) as part:
            _transpose_squares(f, copy, part.index, step)
    else:
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
            x = f.load(f.at(here, f.index(i * step), source), vector(step, source), mask=mask)
            f.store(strip.convert(f, x), f.at(there, f.index(i * step), compute))


def _copy_each(f: Function, copy: StripCopy) -> None:
    """Any strides: one number at a time."""
    strip = copy.strip
    with f.loop("lane", 0, copy.width) as lane:
        row = strip.existing(f, f.add(copy.first, lane.index))
        with f.loop("k", 0, copy.depth) as k:
            x = f.load(copy.place(f, row, k.index), strip.dtype.llvm)
            there = f.add(f.mul(k.index, f.index(copy.width)), lane.index)
            f.store(strip.convert(f, x), f.at(copy.out, there, strip.compute.llvm))


def _transpose_squares(f: Function, copy: StripCopy, part: Value, step: int) -> None:
    """The summed axis lies side by side: turn squares of step x step in registers.

    The last square overlaps the one before it, so there is no remainder.
    """
    strip, first = copy.strip, f.add(copy.first, part)
    source, compute = strip.dtype.llvm, strip.compute.llvm
    rows = [
        strip.place(f, copy.source, strip.existing(f, f.add(first, f.index(i))), copy.k0)
        for i in range(step)
    ]
    final = f.sub(copy.depth, f.index(step))
    with f.loop("k", 0, copy.depth, step) as k:
        start = f.minimum(k.index, final)
        square = [
            strip.convert(f, f.load(f.at(row, start, source), vector(step, source), stem="row"))
            for row in rows
        ]
        place = f.add(f.mul(start, f.index(copy.width)), part)
        there = f.at(copy.out, place, compute, "packed.at")
        for i, x in enumerate(transpose(f, square)):
            f.store(x, f.at(there, f.index(i * copy.width), compute))


# Which way a strip of bfloat16 is written.
Order = Literal["tiles", "paired tiles", "lines"]


def pack_pairs(f: Function, copy: StripCopy, order: Order, even: bool) -> None:
    """Copy a strip of a multiple of 16 lanes as bfloat16; the summed axis is filled up with zeros.

    Args:
        order: tiles of AMX, 16 lanes by 32 of k, one after the other: of a, `[lane][k]`, or paired,
            of b, `[k / 2][lane][k % 2]`; or lines for vectors, `[k / 2][lane][k % 2]` of all lanes.
        even: the depth is known to be a multiple of 32.
    """
    strip, paired = copy.strip, order != "tiles"
    # numbers from one line of pairs to the next, and from one part of the strip to the next
    line, across = (2 * copy.width, 2) if order == "lines" else (AMX_DEPTH, AMX_DEPTH)
    with (
        f.loop("k", 0, copy.depth, AMX_DEPTH) as k,
        f.loop("part", 0, copy.width, AMX_ROWS) as part,
    ):
        left = None if even else f.minimum(f.sub(copy.depth, k.index), f.index(AMX_DEPTH))
        start = f.add(copy.k0, k.index)
        down = f.mul(k.index, f.index(copy.width))
        tile = f.at(copy.out, f.add(down, f.mul(part.index, f.index(across))), "i16", "tile")
        lane = f.add(copy.first, part.index)
        if strip.depth_stride == 1:
            rows = _rows_along_depth(f, copy, lane, start, left)
            _store_tile(f, rows, tile, line, turned=paired)
        elif strip.lane_stride == 1:
            rows = _pairs_along_lanes(f, copy, lane, start, left)
            _store_tile(f, rows, tile, line, turned=not paired)
        else:
            count = left or f.index(AMX_DEPTH)
            _copy_each_to_tile(f, copy, lane, start, count, tile, line if paired else None)


def _store_tile(f: Function, rows: list[Value], tile: Value, line: int, turned: bool) -> None:
    for i, row in enumerate(transpose(f, rows) if turned else rows):
        f.store(row, f.at(tile, f.index(i * line), "i16"))


def _rows_along_depth(
    f: Function, copy: StripCopy, first: Value, k: Value, left: Value | None
) -> list[Value]:
    """Each lane's 32 numbers lie side by side: 16 rows of 16 pairs."""
    strip, inside = copy.strip, None
    if left is not None:
        count = f.splat(f.convert(left, "i16"), AMX_DEPTH)
        inside = f.compare("lt", f.step(AMX_DEPTH, "i16"), count, stem="inside")
    rows: list[Value] = []
    for i in range(AMX_ROWS):
        place = strip.place(f, copy.source, strip.existing(f, f.add(first, f.index(i))), k)
        x = f.load(place, vector(AMX_DEPTH, strip.dtype.llvm), mask=inside, stem="row")
        rows.append(f.bitcast(f.convert_flushed(x), AMX_WORDS))
    return rows


def _pairs_along_lanes(
    f: Function, copy: StripCopy, first: Value, k: Value, left: Value | None
) -> list[Value]:
    """16 lanes lie side by side: two rows of them make one row of pairs."""
    strip = copy.strip
    inside = f.index(AMX_ROWS) if copy.whole else f.sub(f.index(strip.lanes), first)

    def below(count: Value) -> Value:
        count = f.convert(f.minimum(count, f.index(AMX_ROWS)), "i32")
        return f.compare("lt", f.step(AMX_ROWS, "i32"), f.splat(count, AMX_ROWS), stem="mask")

    every = None if copy.whole else below(inside)

    def half(i: int) -> Value:
        mask = every
        if left is not None:
            mask = below(f.select(f.compare("lt", f.index(i), left), inside, f.index(0)))
        place = strip.place(f, copy.source, first, f.add(k, f.index(i)))
        x = f.load(place, vector(AMX_ROWS, strip.dtype.llvm), mask=mask, stem="half")
        bits = f.bitcast(f.convert_flushed(x), vector(AMX_ROWS, "i16"))
        return f.convert(bits, AMX_WORDS, signed=False)

    high = f.const(AMX_WORDS, 16)
    return [f.op("or", half(2 * i), f.op("shl", half(2 * i + 1), high)) for i in range(AMX_ROWS)]


def _copy_each_to_tile(
    f: Function, copy: StripCopy, first: Value, k: Value, left: Value, tile: Value, line: int | None
) -> None:
    """Any strides: one number at a time; `line`: numbers in a line of pairs, None: `[lane][k]`."""
    strip = copy.strip
    with f.loop("lane", 0, AMX_ROWS) as lane:
        row = strip.existing(f, f.add(first, lane.index))
        with f.loop("each", 0, AMX_DEPTH) as each:
            here = f.minimum(each.index, f.sub(left, f.index(1)))
            x = f.load(strip.place(f, copy.source, row, f.add(k, here)), strip.dtype.llvm)
            bits = f.bitcast(f.convert_flushed(x), "i16")
            bits = f.select(f.compare("lt", each.index, left), bits, f.const("i16", 0))
            if line:
                pair = f.mul(f.op("lshr", each.index, f.index(1)), f.index(line))
                which = f.add(f.mul(lane.index, f.index(2)), f.op("and", each.index, f.index(1)))
                place = f.add(pair, which)
            else:
                place = f.add(f.mul(lane.index, f.index(AMX_DEPTH)), each.index)
            f.store(bits, f.at(tile, place, "i16"))


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
    last = f.sub(exist[0], f.index(1))
    with f.loop("row", 0, rows) as row:
        start = source.at(f.minimum(row.index, last))
        there = f.compare("le", row.index, last)
        for column in range(0, columns, AMX_DEPTH):
            count = exist[1] - column
            mask = f.mask_below(AMX_DEPTH, f.index(count)) if count < AMX_DEPTH else None
            x = f.load(f.at(start, f.index(column), "i16"), _AMX_ROW, mask=mask)
            x = f.select(there, x, f.const(_AMX_ROW, 0))
            at = f.add(f.mul(row.index, f.index(columns)), f.index(column))
            f.store(x, f.at(out, at, "i16"))


def amx_pairs(f: Function, source: Value, out: Value, sizes: tuple[int, int]) -> None:
    """out pair (i, column) = source (2 i, column) and (2 i + 1, column), for dense blocks."""
    rows, columns = sizes
    low = [x for i in range(AMX_ROWS) for x in (i, AMX_DEPTH + i)]
    high = [x + AMX_ROWS for x in low]
    with f.loop("row", 0, rows, 2) as row:
        for column in range(0, columns, AMX_DEPTH):
            at = f.add(f.mul(row.index, f.index(columns)), f.index(column))
            upper = f.load(f.at(source, at, "i16"), _AMX_ROW)
            lower = f.load(f.at(source, f.add(at, f.index(columns)), "i16"), _AMX_ROW)
            to = f.add(f.mul(row.index, f.index(columns)), f.index(2 * column))
            f.store(f.shuffle(upper, lower, low), f.at(out, to, "i16"))
            second = f.add(to, f.index(AMX_DEPTH))
            f.store(f.shuffle(upper, lower, high), f.at(out, second, "i16"))


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
