"""Adds rows up in a table at run-time places: the gradient of an embedding.

Knows pointers and strides, never graphs. A tile owns some columns of the whole table and goes through
the rows in their order, so equal indices are added in the same order whatever the threads do.
"""

from __future__ import annotations

from tinytorch.codegen.builder import Function, vector
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.naming import named_kernel

BLOCK = 4  # vectors of one tile: 256 bytes of each row on AVX-512


def scatter_add(
    target: Target, rows: int, size: int, columns: int, g: Operand, index: Operand, out: Operand
) -> Kernel:
    """out[index[r]] += g[r] from zero; buffers "g", "index", "out".

    Args:
        rows: indices; size: rows of the table; columns: length of a row.
        g: strides over (rows, columns), the second 1; index: stride over (rows,); out: over
            (size, columns), the second 1. All float32 or all float64 but the index.
    """
    llvm, lanes = g.dtype.llvm, target.vector_bytes // g.dtype.itemsize
    wide = vector(lanes, llvm)
    block = lanes * BLOCK

    def body(f: Function, p) -> None:
        start = f.mul(f.tile, f.index(block))
        spots = [f.add(start, f.index(i * lanes)) for i in range(BLOCK)]
        masks = [
            None if columns % block == 0 else f.mask_below(lanes, f.sub(f.index(columns), s)) for s in spots
        ]
        table, source = f.at(p["out"], f.index(out.offset), llvm), f.at(p["g"], f.index(g.offset), llvm)
        with f.loop("zero", 0, size) as z:
            row = f.at(table, f.mul(z.index, f.index(out.strides[0])), llvm)
            for s, m in zip(spots, masks, strict=True):
                f.store(f.const(wide, 0), f.at(row, s, llvm), mask=m)
        with f.loop("row", 0, rows) as r:
            place = f.add(f.mul(r.index, f.index(index.strides[0])), f.index(index.offset))
            i = f.load(f.at(p["index"], place, index.dtype.llvm), index.dtype.llvm)
            i = f.convert(i, "i64", signed=index.dtype.kind == "i")
            i = f.select(f.compare("lt", i, f.index(0)), f.add(i, f.index(size)), i)
            to = f.at(table, f.mul(i, f.index(out.strides[0])), llvm)
            of = f.at(source, f.mul(r.index, f.index(g.strides[0])), llvm)
            for s, m in zip(spots, masks, strict=True):
                new = f.load(f.at(of, s, llvm), wide, mask=m)
                old = f.load(f.at(to, s, llvm), wide, mask=m)
                f.store(f.add(old, new), f.at(to, s, llvm), mask=m)

    moved = (3 * rows + size) * columns * g.dtype.itemsize
    return named_kernel(
        "scatter_add", ("g", "index", "out"), body, tiles=-(-columns // block), flops=rows * columns,
        bytes=moved, label="scatter_add",
    )  # fmt: skip
