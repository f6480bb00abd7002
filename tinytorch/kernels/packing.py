"""Copies a strip of a matrix into the order in which a micro-kernel reads it.

Knows one strip: `lanes` (rows of a, or columns of b) by `depth` (the summed axis), any strides, any
float type. It becomes `out[k][lane]`, contiguous, in the type that is computed with. Lanes past the
end are filled with copies or zeros: whoever reads them ignores their results.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.kernels.block_transpose import transpose


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
