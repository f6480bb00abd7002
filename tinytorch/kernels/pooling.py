"""Max pooling of images and its gradient, channels in the lanes of a vector.

Knows pointers and strides over (N, C, H, W), never graphs. The first of equal elements wins, a NaN
wins over everything, padding never wins. The gradient is pulled: each pixel of the image looks at
the windows that cover it, in their order, so nothing is written twice and tiles are independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tinytorch.base.dtypes import int32
from tinytorch.codegen.builder import Function, Value, element, vector
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.axis_ops import better
from tinytorch.kernels.blocking import named_kernel, unravel

# A tile should take about 10 us (0.2 ns an element read): taking it costs 0.1 us.
TILE_ELEMENTS = 50_000
UNROLLED = 16  # positions of a window written out one by one; larger windows are loops


@dataclass(frozen=True)
class PoolSpec:
    """One pooling.

    Args:
        shape: of the image, (N, C, H, W).
        out_shape: (N, C, OH, OW).
        kernel, stride: (rows, columns).
        padding: ((top, bottom), (left, right)); each window holds some cell of the image.
        dilation: distance of a window's (rows, columns).
    """

    shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int] = (1, 1)

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first cell of a window to behind its last."""
        rows, columns = (d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return rows, columns

    @property
    def padded(self) -> bool:
        """Whether some window reaches over the edge."""
        return any(p for pair in self.padding for p in pair)

    @property
    def positions(self) -> list[tuple[int, int]]:
        """The places in a window, in their order."""
        return [(i, j) for i in range(self.kernel[0]) for j in range(self.kernel[1])]

    @property
    def tiled(self) -> bool:
        """Whether each pixel lies in one small window, edges left over at the end aside."""
        whole = self.kernel == self.stride == self.reach and not self.padded
        return whole and len(self.positions) <= UNROLLED


def max_pool(target: Target, spec: PoolSpec, x: Operand, out: Operand, index: Operand) -> Kernel:
    """The largest element of each window and its place h * W + w; buffers "x", "out", "index".

    Args:
        x: strides over spec.shape; out, index (int32): over spec.out_shape.
    """
    lines = _Lines(target, spec.shape[1], (x, out, index))
    n, c, rows, columns = spec.out_shape
    tiles, per_tile = _tiles(n * rows, c * columns * len(spec.positions))

    def body(f: Function, p) -> None:
        with _rows(f, n * rows, per_tile) as line:
            image, row = unravel(f, line.index, (n, rows))
            with f.loop("column", 0, columns) as column, lines.loop(f) as (channel, mask):
                at = (image, channel, row, column.index)
                best, place = _winner(f, spec, p["x"], x, at, lines.width, mask)
                _store(f, best, p["out"], out, at, mask)
                _store(f, place, p["index"], index, at, mask)

    count = n * c * rows * columns
    return named_kernel(
        "max_pool2d", ("x", "out", "index"), body, tiles=tiles, flops=count * len(spec.positions),
        bytes=_size(spec.shape) * x.dtype.itemsize + count * (out.dtype.itemsize + int32.itemsize),
        label="max_pool2d",
    )  # fmt: skip


def max_pool_gradient(
    target: Target, spec: PoolSpec, g: Operand, index: Operand, out: Operand
) -> Kernel:
    """For each pixel the sum of g over the windows it won; buffers "g", "index", "out".

    Args:
        g, index (int32): strides over spec.out_shape; out: over spec.shape.
    """
    lines = _Lines(target, spec.shape[1], (g, index, out))
    n, c, height, width = spec.shape
    # where each pixel lies in one window, a window writes all its pixels; else pixels look around
    rows = -(-height // spec.stride[0]) if spec.tiled else height
    tiles, per_tile = _tiles(n * rows, 3 * c * width * (spec.stride[0] if spec.tiled else 1))
    write = _spread_windows if spec.tiled else _gather_pixels

    def body(f: Function, p) -> None:
        with _rows(f, n * rows, per_tile) as line:
            image, row = unravel(f, line.index, (n, rows))
            write(f, spec, p, (g, index, out), lines, image, row)

    small = _size(spec.out_shape) * (g.dtype.itemsize + int32.itemsize)
    return named_kernel(
        "max_pool2d_gradient", ("g", "index", "out"), body, tiles=tiles,
        flops=_size(spec.out_shape), bytes=small + _size(spec.shape) * out.dtype.itemsize,
        label="max_pool2d_gradient",
    )  # fmt: skip


class _Lines:
    """The loop over channels: vectors where all arrays have them side by side, else one by one."""

    def __init__(self, target: Target, channels: int, operands: tuple[Operand, ...]):
        self.channels = channels
        lanes = target.vector_bytes // max(4, *(o.dtype.itemsize for o in operands))
        while lanes > 1 and lanes // 2 >= channels:
            lanes //= 2
        self.width = lanes if all(o.strides[1] == 1 for o in operands) else 1

    @contextmanager
    def loop(self, f: Function) -> Iterator[tuple[Value, Value | None]]:
        """Run over all channels: (channel of lane 0, mask or None)."""
        with f.loop("channel", 0, self.channels, self.width) as channel:
            whole = self.channels % self.width == 0
            left = f.sub(f.index(self.channels), channel.index)
            yield channel.index, None if whole else f.mask_below(self.width, left)


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def _tiles(rows: int, elements: int) -> tuple[int, int]:
    """(tiles, rows in a tile)."""
    per_tile = max(1, min(TILE_ELEMENTS // max(1, elements), -(-rows // 8)))
    return (-(-rows // per_tile), per_tile) if elements else (0, 1)


def _rows(f: Function, rows: int, per_tile: int):
    start = f.mul(f.tile, f.index(per_tile))
    stop = f.minimum(f.add(start, f.index(per_tile)), f.index(rows))
    return f.loop("line", start, stop)


def _address(f: Function, pointer: Value, operand: Operand, at) -> Value:
    total = f.index(operand.offset)
    for i, stride in zip(at, operand.strides, strict=True):
        total = f.add(total, f.mul(i, f.index(stride)), "offset")
    return f.at(pointer, total, operand.dtype.llvm)


def _load(f: Function, pointer: Value, operand: Operand, at, width: int, mask) -> Value:
    """A vector of channels; narrow floats as float32, which holds each of them."""
    type = vector(width, operand.dtype.llvm)
    mask = mask if width > 1 else None
    x = f.load(_address(f, pointer, operand, at), type, mask=mask)
    return f.convert(x, "float") if element(type) in ("half", "bfloat") else x


def _store(f: Function, value: Value, pointer: Value, operand: Operand, at, mask) -> None:
    place = _address(f, pointer, operand, at)
    f.store(
        f.convert(value, operand.dtype.llvm), place, mask=mask if value.type[0] == "<" else None
    )


def _winner(f: Function, spec: PoolSpec, pointer: Value, x: Operand, at, width: int, mask):
    """(largest element, its place) of one window."""
    image, channel, row, column = at
    (top, _), (left, _) = spec.padding
    y = f.sub(f.mul(row, f.index(spec.stride[0])), f.index(top), "y")
    z = f.sub(f.mul(column, f.index(spec.stride[1])), f.index(left), "x")

    def candidate(i: Value, j: Value) -> tuple[Value, Value]:
        h = f.add(y, f.mul(i, f.index(spec.dilation[0])), "h")
        w = f.add(z, f.mul(j, f.index(spec.dilation[1])), "w")
        place = f.convert(f.add(f.mul(h, f.index(spec.shape[3])), w, "place"), "i32")
        value = _load(f, pointer, x, (image, channel, h, w), width, mask)
        return value, f.splat(place, width)

    def turn(best: Value, place: Value, i: Value, j: Value) -> tuple[Value, Value]:
        value, here = candidate(i, j)
        wins = better(f, value, best, x.dtype.kind == "i")
        return f.select(wins, value, best, "best"), f.select(wins, here, place, "place")

    if not spec.padded and len(spec.positions) <= UNROLLED:
        best, place = candidate(f.index(0), f.index(0))
        for i, j in spec.positions[1:]:
            best, place = turn(best, place, f.index(i), f.index(j))
        return best, place
    # only the part of the window inside the image; its first element is looked at twice
    i0, i1 = _inside(f, y, spec.kernel[0], spec.shape[2], spec.dilation[0])
    j0, j1 = _inside(f, z, spec.kernel[1], spec.shape[3], spec.dilation[1])
    with f.loop("i", i0, i1, carry=candidate(i0, j0)) as i:
        with f.loop("j", j0, j1, carry=i.carried) as j:
            best, place = j.carried
            j.next(*turn(best, place, i.index, j.index))
        i.next(*j.results)
    return i.results


def _inside(f: Function, start: Value, kernel: int, size: int, gap: int) -> tuple[Value, Value]:
    """The positions of a window that begins at `start` which lie inside the axis."""
    zero = f.index(0)
    first = f.maximum(zero, f.sub(zero, start))
    rest = f.sub(f.index(size), start)
    if gap > 1:
        first, rest = (f.div(f.add(n, f.index(gap - 1)), f.index(gap)) for n in (first, rest))
    return first, f.minimum(f.index(kernel), rest)


def _spread_windows(f: Function, spec: PoolSpec, p, operands, lines: _Lines, image, row) -> None:
    """Write the pixels of one row of windows; g where it won, 0 elsewhere."""
    _, _, height, width = spec.shape
    _, _, rows, columns = spec.out_shape
    sy, sx = spec.stride

    def pixels(column: Value, whole: bool, count_x: int, tall: int) -> None:
        g, index, out = operands
        with lines.loop(f) as (channel, mask):
            zero = f.const(vector(lines.width, _wide(g)), 0)
            at = (image, channel, row, column)
            cotangent = _load(f, p["g"], g, at, lines.width, mask) if whole else zero
            winner = _load(f, p["index"], index, at, lines.width, mask) if whole else zero
            for i in range(tall):
                h = f.add(f.mul(row, f.index(sy)), f.index(i), "h")
                for j in range(count_x):
                    w = f.add(f.mul(column, f.index(sx)), f.index(j), "w")
                    value = zero
                    if whole:
                        place = f.convert(f.add(f.mul(h, f.index(width)), w), "i32")
                        won = f.compare("eq", winner, f.splat(place, lines.width))
                        # 0 + g, as a sum begins: -0.0 becomes 0.0
                        value = f.add(zero, f.select(won, cotangent, zero))
                    _store(f, value, p["out"], out, (image, channel, h, w), mask)

    def line(inside: bool, tall: int) -> None:
        if inside:
            with f.loop("column", 0, columns) as column:
                pixels(column.index, True, sx, tall)
        else:
            with f.loop("column", 0, columns) as column:
                pixels(column.index, False, sx, tall)
        if width > columns * sx:
            pixels(f.index(columns), False, width - columns * sx, tall)

    if height == rows * sy:
        line(True, sy)
        return
    last = f.index(rows)
    with f.when(f.compare("lt", row, last)):
        line(True, sy)
    with f.when(f.compare("ge", row, last)):
        line(False, height - rows * sy)


def _wide(operand: Operand) -> str:
    """The type a number of the operand has in a register."""
    return "float" if operand.dtype.llvm in ("half", "bfloat") else operand.dtype.llvm


def _covering(f: Function, place: Value, before: int, reach: int, stride: int, windows: int):
    """[first, end) of the windows around the pixel: they begin at most reach - 1 before it."""
    at = f.add(place, f.index(before))
    late = f.maximum(f.index(0), f.sub(at, f.index(reach - 1)))
    first = f.div(f.add(late, f.index(stride - 1)), f.index(stride))
    end = f.add(f.div(at, f.index(stride)), f.index(1))
    return first, f.minimum(end, f.index(windows))


def _gather_pixels(f: Function, spec: PoolSpec, p, operands, lines: _Lines, image, row) -> None:
    """Write one row of the image, each pixel from all windows around it."""
    g, index, out = operands
    (top, _), (left, _) = spec.padding
    _, _, rows, columns = spec.out_shape
    width = spec.shape[3]
    y0, y1 = _covering(f, row, top, spec.reach[0], spec.stride[0], rows)
    with f.loop("pixel", 0, width) as pixel:
        place = f.convert(f.add(f.mul(row, f.index(width)), pixel.index), "i32")
        here = f.splat(place, lines.width)
        x0, x1 = _covering(f, pixel.index, left, spec.reach[1], spec.stride[1], columns)
        with lines.loop(f) as (channel, mask):
            zero = f.const(vector(lines.width, _wide(g)), 0)
            with f.loop("y", y0, y1, carry=[zero]) as y:
                with f.loop("x", x0, x1, carry=y.carried) as x:
                    at = (image, channel, y.index, x.index)
                    won = f.compare("eq", _load(f, p["index"], index, at, lines.width, mask), here)
                    cotangent = _load(f, p["g"], g, at, lines.width, mask)
                    x.next(f.add(x.carried[0], f.select(won, cotangent, zero)))
                y.next(*x.results)
            (total,) = y.results
            _store(f, total, p["out"], out, (image, channel, row, pixel.index), mask)
