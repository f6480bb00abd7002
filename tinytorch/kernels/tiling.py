"""Small pieces that loop nests over tiles share: runs of a split, batch indices, finished sums.

Knows loops and indices, not what is computed in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Loop, Value, vector
from tinytorch.codegen.kernel import Epilogue
from tinytorch.kernels.gemm_plan import Split


def start_of(f: Function, split: Split, part: Value) -> Value:
    """Where a part of a split begins."""
    start = f.mul(part, f.index(split.base), "start")
    if not split.longer:
        return start
    return f.add(start, f.minimum(part, f.index(split.longer)), "start")


@contextmanager
def run_of(f: Function, split: Split, part: Value, name: str) -> Iterator[Loop]:
    """Loop over the things in one part of a split."""
    if split.parts == 1:
        start, end = f.index(0), f.index(split.total)
    else:
        start = start_of(f, split, part)
        end = start_of(f, split, f.add(part, f.index(1)))
    with f.loop(name, start, end) as loop:
        yield loop


def unravel(f: Function, flat: Value, sizes: Sequence[int]) -> list[Value]:
    """The index along each axis of the flat index `flat`, last axis fastest."""
    index = []
    for n in reversed(sizes[1:]):
        above = f.div(flat, f.index(n), "above")
        index.append(f.sub(flat, f.mul(above, f.index(n)), "index"))
        flat = above
    return [flat, *reversed(index)] if sizes else []


AHEAD = 4  # rows between asking for memory and reading it, where sums lie in scratch for long


def emit_prefetch(
    f: Function, epilogue: Epilogue, pointers, index, row, rows, column, width: int, lanes: int
) -> None:
    """Ask for what the epilogue will read of a rectangle, before its sums are computed."""
    with f.loop("ask", 0, rows) as i:
        for part in range(0, width, lanes):
            at = (*index, f.add(row, i.index), f.add(column, f.index(part)))
            epilogue.prefetch(f, at, pointers)


def emit_epilogue(
    f: Function,
    epilogue: Epilogue,
    pointers,
    sums: Value,
    sums_row: int,
    compute: DType,
    lanes: int,
    index: Sequence[Value],
    row: Value,
    rows: Value,
    column: Value,
    width: Value,
    n: int,
    unrolled: int = 0,
    ahead: bool = False,
) -> None:
    """Give a rectangle of sums to the epilogue, vector by vector.

    Args:
        sums, sums_row: where the rectangle lies, and elements from one row to the next.
        index: the batch index.
        row, rows, column, width: the rectangle in the output; it may end at column n only
            within a vector.
        n: columns of the output.
        unrolled: if not 0, `width` is always this many columns, a whole number of vectors.
        ahead: ask for what the epilogue reads some rows before it does.
    """
    type = vector(lanes, compute.llvm)
    with f.loop("row", 0, rows) as i:
        line = f.at(sums, f.mul(i.index, f.index(sums_row)), compute.llvm, "sums")
        out_row = f.add(row, i.index, "i")
        if ahead:
            coming = f.add(
                out_row, f.minimum(f.index(AHEAD), f.sub(f.sub(rows, f.index(1)), i.index))
            )
            with f.loop("ask", 0, width, lanes) as j:
                epilogue.prefetch(f, (*index, coming, f.add(column, j.index)), pointers)
        for part in range(0, unrolled, lanes):
            value = f.load(f.at(line, f.index(part), compute.llvm), type, stem="total")
            at = (*index, out_row, f.add(column, f.index(part), "j"))
            epilogue.emit(f, value, at, None, pointers)
        whole = width if n % lanes == 0 else f.op("and", width, f.index(-lanes))
        if n >= lanes and not unrolled:
            with f.loop("column", 0, whole, lanes) as j:
                value = f.load(f.at(line, j.index, compute.llvm), type, stem="total")
                at = (*index, out_row, f.add(column, j.index, "j"))
                epilogue.emit(f, value, at, None, pointers)
        if n % lanes and not unrolled:
            with f.when(f.compare("lt", whole, width)):
                value = f.load(f.at(line, whole, compute.llvm), type, stem="total")
                mask = f.mask_below(lanes, f.sub(width, whole))
                epilogue.emit(
                    f, value, (*index, out_row, f.add(column, whole, "j")), mask, pointers
                )
