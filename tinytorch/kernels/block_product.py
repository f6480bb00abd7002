"""Products of small blocks that lie in the first caches, one register tile after the other.

Knows pointers, static sizes and vector registers; never tensors or what the product is for. The
sums of a tile stay in registers while the depth runs; what comes before and after is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.builder import lanes as lanes_of
from tinytorch.codegen.polynomial import muladd


@dataclass(frozen=True)
class Machine:
    """What shapes a register tile.

    Args:
        lanes: elements of one vector register.
        registers: vector registers.
    """

    lanes: int
    registers: int


@dataclass(frozen=True)
class Left:
    """The operand read one scalar at a time: element (row, depth) of a strided matrix."""

    pointer: Value
    row_stride: int
    depth_stride: int


@dataclass(frozen=True)
class Right:
    """The operand read in vectors along its columns, which are contiguous: (depth, column)."""

    pointer: Value
    depth_stride: int


def machine_of(target, dtype: DType) -> Machine:
    """The target's vectors as they are for one number type."""
    return Machine(target.lanes(dtype), target.registers)


# start(f, row, column) gives the first value of a sum; end(f, values, row, column) takes the
# finished ones: values[i][j] is row + i and the vector that begins at column + j * lanes.
Start = Callable[[Function, Value, Value], Value]
End = Callable[[Function, Sequence[Sequence[Value]], Value, Value], None]


def register_tile(machine: Machine, rows: int, vectors: int, depth: int) -> tuple[int, int]:
    """Rows and vectors of the register tile that runs a (rows x vectors) block fastest.

    The estimate counts cycles of one step along the depth: two multiply-adds and two loads a cycle,
    and a chain of additions that takes four; beginning and ending a tile costs about two
    instructions a sum. One register holds the broadcast element, one each vector of the right side.

    >>> register_tile(Machine(16, 32), 64, 2, 64), register_tile(Machine(8, 16), 64, 2, 64)
    ((13, 2), (6, 2))
    """
    best, choice = float("inf"), (1, 1)
    for across in range(1, min(vectors, 4) + 1):
        for down in range(1, min(rows, 16) + 1):
            if down * across + across + 1 > machine.registers:
                break
            down_even = -(-rows // -(-rows // down))
            if down_even != down:
                continue
            cycles = 0.0
            for r in pieces(rows, down):
                for c in pieces(vectors, across):
                    step = max(r * c / 2, (r + c) / 2, 4.0)
                    cycles += step * depth + 2 * r * c + 8
            if cycles < best:
                best, choice = cycles, (down, across)
    return choice


def pieces(total: int, size: int) -> list[int]:
    """`total` cut into pieces of `size`, the rest last.

    >>> pieces(64, 13)
    [13, 13, 13, 13, 12]
    """
    return [size] * (total // size) + ([total % size] if total % size else [])


def block_product(
    f: Function,
    machine: Machine,
    type: str,
    sizes: tuple[int, int, int],
    left: Left,
    right: Right,
    end: End,
    start: Start | None = None,
    column_limit: int | None = None,
) -> None:
    """Write out[row, column] = start + sum over depth of left[row, depth] * right[depth, column].

    Args:
        type: "float" or "double".
        sizes: (rows, columns, depth), all static; columns a multiple of the lanes.
        end: takes the finished sums.
        start: gives the first value of each sum, zero by default.
        column_limit: columns of the right side that may be read (default: all of them).
    """
    rows, columns, depth = sizes
    lanes = machine.lanes
    down, across = register_tile(machine, rows, columns // lanes, depth)

    def tile(height: int, width: int, row: Value, column: Value, cut: int | None) -> None:
        size = (height, width, depth)
        sums = _tile(f, lanes, type, size, left, right, start, row, column, cut)
        end(f, sums, row, column)

    def down_rows(width: int, column: Value, cut: int | None) -> None:
        full = rows // down * down
        if full:
            with _each(f, "row", full, down) as row:
                tile(down, width, row, column, cut)
        if rows - full:
            tile(rows - full, width, f.index(full), column, cut)

    whole = columns if column_limit is None else column_limit // lanes * lanes
    span = across * lanes
    full = whole // span * span
    if full:
        with _each(f, "column", full, span) as column:
            down_rows(across, column, None)
    if columns - full:
        cut = None if column_limit is None or column_limit == columns else column_limit - full
        down_rows((columns - full) // lanes, f.index(full), cut)


@contextmanager
def _each(f: Function, name: str, stop: int, step: int) -> Iterator[Value]:
    """The index of a loop over range(0, stop, step), or 0 where there is one turn."""
    if stop == step:
        yield f.index(0)
        return
    with f.loop(name, 0, stop, step) as loop:
        yield loop.index


def _tile(f, n, type, sizes, left, right, start, row, column, cut) -> list[list[Value]]:
    """One register tile's sums; `cut`: only that many columns of the right side exist."""
    height, width, depth = sizes
    wide = vector(n, type)
    masks: list[Value | None] = [None] * width
    if cut is not None:
        masks = [
            f.mask_below(n, f.index(cut - j * n)) if cut < (j + 1) * n else None
            for j in range(width)
        ]
    left_at = f.at(left.pointer, f.mul(row, f.index(left.row_stride)), type, "left.at")
    right_at = f.at(right.pointer, column, type, "right.at")
    zero = f.const(wide, 0.0)
    first = [
        start(f, f.add(row, f.index(i)), f.add(column, f.index(j * n))) if start else zero
        for i in range(height)
        for j in range(width)
    ]
    with f.loop("depth", 0, depth, carry=first) as k:
        across = f.at(right_at, f.mul(k.index, f.index(right.depth_stride)), type)
        vectors = [
            f.load(f.at(across, f.index(j * n), type), wide, mask=masks[j], stem="right")
            for j in range(width)
        ]
        down = f.at(left_at, f.mul(k.index, f.index(left.depth_stride)), type)
        sums = []
        for i in range(height):
            one = f.load(f.at(down, f.index(i * left.row_stride), type), type, stem="left")
            every = f.splat(one, n)
            for j in range(width):
                sums.append(muladd(f, every, vectors[j], k.carried[i * width + j]))
        k.next(*sums)
    return [k.results[i * width : (i + 1) * width] for i in range(height)]


def sum_of_lanes(f: Function, x: Value) -> Value:
    """The sum of a vector's lanes, halves added to halves: the same order on every machine."""
    n = lanes_of(x.type)
    if n == 1:
        return x
    while n > 2:
        n //= 2
        low = f.shuffle(x, x, range(n), "low")
        x = f.add(low, f.shuffle(x, x, range(n, 2 * n), "high"))
    return f.add(f.extract(x, 0), f.extract(x, 1), "total")
