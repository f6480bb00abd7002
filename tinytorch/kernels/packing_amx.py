"""Copies a strip of a matrix into AMX tiles: 16 lanes by 32 bfloat16 numbers.

Knows one strip, any strides, any float type. A tile of a is `[lane][k]`; a tile of b is
`[k / 2][lane][k % 2]`, pairs side by side. The summed axis is filled up with zeros, on both sides.
"""

from __future__ import annotations

from tinytorch.codegen.builder import Function, Value
from tinytorch.kernels.block_transpose import transpose
from tinytorch.kernels.packing import Strip

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
            _copy_each(f, strip, source, lane, start, left or f.index(DEPTH), tile, paired)


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


def _copy_each(f, strip: Strip, source, first, k, left, tile, paired: bool) -> None:
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
