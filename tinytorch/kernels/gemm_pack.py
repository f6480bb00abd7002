"""Packs the operands of a matrix product: each strip to its place, whole operands as kernels.

Knows which strips there are and where they go; how one strip is copied belongs to the arithmetic.
"""

from __future__ import annotations

from math import ceil, prod

from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Kernel, Operand, offset_of
from tinytorch.kernels.gemm_plan import Split
from tinytorch.kernels.naming import named_kernel
from tinytorch.kernels.tiling import run_of, start_of, unravel

# A packing tile copies about this many numbers: 20 us at one a cycle.
PACKED_AT_ONCE = 65536
# Rows that lie apart are copied this many at a time, all their strips: each touches another page,
# and the first-level address cache holds 96.
ROWS_AT_ONCE = 64


def pack_kernel(nest, side: str) -> tuple[Kernel, int]:
    """A kernel that copies a whole operand, and the bytes it fills.

    Its tiles are (matrix, group of strips, stretch of the summed axis).
    """
    plan, spec = nest.plan, nest.spec
    operand: Operand = getattr(spec, side)
    packed = nest.arithmetic.packed
    count = plan.panels if side == "b" else plan.blocks.parts
    groups, stretches, length, turn = shares(nest, side, count)
    axes = [n for n, s in zip(spec.batch, operand.strides, strict=False) if s]
    flat = Operand(operand.dtype, tuple(s for s in operand.strides[:-2] if s), operand.offset)

    def body(f: Function, pointers) -> None:
        matrix, group, stretch = unravel(f, f.tile, (prod(axes), groups.parts, stretches))
        source = offset_of(f, flat, unravel(f, matrix, axes))
        source = f.at(pointers[side], source, operand.dtype.llvm)
        out = f.mul(matrix, f.index(nest.packed_size(side)))
        out = f.at(pointers["packed"], out, packed.llvm)
        first = f.mul(stretch, f.index(length))
        end = f.minimum(f.add(first, f.index(length)), f.index(spec.k))
        with f.loop("k0", first, end, turn) as k0:
            depth = f.minimum(f.sub(end, k0.index), f.index(turn))
            with run_of(f, groups, group, "strip") as strip:
                emit_strip(
                    nest, f, side, source, strip.index, k0.index, depth, out, nest.depth, None,
                    k0.index,
                )  # fmt: skip

    size = ceil(nest.packed_size(side) * prod(axes) * packed.itemsize / 64) * 64
    read = spec.k * prod(axes) * (spec.n if side == "b" else spec.m) * operand.dtype.itemsize
    kernel = named_kernel(
        f"pack_{side}", (side, "packed"), body,
        tiles=prod(axes) * groups.parts * stretches, bytes=read + size,
        label=f"pack {side} of {spec.m}x{spec.k}x{spec.n}",
    )  # fmt: skip
    return kernel, size


def shares(nest, side: str, count: int) -> tuple[Split, int, int, int]:
    """How packing is shared: groups of strips, stretches, length of one, and k copied at a turn."""
    plan, k = nest.plan, nest.spec.k
    width = plan.width if side == "b" else plan.stride_a
    parts = max(1, round(count * width * k / PACKED_AT_ONCE))
    if nest.strips[side].lane_stride != 1:
        return Split(count, min(count, parts)), 1, max(k, 1), max(k, 1)
    length = max(ceil(k / parts / ROWS_AT_ONCE), 1) * ROWS_AT_ONCE
    stretches = max(1, ceil(k / length))
    return Split(count, min(count, ceil(parts / stretches))), stretches, length, ROWS_AT_ONCE


def emit_strip(
    nest, f: Function, side, source, strip, k0, depth, out, room, first, along=None
) -> None:
    """Pack one panel (b) or one block of rows (a) into its place behind `out`.

    Args:
        nest: the product; `side` "a" or "b", `strip` the number of the block or panel.
        source: where the operand's matrix begins; `k0`, `depth` say which stretch of it to read.
        out, room: where the strips go, and the depth that each has room for.
        first: the strip that lies first in `out`, or None for the operand's first.
        along: k at which to begin within the strip's place, or None for its begin.
    """
    plan, packed = nest.plan, nest.arithmetic.packed.llvm
    width = plan.width if side == "b" else plan.stride_a
    here: Value = strip if first is None else f.sub(strip, first)
    out = f.at(out, f.mul(here, f.index(room * width)), packed, "packed")

    def pack(lane: Value, width: int, whole: bool) -> None:
        place = out if along is None else f.at(out, f.mul(along, f.index(width)), packed, "packed")
        nest.arithmetic.emit_pack(
            f, side, nest.strips[side], source, lane, k0, depth, place, width, whole, nest.deep
        )

    if side == "a":
        pack(start_of(f, plan.blocks, strip), width, False)
        return
    column = f.mul(strip, f.index(width))
    if nest.tail_vectors == plan.vectors:
        pack(column, width, nest.tail == plan.width)
        return
    last = f.compare("eq", strip, f.index(plan.panels - 1))
    with f.when(f.op("xor", last, f.const("i1", 1))):
        pack(column, width, True)
    with f.when(last):
        pack(column, nest.tail_vectors * plan.lanes, False)
