"""Adds rows up in a table, or puts them there, at run-time places: gradient and step of a table.

Knows pointers and strides, never graphs. A tile owns some columns of the whole table and goes
through the rows in their order, so equal indices are added in the same order whatever the threads
do. Sums of float16 and bfloat16 are kept in float32, in memory of the thread, and rounded once.
"""

from __future__ import annotations

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.along import wrapped
from tinytorch.kernels.lines import register
from tinytorch.kernels.naming import named_kernel

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
