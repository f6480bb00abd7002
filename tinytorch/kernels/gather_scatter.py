"""Picks elements, rows and slices at run-time places, adds them up there, or puts them.

Knows pointers, strides and indices, never graphs. Indices are checked before anything is written,
by `index_check`; negative ones count from the end. A tile goes through the indices in their order,
so equal indices are added in the same order whatever the threads do. Sums of float16 and bfloat16
are kept in float32, in memory of the thread, and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    Kernel,
    Operand,
    Pointers,
    address,
    ceil_div,
    lane_width,
    named_kernel,
    register_bytes,
    register_type,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.axis_ops import Line, over_lines

BLOCK = 4  # vectors of one tile of `scatter_add`: 256 bytes of each row on AVX-512
CHECKED = 8  # indices looked at together: 64-bit lanes of a 512-bit vector; others split it


def wrapped(f: Function, i: Value, operand: Operand, size: int) -> Value:
    """A loaded index as i64, negative ones counted from the end."""
    i = f.convert(i, "i64", signed=operand.dtype.kind == "i")
    return f.select(f.compare("lt", i, f.index(0)), f.add(i, f.index(size)), i)


def index_check(
    count: int, index: Operand, size: int, number: int, least: int | None = None
) -> Kernel:
    """The first index outside its axis stops the program; buffers "index" and "status".

    Args:
        count: how many indices, one after the other in memory.
        index: their type and offset; the stride is 1.
        size: of the axis: indices from `least` to size - 1 are good.
        number: what status word 0 becomes if one is bad (word 1: the first bad index).
        least: default -size.
    """
    least = -size if least is None else least
    llvm, signed = index.dtype.llvm, index.dtype.kind == "i"

    def body(f: Function, p: Pointers) -> None:
        base = f.at(p["index"], f.index(index.offset), llvm)

        def outside(at: Value, lanes: int, mask: Value | None = None) -> tuple[Value, Value]:
            """The indices from `at` on, and which of them are bad."""
            x = f.load(f.at(base, at, llvm), vector(lanes, llvm), mask=mask)
            x = f.convert(x, "i64", signed)
            low, high = f.const(x.type, least), f.const(x.type, size)
            bad = f.op("or", f.compare("lt", x, low), f.compare("ge", x, high))
            return x, bad if mask is None else f.op("and", bad, mask)

        whole = count // CHECKED * CHECKED
        none = f.const(vector(CHECKED, "i1"), 0)
        with f.loop("i", 0, whole, CHECKED, carry=[none]) as i:
            i.next(f.op("or", i.carried[0], outside(i.index, CHECKED)[1]))
        any_bad = i.results[0]
        if count % CHECKED:
            left = f.mask_below(CHECKED, f.index(count % CHECKED))
            any_bad = f.op("or", any_bad, outside(f.index(whole), CHECKED, left)[1])
        found = f.bitcast(any_bad, f"i{CHECKED}", "found")
        with f.when(f.compare("ne", found, f.const(found.type, 0)), "report"):
            with f.loop("j", 0, count, carry=[f.index(0), f.const("i1", 0)]) as j:
                x, bad = outside(j.index, 1)
                new = f.op("and", bad, f.opposite(j.carried[1]))
                j.next(f.select(new, x, j.carried[0]), f.op("or", bad, j.carried[1]))
            f.store(j.results[0], f.at(p["status"], f.index(1), "i64"))
            f.emit(f"store atomic i64 {number}, ptr {p['status'].text} release, align 8")

    return named_kernel(
        "index_check", ("index", "status"), body, tiles=1,
        bytes=count * index.dtype.itemsize, label="check indices",
    )  # fmt: skip


# ---- along one axis, line by line


def take_along(
    target: Target, beside: Sequence[int], count: int, size: int, x: Operand, index: Operand,
    out: Operand, steps: tuple[int, int, int],
) -> Kernel:  # fmt: skip
    """out[k] = x[index[k]] in every line; buffers "x", "index", "out".

    Args:
        beside: sizes of the other axes; x, index, out: strides over them.
        count: indices in a line; size: of the axis in x.
        steps: the axis's strides in x, index and out.
    """

    def body(line: Line) -> None:
        f, type = line.f, x.dtype.llvm
        with f.loop("k", 0, count) as k:
            i = line.load("index", f.mul(k.index, f.index(steps[1])))
            i = wrapped(f, i, index, size)
            value = f.load(line.at("x", f.mul(i, f.index(steps[0]))), type)
            f.store(value, line.at("out", f.mul(k.index, f.index(steps[2]))))

    total = prod(beside) * count
    return over_lines(
        "take_along", target, beside, {"x": x, "index": index, "out": out}, body,
        elements=4 * count, written=("out",), vectors=False,
        bytes=total * (2 * x.dtype.itemsize + index.dtype.itemsize),
    )  # fmt: skip


def scatter_along(
    target: Target, beside: Sequence[int], count: int, size: int, g: Operand, index: Operand,
    out: Operand, steps: tuple[int, int, int],
) -> Kernel:  # fmt: skip
    """out[index[k]] += g[k] from zero in every line; buffers "g", "index", "out".

    Args:
        beside: sizes of the other axes; g, index, out: strides over them.
        count: indices in a line; size: of the axis in out.
        steps: the axis's strides in g, index and out.
    """
    wide = register_type(g)
    narrow = wide != g.dtype.llvm

    def body(line: Line) -> None:
        f = line.f
        sums, step = (f.scratch, 1) if narrow else (line.starts["out"], steps[2])

        def place(i: Value) -> Value:
            return f.at(sums, f.mul(i, f.index(step)), wide)

        with f.loop("zero", 0, size) as z:
            f.store(f.const(wide, 0), place(z.index))
        with f.loop("k", 0, count) as k:
            i = line.load("index", f.mul(k.index, f.index(steps[1])))
            to = place(wrapped(f, i, index, size))
            value = line.load("g", f.mul(k.index, f.index(steps[0])))
            f.store(f.add(f.load(to, wide), value), to)
        if narrow:
            with f.loop("i", 0, size) as i:
                line.store(f.load(place(i.index), wide), "out", f.mul(i.index, f.index(steps[2])))

    total = prod(beside)
    return over_lines(
        "scatter_along", target, beside, {"g": g, "index": index, "out": out}, body,
        elements=4 * count + size, written=("out",), vectors=False,
        scratch=4 * size if narrow else 0,
        flops=total * count,
        bytes=total * (count * (g.dtype.itemsize + index.dtype.itemsize) + size * g.dtype.itemsize),
    )  # fmt: skip


def place_at(
    target: Target, beside: Sequence[int], sizes: Sequence[int], length: int, y: Operand,
    out: Operand, steps: tuple[int, int], strides: Sequence[int], start: Operand,
) -> Kernel:  # fmt: skip
    """Write y into out from a position known at run time; buffers "y", "out", "start".

    Args:
        beside: sizes of all axes of y but the one of the lines; y, out: strides over them.
        sizes: of out.
        length: of a line of y; steps: its axis's strides in y and out.
        strides: of out over all its axes; start: the position, int64, stride over it.
    """

    def body(line: Line) -> None:
        f, type = line.f, vector(line.width, y.dtype.llvm)
        shift = f.index(0)
        for axis, (n, stride) in enumerate(zip(sizes, strides, strict=True)):
            if n > 1:
                i = f.load(line.at("start", f.index(axis * start.strides[0])), "i64")
                shift = f.add(shift, f.mul(wrapped(f, i, start, n), f.index(stride)))
        with f.loop("k", 0, length) as k:
            from_ = line.at("y", f.mul(k.index, f.index(steps[0])))
            value = f.load(from_, type, mask=line.mask)
            to = line.at("out", f.add(shift, f.mul(k.index, f.index(steps[1]))))
            f.store(value, to, mask=line.mask)

    total = prod(beside) * length
    return over_lines(
        "slice_update", target, beside, {"y": y, "out": out}, body, elements=length,
        written=("y", "out"), given={"start": start},
        bytes=2 * total * y.dtype.itemsize,
    )  # fmt: skip


# ---- rows of a table: a tile owns some columns of the whole table


class _Columns:
    """The columns of one tile: `vectors` vectors of `lanes`, those past the end masked off."""

    def __init__(self, f: Function, number: Value, columns: int, lanes: int, vectors: int = 1):
        start = f.mul(number, f.index(lanes * vectors))
        self.f, self.lanes = f, lanes
        self.spots = [f.add(start, f.index(i * lanes)) for i in range(vectors)]
        whole = columns % (lanes * vectors) == 0
        self.masks = [
            None if whole else f.mask_below(lanes, f.sub(f.index(columns), spot))
            for spot in self.spots
        ]

    def at(self, pointer: Value, operand: Operand, row: Value, spot: int) -> Value:
        """The address of a vector in a row of an operand with strides (rows, columns)."""
        return address(self.f, pointer, operand, (row, self.spots[spot]))


def _row_number(f: Function, pointer: Value, index: Operand, r: Value, size: int) -> Value:
    """The r-th index."""
    i = f.load(address(f, pointer, index, (r,)), index.dtype.llvm)
    return wrapped(f, i, index, size)


def scatter_add(
    target: Target, before: int, rows: int, size: int, columns: int, g: Operand, index: Operand,
    out: Operand,
) -> Kernel:  # fmt: skip
    """out[b, index[r]] += g[b, r] from zero; buffers "g", "index", "out".

    Args:
        before: tables beside each other; rows: indices; size: rows of a table; columns: length of
            a row.
        g: strides over (before, rows, columns); index: over (rows,); out: over
            (before, size, columns).
    """
    llvm, wide = g.dtype.llvm, register_type(g)
    narrow = llvm != wide
    side_by_side = g.strides[2] == out.strides[2] == 1
    lanes = lane_width(target, register_bytes(g)) if side_by_side else 1
    vectors = 1 if narrow or not side_by_side else BLOCK
    block = lanes * vectors
    blocks = ceil_div(columns, block)

    def body(f: Function, p: Pointers) -> None:
        part = _Columns(f, f.rem(f.tile, f.index(blocks)), columns, lanes, vectors)
        number = f.div(f.tile, f.index(blocks))
        nothing = f.index(0)
        table, source = (
            address(f, p[name], o, (number, nothing, nothing))
            for name, o in (("out", out), ("g", g))
        )
        in_table, in_source = (Operand(o.dtype, o.strides[1:]) for o in (out, g))

        def sums(row: Value, spot: int) -> Value:
            """The address of a vector of sums."""
            if narrow:
                return f.at(f.scratch, f.mul(row, f.index(block)), wide)
            return part.at(table, in_table, row, spot)

        type = vector(lanes, wide)
        with f.loop("zero", 0, size) as z:
            for s, m in enumerate(part.masks):
                f.store(f.const(type, 0), sums(z.index, s), mask=m)
        with f.loop("row", 0, rows) as r:
            i = _row_number(f, p["index"], index, r.index, size)
            for s, m in enumerate(part.masks):
                new = f.load(part.at(source, in_source, r.index, s), vector(lanes, llvm), mask=m)
                to = sums(i, s)
                f.store(f.add(f.load(to, type, mask=m), f.convert(new, wide)), to, mask=m)
        if narrow:
            with f.loop("round", 0, size) as i:
                total = f.load(sums(i.index, 0), type, mask=part.masks[0])
                to = part.at(table, in_table, i.index, 0)
                f.store(f.convert(total, llvm), to, mask=part.masks[0])

    moved = (3 * rows + size) * before * columns * g.dtype.itemsize
    return named_kernel(
        "scatter_add", ("g", "index", "out"), body, tiles=before * blocks,
        scratch=size * block * 4 if narrow else 0, flops=before * rows * columns, bytes=moved,
        label="scatter_add",
    )  # fmt: skip


def put_rows(
    target: Target, rows: int, size: int, columns: int, y: Operand, index: Operand, out: Operand
) -> Kernel:
    """out[index[r]] = y[r], the last of equal indices last; buffers "y", "index", "out".

    Args:
        rows: indices; size: rows of the table; columns: length of a row.
        y: strides over (rows, columns); index: over (rows,); out: over (size, columns).
    """
    side_by_side = y.strides[1] == out.strides[1] == 1
    lanes = lane_width(target, y.dtype.itemsize) if side_by_side else 1

    def body(f: Function, p: Pointers) -> None:
        part = _Columns(f, f.tile, columns, lanes)
        with f.loop("row", 0, rows) as r:
            i = _row_number(f, p["index"], index, r.index, size)
            from_ = part.at(p["y"], y, r.index, 0)
            new = f.load(from_, vector(lanes, y.dtype.llvm), mask=part.masks[0])
            f.store(new, part.at(p["out"], out, i, 0), mask=part.masks[0])

    return named_kernel(
        "put_rows", ("y", "index", "out"), body, tiles=ceil_div(columns, lanes),
        bytes=2 * rows * columns * y.dtype.itemsize, label="put_rows",
    )  # fmt: skip
