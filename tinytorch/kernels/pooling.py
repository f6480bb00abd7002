"""Max pooling of images and its gradient, channels in the lanes of a vector.

Knows pointers and strides over (N, C, H, W), never graphs. The first of equal elements wins, a NaN
wins over everything, padding never wins. The gradient is pulled: each pixel of the image looks at
the windows that cover it, in their order, so nothing is written twice and tiles are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

from tinytorch.base.dtypes import int32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    Kernel,
    NeededRows,
    Operand,
    Pointers,
    Shares,
    address,
    lane_width,
    lengths_of,
    named_kernel,
    register_bytes,
    register_type,
    unravel,
    where_needed,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.axis_ops import better

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
        needed: which pictures are, default all; others are left out.
    """

    shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int] = (1, 1)
    needed: NeededRows = ()

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
    _, c, rows, columns = spec.out_shape
    writer = _Pooling(target, spec, {"x": x, "out": out, "index": index})
    count = prod(spec.out_shape)
    return writer.kernel(
        "max_pool2d", rows, c * columns * len(spec.positions), writer.winners,
        flops=count * len(spec.positions),
        bytes=prod(spec.shape) * x.dtype.itemsize + count * (out.dtype.itemsize + int32.itemsize),
    )  # fmt: skip


def max_pool_gradient(
    target: Target, spec: PoolSpec, g: Operand, index: Operand, out: Operand
) -> Kernel:
    """For each pixel the sum of g over the windows it won; buffers "g", "index", "out".

    Args:
        g, index (int32): strides over spec.out_shape; out: over spec.shape.
    """
    writer = _Pooling(target, spec, {"g": g, "index": index, "out": out})
    _, c, height, width = spec.shape
    # where each pixel lies in one window, a window writes all its pixels; else pixels look around
    tall = spec.stride[0] if spec.tiled else 1
    rows, write = -(-height // tall), writer.spread if spec.tiled else writer.gather
    small = prod(spec.out_shape) * (g.dtype.itemsize + int32.itemsize)
    return writer.kernel(
        "max_pool2d_gradient", rows, 3 * c * width * tall, write,
        flops=prod(spec.out_shape), bytes=small + prod(spec.shape) * out.dtype.itemsize,
    )  # fmt: skip


Place = tuple[Value, Value, Value, Value]  # image, channel, row, column


class _Pooling:
    """Writes one kernel: a unit of work is a row of an image, channels lie in lanes where they can.

    Args:
        operands: the buffers' layouts over (N, C, rows, columns), in the kernel's order.
    """

    f: Function  # set while the code is written, with the buffers
    p: Pointers

    def __init__(self, target: Target, spec: PoolSpec, operands: Mapping[str, Operand]):
        self.spec, self.operands = spec, operands
        lanes = lane_width(target, register_bytes(*operands.values()), spec.shape[1])
        self.width = lanes if all(o.strides[1] == 1 for o in operands.values()) else 1

    def kernel(
        self, kind: str, rows: int, cost: int, write: Callable[[Value, Value], None], flops: int,
        bytes: int,
    ) -> Kernel:  # fmt: skip
        """The kernel that writes all rows of all images; cost: elements looked at for a row."""
        images = self.spec.shape[0]
        shares = Shares.of(images * rows if cost else 0, cost)
        needed = tuple(pictures.each(rows) for pictures in self.spec.needed)

        def body(f: Function, p: Pointers) -> None:
            self.f, self.p = f, p
            with shares.loop(f, "line") as line, where_needed(f, p, needed, line.index, 1):
                write(*unravel(f, line.index, (images, rows)))

        return named_kernel(
            kind, (*self.operands, *lengths_of(needed)), body, tiles=shares.tiles, flops=flops,
            bytes=bytes, label=kind,
        )  # fmt: skip

    @contextmanager
    def channels(self) -> Generator[tuple[Value, Value | None], None, None]:
        """Run over all channels: (channel of lane 0, mask or None)."""
        f, count = self.f, self.spec.shape[1]
        with f.loop("channel", 0, count, self.width) as channel:
            whole = count % self.width == 0
            left = f.sub(f.index(count), channel.index)
            yield channel.index, None if whole else f.mask_below(self.width, left)

    def load(self, name: str, at: Place, mask: Value | None) -> Value:
        """A vector of channels; narrow floats as float32, which holds each of them."""
        operand = self.operands[name]
        place = address(self.f, self.p[name], operand, at)
        mask = mask if self.width > 1 else None
        x = self.f.load(place, vector(self.width, operand.dtype.llvm), mask=mask)
        return self.f.convert(x, register_type(operand))

    def store(self, value: Value, name: str, at: Place, mask: Value | None) -> None:
        """Write a vector of channels."""
        operand = self.operands[name]
        place = address(self.f, self.p[name], operand, at)
        mask = mask if self.width > 1 else None
        self.f.store(self.f.convert(value, operand.dtype.llvm), place, mask=mask)

    def zero(self, name: str) -> Value:
        """0 in every channel, as a number of the operand is in a register."""
        return self.f.const(vector(self.width, register_type(self.operands[name])), 0)

    def winners(self, image: Value, row: Value) -> None:
        """Write the winners of one row of windows."""
        with (
            self.f.loop("column", 0, self.spec.out_shape[3]) as column,
            self.channels() as (channel, mask),
        ):
            at = (image, channel, row, column.index)
            best, place = self._winner(at, mask)
            self.store(best, "out", at, mask)
            self.store(place, "index", at, mask)

    def _winner(self, at: Place, mask: Value | None) -> Sequence[Value]:
        """(largest element, its place) of one window."""
        f, spec = self.f, self.spec
        image, channel, row, column = at
        (top, _), (left, _) = spec.padding
        y = f.sub(f.mul(row, f.index(spec.stride[0])), f.index(top), "y")
        z = f.sub(f.mul(column, f.index(spec.stride[1])), f.index(left), "x")

        def candidate(i: Value, j: Value) -> tuple[Value, Value]:
            h = f.add(y, f.mul(i, f.index(spec.dilation[0])), "h")
            w = f.add(z, f.mul(j, f.index(spec.dilation[1])), "w")
            place = f.convert(f.add(f.mul(h, f.index(spec.shape[3])), w, "place"), "i32")
            value = self.load("x", (image, channel, h, w), mask)
            return value, f.splat(place, self.width)

        def turn(best: Value, place: Value, i: Value, j: Value) -> tuple[Value, Value]:
            value, here = candidate(i, j)
            wins = better(f, value, best, self.operands["x"].dtype.kind == "i")
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

    def spread(self, image: Value, row: Value) -> None:
        """Write the pixels of one row of windows; g where it won, 0 elsewhere."""
        f, (_, _, height, width) = self.f, self.spec.shape
        (_, _, rows, columns), (sy, sx) = self.spec.out_shape, self.spec.stride

        def line(inside: bool, tall: int) -> None:
            with f.loop("column", 0, columns) as column:
                self._pixels((image, row, column.index), inside, tall, sx)
            if width > columns * sx:
                self._pixels((image, row, f.index(columns)), False, tall, width - columns * sx)

        if height == rows * sy:
            line(True, sy)
            return
        last = f.index(rows)
        with f.when(f.compare("lt", row, last)):
            line(True, sy)
        with f.when(f.compare("ge", row, last)):
            line(False, height - rows * sy)

    def _pixels(
        self, window: tuple[Value, Value, Value], inside: bool, tall: int, wide: int
    ) -> None:
        """Write the pixels under a window (image, row, column), or, not inside, behind the last."""
        f, (sy, sx), zero = self.f, self.spec.stride, self.zero("g")
        image, row, column = window
        with self.channels() as (channel, mask):
            at = (image, channel, row, column)
            cotangent = self.load("g", at, mask) if inside else zero
            winner = self.load("index", at, mask) if inside else zero
            for i in range(tall):
                h = f.add(f.mul(row, f.index(sy)), f.index(i), "h")
                for j in range(wide):
                    w = f.add(f.mul(column, f.index(sx)), f.index(j), "w")
                    value = zero
                    if inside:
                        place = f.add(f.mul(h, f.index(self.spec.shape[3])), w)
                        place = f.splat(f.convert(place, "i32"), self.width)
                        won = f.compare("eq", winner, place)
                        # 0 + g, as a sum begins: -0.0 becomes 0.0
                        value = f.add(zero, f.select(won, cotangent, zero))
                    self.store(value, "out", (image, channel, h, w), mask)

    def gather(self, image: Value, row: Value) -> None:
        """Write one row of the image, each pixel from all windows around it."""
        f, spec, zero = self.f, self.spec, self.zero("g")
        (top, _), (left, _) = spec.padding
        _, _, rows, columns = spec.out_shape
        width = spec.shape[3]
        y0, y1 = _covering(f, row, top, spec.reach[0], spec.stride[0], rows)
        with f.loop("pixel", 0, width) as pixel:
            place = f.convert(f.add(f.mul(row, f.index(width)), pixel.index), "i32")
            here = f.splat(place, self.width)
            x0, x1 = _covering(f, pixel.index, left, spec.reach[1], spec.stride[1], columns)
            with self.channels() as (channel, mask):
                with f.loop("y", y0, y1, carry=[zero]) as y:
                    with f.loop("x", x0, x1, carry=y.carried) as x:
                        at = (image, channel, y.index, x.index)
                        won = f.compare("eq", self.load("index", at, mask), here)
                        cotangent = self.load("g", at, mask)
                        x.next(f.add(x.carried[0], f.select(won, cotangent, zero)))
                    y.next(*x.results)
                self.store(y.results[0], "out", (image, channel, row, pixel.index), mask)


def _inside(f: Function, start: Value, kernel: int, size: int, gap: int) -> tuple[Value, Value]:
    """The positions of a window that begins at `start` which lie inside the axis."""
    zero = f.index(0)
    first = f.maximum(zero, f.sub(zero, start))
    rest = f.sub(f.index(size), start)
    if gap > 1:
        first, rest = (f.div(f.add(n, f.index(gap - 1)), f.index(gap)) for n in (first, rest))
    return first, f.minimum(f.index(kernel), rest)


def _covering(
    f: Function, place: Value, before: int, reach: int, stride: int, windows: int
) -> tuple[Value, Value]:
    """[first, end) of the windows around the pixel: they begin at most reach - 1 before it."""
    at = f.add(place, f.index(before))
    late = f.maximum(f.index(0), f.sub(at, f.index(reach - 1)))
    first = f.div(f.add(late, f.index(stride - 1)), f.index(stride))
    end = f.add(f.div(at, f.index(stride)), f.index(1))
    return first, f.minimum(end, f.index(windows))
