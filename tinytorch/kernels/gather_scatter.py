"""Adds rows up in a table, or puts them there, at run-time places: gradient and step of a table.

Knows pointers and strides, never graphs. A tile owns some columns of the whole table and goes
through the rows in their order, so equal indices are added in the same order whatever the threads
do. Sums of float16 and bfloat16 are kept in float32, in memory of the thread, and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.axis_ops import Line, over_lines, register
from tinytorch.kernels.blocking import named_kernel


def wrapped(f: Function, i: Value, operand: Operand, size: int) -> Value:
    """A loaded index as i64, negative ones counted from the end."""
    i = f.convert(i, "i64", signed=operand.dtype.kind == "i")
    return f.select(f.compare("lt", i, f.index(0)), f.add(i, f.index(size)), i)


BLOCK = 4  # vectors of one tile: 256 bytes of each row on AVX-512


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
    llvm, wide = g.dtype.llvm, register(g)
    narrow = llvm != wide
    side_by_side = g.strides[2] == out.strides[2] == 1
    lanes = target.vector_bytes // max(4, g.dtype.itemsize) if side_by_side else 1
    vectors = 1 if narrow or not side_by_side else BLOCK
    block = lanes * vectors
    blocks = -(-columns // block)

    def body(f: Function, p) -> None:
        start = f.mul(f.rem(f.tile, f.index(blocks)), f.index(block))
        table_number = f.div(f.tile, f.index(blocks))
        spots = [f.add(start, f.index(i * lanes)) for i in range(vectors)]
        masks = [
            None if columns % block == 0 else f.mask_below(lanes, f.sub(f.index(columns), s))
            for s in spots
        ]
        table = _start(f, p["out"], out, table_number)
        source = _start(f, p["g"], g, table_number)

        def sums(row: Value, spot: int) -> Value:
            """The address of a vector of sums."""
            if narrow:
                return f.at(f.scratch, f.mul(row, f.index(block)), wide)
            return element(table, out, row, spot)

        def element(base: Value, operand: Operand, row: Value, spot: int) -> Value:
            column = f.mul(spots[spot], f.index(operand.strides[2]))
            return f.at(base, f.add(f.mul(row, f.index(operand.strides[1])), column), llvm)

        type = vector(lanes, wide)
        with f.loop("zero", 0, size) as z:
            for s, m in enumerate(masks):
                f.store(f.const(type, 0), sums(z.index, s), mask=m)
        with f.loop("row", 0, rows) as r:
            place = f.add(f.mul(r.index, f.index(index.strides[0])), f.index(index.offset))
            i = f.load(f.at(p["index"], place, index.dtype.llvm), index.dtype.llvm)
            i = wrapped(f, i, index, size)
            for s, m in enumerate(masks):
                new = f.load(element(source, g, r.index, s), vector(lanes, llvm), mask=m)
                to = sums(i, s)
                f.store(f.add(f.load(to, type, mask=m), f.convert(new, wide)), to, mask=m)
        if narrow:
            with f.loop("round", 0, size) as i:
                total = f.load(sums(i.index, 0), type, mask=masks[0])
                f.store(f.convert(total, llvm), element(table, out, i.index, 0), mask=masks[0])

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
    llvm = y.dtype.llvm
    lanes = target.vector_bytes // y.dtype.itemsize if y.strides[1] == out.strides[1] == 1 else 1
    blocks = -(-columns // lanes)

    def body(f: Function, p) -> None:
        column = f.mul(f.tile, f.index(lanes))
        mask = (
            None if columns % lanes == 0 else f.mask_below(lanes, f.sub(f.index(columns), column))
        )

        def element(name: str, operand: Operand, row: Value) -> Value:
            across = f.add(f.mul(column, f.index(operand.strides[1])), f.index(operand.offset))
            down = f.mul(row, f.index(operand.strides[0]))
            return f.at(p[name], f.add(down, across), llvm)

        with f.loop("row", 0, rows) as r:
            place = f.add(f.mul(r.index, f.index(index.strides[0])), f.index(index.offset))
            i = f.load(f.at(p["index"], place, index.dtype.llvm), index.dtype.llvm)
            i = wrapped(f, i, index, size)
            new = f.load(element("y", y, r.index), vector(lanes, llvm), mask=mask)
            f.store(new, element("out", out, i), mask=mask)

    return named_kernel(
        "put_rows", ("y", "index", "out"), body, tiles=blocks, flops=0,
        bytes=2 * rows * columns * y.dtype.itemsize, label="put_rows",
    )  # fmt: skip


def _start(f: Function, pointer: Value, operand: Operand, table: Value) -> Value:
    offset = f.add(f.index(operand.offset), f.mul(table, f.index(operand.strides[0])))
    return f.at(pointer, offset, operand.dtype.llvm)


# MERGED tinytorch.kernels.gather_scatter: Looks at indices before anything is written: the
# first one outside its axis stops the program.
#
# Knows integers and the status words, never graphs.

WIDTH = 8  # 64-bit lanes of a 512-bit vector; narrower targets split it


def index_check(count: int, index: Operand, size: int, number: int) -> Kernel:
    """The kernel over buffers "index" and "status".

    Args:
        count: how many indices, one after the other in memory.
        index: their type and offset; the stride is 1.
        size: of the axis: indices from -size to size - 1 are good.
        number: what status word 0 becomes if one is bad (word 1: the first bad index).
    """
    llvm, signed = index.dtype.llvm, index.dtype.kind == "i"

    def body(f: Function, p) -> None:
        base = f.at(p["index"], f.index(index.offset), llvm)
        type = f"<{WIDTH} x i64>"
        low, high = f.const(type, -size), f.const(type, size)

        def bad(mask, at):
            x = f.load(f.at(base, at, llvm), f"<{WIDTH} x {llvm}>", mask=mask)
            x = f.convert(x, "i64", signed)
            outside = f.op("or", f.compare("lt", x, low), f.compare("ge", x, high))
            return outside if mask is None else f.op("and", outside, mask)

        whole = count // WIDTH * WIDTH
        with f.loop("i", 0, whole, WIDTH, carry=[f.const(f"<{WIDTH} x i1>", 0)]) as i:
            i.next(f.op("or", i.carried[0], bad(None, i.index)))
        (any_bad,) = i.results
        if count % WIDTH:
            left = f.mask_below(WIDTH, f.index(count % WIDTH))
            any_bad = f.op("or", any_bad, bad(left, f.index(whole)))
        found = f.define("i8", f"bitcast <{WIDTH} x i1> {any_bad.text} to i8", "found")
        with f.when(f.compare("ne", found, f.const("i8", 0)), "report"):
            with f.loop("j", 0, count, carry=[f.index(0), f.const("i1", 0)]) as j:
                x = f.convert(f.load(f.at(base, j.index, llvm), llvm), "i64", signed)
                outside = f.op(
                    "or", f.compare("lt", x, f.index(-size)), f.compare("ge", x, f.index(size))
                )
                new = f.op("and", outside, f.op("xor", j.carried[1], f.const("i1", 1)))
                j.next(f.select(new, x, j.carried[0]), f.op("or", outside, j.carried[1]))
            f.store(j.results[0], f.at(p["status"], f.index(1), "i64"))
            f.emit(f"store atomic i64 {number}, ptr {p['status'].text} release, align 8")

    return named_kernel(
        "index_check", ("index", "status"), body, tiles=1, flops=0,
        bytes=count * index.dtype.itemsize, label="check indices",
    )  # fmt: skip


def take_along(
    target: Target, beside: Sequence[int], count: int, size: int, x: Operand, index: Operand,
    out: Operand, steps: tuple[int, int, int],
) -> Kernel:  # fmt: skip
    """out[k] = x[index[k]] in every line; buffers "x", "index", "out".

    Args:
        count: indices in a line; size: of the axis in x.
        steps: the axis's strides in x, index and out.
    """

    def body(line: Line) -> None:
        f = line.f
        with f.loop("k", 0, count) as k:
            i = line.load("index", f.mul(k.index, f.index(steps[1])))
            i = wrapped(f, i, index, size)
            type = x.dtype.llvm
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
        count: indices in a line; size: of the axis in out.
        steps: the axis's strides in g, index and out.
    """
    wide = register(g)
    narrow = wide != g.dtype.llvm

    def body(line: Line) -> None:
        f = line.f
        sums, step = (line.scratch, 1) if narrow else (line.starts["out"], steps[2])

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
        f = line.f
        shift = f.index(0)
        for axis, (n, stride) in enumerate(zip(sizes, strides, strict=True)):
            if n > 1:
                i = f.load(line.at("start", f.index(axis * start.strides[0])), "i64")
                i = f.select(f.compare("lt", i, f.index(0)), f.add(i, f.index(n)), i)
                shift = f.add(shift, f.mul(i, f.index(stride)))
        with f.loop("k", 0, length) as k:
            value = f.load(
                line.at("y", f.mul(k.index, f.index(steps[0]))), vector(line.width, y.dtype.llvm),
                mask=line.mask,
            )  # fmt: skip
            to = line.at("out", f.add(shift, f.mul(k.index, f.index(steps[1]))))
            f.store(value, to, mask=line.mask)

    total = prod(beside) * length
    return over_lines(
        "slice_update", target, beside, {"y": y, "out": out}, body, elements=length,
        written=("y", "out"), given={"start": start},
        bytes=2 * total * y.dtype.itemsize,
    )  # fmt: skip
