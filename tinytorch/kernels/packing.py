"""Copies a strip of a matrix into the order in which a micro-kernel reads it.

Knows one strip: `lanes` (rows of a, or columns of b) by `depth` (the summed axis), any strides, any
float type. It becomes `out[k][lane]`, contiguous, in the type that is computed with. Lanes past the
end are filled with copies or zeros: whoever reads them ignores their results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Value, lanes, vector


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


def emit_pack(
    f: Function,
    strip: Strip,
    source: Value,
    first: Value,
    k0: Value,
    depth: Value,
    out: Value,
    width: int,
    step: int,
    whole: bool,
    deep: bool,
) -> None:
    """Copy `width` lanes from lane `first` on, and `depth` numbers of each from k0 on, to `out`.

    Args:
        width: lanes written for each k, a multiple of `step`.
        step: lanes of a vector.
        whole: no lane of this strip lies past the end.
        deep: `depth` is known to be at least `step`.
    """
    if strip.lane_stride == 1:
        _copy_rows(f, strip, source, first, k0, depth, out, width, step, whole)
    elif strip.depth_stride == 1 and deep:
        with f.loop("part", 0, width, step) as part:
            _transpose(f, strip, source, first, k0, depth, out, width, part.index, step)
    else:
        _copy_each(f, strip, source, first, k0, depth, out, width)


def _copy_rows(f, strip, source, first, k0, depth, out, width, step, whole) -> None:
    """Lanes lie side by side: copy vectors."""
    type = vector(step, strip.dtype.llvm)
    masks = [
        None if whole else f.mask_below(step, f.sub(f.index(strip.lanes - part), first), "inside")
        for part in range(0, width, step)
    ]
    with f.loop("k", 0, depth) as k:
        here = strip.place(f, source, first, f.add(k0, k.index))
        there = f.at(out, f.mul(k.index, f.index(width)), strip.compute.llvm, "packed.at")
        for i, mask in enumerate(masks):
            x = f.load(f.at(here, f.index(i * step), strip.dtype.llvm), type, mask=mask)
            f.store(strip.convert(f, x), f.at(there, f.index(i * step), strip.compute.llvm))


def _copy_each(f, strip, source, first, k0, depth, out, width) -> None:
    """Any strides: one number at a time."""
    last = f.index(strip.lanes - 1)
    with f.loop("lane", 0, width) as lane:
        row = f.minimum(f.add(first, lane.index), last)
        with f.loop("k", 0, depth) as k:
            x = f.load(strip.place(f, source, row, f.add(k0, k.index)), strip.dtype.llvm)
            there = f.add(f.mul(k.index, f.index(width)), lane.index)
            f.store(strip.convert(f, x), f.at(out, there, strip.compute.llvm))


def _transpose(f, strip, source, first, k0, depth, out, width, part, step) -> None:
    """The summed axis lies side by side: turn squares of step x step in registers.

    The last square overlaps the one before it, so there is no remainder.
    """
    last, first = f.index(strip.lanes - 1), f.add(first, part)
    rows = [
        strip.place(f, source, f.minimum(f.add(first, f.index(i)), last), k0) for i in range(step)
    ]
    final = f.sub(depth, f.index(step))
    type = vector(step, strip.dtype.llvm)
    with f.loop("k", 0, depth, step) as k:
        start = f.minimum(k.index, final)
        square = [
            strip.convert(f, f.load(f.at(row, start, strip.dtype.llvm), type, stem="row"))
            for row in rows
        ]
        place = f.add(f.mul(start, f.index(width)), part)
        there = f.at(out, place, strip.compute.llvm, "packed.at")
        for i, x in enumerate(transpose(f, square)):
            f.store(x, f.at(there, f.index(i * width), strip.compute.llvm))


# MERGED tinytorch.kernels.packing: Copies a strip of a matrix into AMX tiles: 16 lanes by 32
# bfloat16 numbers.
#
# Knows one strip, any strides, any float type. A tile of a is `[lane][k]`; a tile of b is
# `[k / 2][lane][k % 2]`, pairs side by side. The summed axis is filled up with zeros, on both
# sides.

LANES, DEPTH, PAIRS = 16, 32, 16
WORDS = "<16 x i32>"  # a row of a tile: 16 pairs


def emit_tiles(
    f: Function,
    strip: Strip,
    source: Value,
    first: Value,
    k0: Value,
    depth: Value,
    out: Value,
    width: int,
    paired: bool,
    whole: bool,
    even: bool,
) -> None:
    """Copy `width` lanes (16 or 32) from `first` on, `depth` numbers of each from k0 on.

    Args:
        paired: write tiles of b, not of a.
        whole: no lane lies past the end.
        even: the depth is known to be a multiple of 32.
    """
    with f.loop("k", 0, depth, DEPTH) as k, f.loop("part", 0, width, LANES) as part:
        left = None if even else f.minimum(f.sub(depth, k.index), f.index(DEPTH))
        start = f.add(k0, k.index)
        place = f.add(f.mul(k.index, f.index(width)), f.mul(part.index, f.index(DEPTH)))
        tile = f.at(out, place, "i16", "tile")
        lane = f.add(first, part.index)
        if strip.depth_stride == 1:
            rows = _rows_along_depth(f, strip, source, lane, start, left)
            _store_rows(f, rows, tile, turned=paired)
        elif strip.lane_stride == 1:
            inside = f.index(LANES) if whole else f.sub(f.index(strip.lanes), lane)
            rows = _pairs_along_lanes(f, strip, source, lane, start, left, inside, whole)
            _store_rows(f, rows, tile, turned=not paired)
        else:
            _copy_each_to_tile(f, strip, source, lane, start, left or f.index(DEPTH), tile, paired)


def _store_rows(f: Function, rows: list[Value], tile: Value, turned: bool) -> None:
    for i, row in enumerate(transpose(f, rows) if turned else rows):
        f.store(row, f.at(tile, f.index(i * DEPTH), "i16"))


def _rows_along_depth(f, strip: Strip, source, first, k, left) -> list[Value]:
    """Each lane's 32 numbers lie side by side: 16 rows of 16 pairs."""
    last = f.index(strip.lanes - 1)
    inside = None
    if left is not None:
        count = f.splat(f.convert(left, "i16"), DEPTH)
        inside = f.compare("lt", f.step(DEPTH, "i16"), count, stem="inside")
    rows = []
    for i in range(LANES):
        row = f.minimum(f.add(first, f.index(i)), last)
        place = strip.place(f, source, row, k)
        x = f.load(place, f"<{DEPTH} x {strip.dtype.llvm}>", mask=inside, stem="row")
        rows.append(f.bitcast(f.convert_flushed(x), WORDS))
    return rows


def _pairs_along_lanes(f, strip: Strip, source, first, k, left, inside, whole) -> list[Value]:
    """16 lanes lie side by side: two rows of them make one row of pairs."""

    def below(count: Value) -> Value:
        count = f.convert(f.minimum(count, f.index(LANES)), "i32")
        return f.compare("lt", f.step(LANES, "i32"), f.splat(count, LANES), stem="mask")

    every = None if whole else below(inside)

    def half(i: int) -> Value:
        mask = every
        if left is not None:
            mask = below(f.select(f.compare("lt", f.index(i), left), inside, f.index(0)))
        place = strip.place(f, source, first, f.add(k, f.index(i)))
        x = f.load(place, f"<{LANES} x {strip.dtype.llvm}>", mask=mask, stem="half")
        bits = f.bitcast(f.convert_flushed(x), f"<{LANES} x i16>")
        return f.convert(bits, WORDS, signed=False)

    high = f.const(WORDS, 16)
    return [f.op("or", half(2 * i), f.op("shl", half(2 * i + 1), high)) for i in range(PAIRS)]


def _copy_each_to_tile(f, strip: Strip, source, first, k, left, tile, paired: bool) -> None:
    """Any strides: one number at a time."""
    last = f.index(strip.lanes - 1)
    with f.loop("lane", 0, LANES) as lane:
        row = f.minimum(f.add(first, lane.index), last)
        with f.loop("each", 0, DEPTH) as each:
            here = f.minimum(each.index, f.sub(left, f.index(1)))
            x = f.load(strip.place(f, source, row, f.add(k, here)), strip.dtype.llvm)
            bits = f.bitcast(f.convert_flushed(x), "i16")
            bits = f.select(f.compare("lt", each.index, left), bits, f.const("i16", 0))
            if paired:
                pair = f.mul(f.op("lshr", each.index, f.index(1)), f.index(2 * LANES))
                which = f.add(f.mul(lane.index, f.index(2)), f.op("and", each.index, f.index(1)))
                place = f.add(pair, which)
            else:
                place = f.add(f.mul(lane.index, f.index(DEPTH)), each.index)
            f.store(bits, f.at(tile, place, "i16"))


# MERGED tinytorch.kernels.packing: Copies of strided rows into dense scratch, transposed or as
# they are.
#
# Knows pointers, strides and vectors; never tensors. Rows beyond the end are read as the last
# row, so
# blocks may be ragged: what comes of such rows is for the caller to drop.

RowPointer = Callable[[Function, Value], Value]  # (f, row within the block) -> address of its start


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


def load_row_piece(f, pointer, dtype_llvm, stride, n, count, compute) -> Value:
    """n elements from `pointer` in the type `compute`; those after the first `count` are 0."""
    if n == 1:
        return f.convert(f.load(pointer, dtype_llvm), compute)
    if stride == 1:
        mask = f.mask_below(n, f.index(count)) if count < n else None
        return f.convert(f.load(pointer, vector(n, dtype_llvm), mask=mask), vector(n, compute))
    value = f.const(vector(n, dtype_llvm), 0.0)
    for lane in range(min(n, count)):
        x = f.load(f.at(pointer, f.index(lane * stride), dtype_llvm), dtype_llvm)
        value = f.insert(value, x, lane)
    return f.convert(value, vector(n, compute))


def pack_transposed(
    f: Function,
    n: int,
    row_pointer: RowPointer,
    source: tuple[str, int],
    out: Value,
    compute: str,
    sizes: tuple[int, int],
    scale: float = 1.0,
) -> None:
    """out[column * rows + row] = scale * source[row, column], for `sizes` (rows, columns).

    Args:
        n: lanes of a vector; rows is a multiple of it.
        source: (LLVM type, element stride along a row).
    """
    rows, columns = sizes
    type, stride = source
    factor = f.const(vector(n, compute), scale)

    def square(row: Value, column: Value, count: int) -> None:
        read = []
        for i in range(n):
            start = row_pointer(f, f.add(row, f.index(i)))
            at = f.at(start, f.mul(column, f.index(stride)), type)
            x = load_row_piece(f, at, type, stride, n, count, compute)
            read.append(x if scale == 1.0 else f.mul(x, factor))
        base = f.at(out, f.add(f.mul(column, f.index(rows)), row), compute)
        for i, x in enumerate(transpose(f, read)[:count]):
            f.store(x, f.at(base, f.index(i * rows), compute))

    with f.loop("row", 0, rows, n) as row:
        _in_pieces(f, columns, n, lambda column, count: square(row.index, column, count))


def _in_pieces(f: Function, columns: int, n: int, piece: Callable[[Value, int], None]) -> None:
    """`piece(column, count)` for n columns at a time and for the rest."""
    full = columns // n * n
    if full:
        with f.loop("column", 0, full, n) as column:
            piece(column.index, n)
    if columns - full:
        piece(f.index(full), columns - full)


def pack_rows(
    f: Function,
    n: int,
    row_pointer: RowPointer,
    source: tuple[str, int],
    out: Value,
    compute: str,
    sizes: tuple[Value, int],
    width: int,
) -> None:
    """out[row * width + column] = source[row, column] in the type `compute`; the rest is 0.

    Args:
        sizes: (rows, columns); rows may be known at run time only.
        width: elements of a packed row, a multiple of n.
    """
    rows, columns = sizes
    type, stride = source

    def piece(row: Value, column: Value, count: int) -> None:
        at = f.at(row_pointer(f, row), f.mul(column, f.index(stride)), type)
        x = load_row_piece(f, at, type, stride, n, count, compute)
        f.store(x, f.at(out, f.add(f.mul(row, f.index(width)), column), compute))

    with f.loop("row", 0, rows) as row:
        _in_pieces(f, columns, n, lambda column, count: piece(row.index, column, count))
