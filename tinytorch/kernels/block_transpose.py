"""Copies of strided rows into dense scratch, transposed or as they are.

Knows pointers, strides and vectors; never tensors. Rows beyond the end are read as the last row, so
blocks may be ragged: what comes of such rows is for the caller to drop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinytorch.codegen.builder import Function, Value, lanes, vector

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
