"""The innermost piece of a matrix product: a block of sums in registers, a multiply-add each turn.

Knows one block of rows and one panel of columns; not where they come from nor where the sums go
(they are left in scratch, for the epilogue).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.builder import lanes as lanes_of
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import muladd
from tinytorch.kernels.blocking import LINE
from tinytorch.kernels.packing import RowPointer, transpose

# The parameters of a matrix product's micro-kernel behind a, b and c.
DEPTH_COUNT_REST = (("depth", "i64"), ("count", "i64"), ("rest", "ptr"))


@dataclass(frozen=True)
class Micro:
    """One micro-kernel: c[i][j] (+)= sum over k of a[i][k] * b[k][j].

    Args:
        rows, vectors: size of the block; columns are `vectors * lanes`.
        a_row, a_depth: element strides of a.
        b_depth: element stride of b from one k to the next; its columns lie side by side.
        c_row: element stride of c.
        masked: read only the columns below a `count`, given at run time.
        add: start from the sums in c.
        fused: the machine multiplies and adds with one rounding.
        ahead: bytes that packed operands are fetched into the first-level cache before their use.
    """

    compute: DType
    lanes: int
    rows: int
    vectors: int
    a_row: int
    a_depth: int
    b_depth: int
    c_row: int
    masked: bool
    add: bool
    fused: bool
    ahead: int = 0

    @property
    def suffix(self) -> str:
        """Ends the symbol; the rest of the code is the same within one kernel."""
        return f"micro.{self.rows}x{self.vectors}{'.masked' if self.masked else ''}"


def begin_micro(name: str, others: Sequence[tuple[str, str]] = DEPTH_COUNT_REST) -> Function:
    """The function `name(a, b, c, others)`, seen by its own kernel only."""
    parameters = [*((x, "ptr noalias") for x in "abc"), *others]
    return Function(name, parameters, attributes="nounwind noinline", linkage="internal")


def write_micro(name: str, micro: Micro) -> Function:
    """The private function `name(a, b, c, depth, count, rest)`; rest is not used."""
    f = begin_micro(name)
    scalar, type = micro.compute.llvm, vector(micro.lanes, micro.compute.llvm)
    a, b, c = f.a, f.b, f.c
    cells = [(i, j) for i in range(micro.rows) for j in range(micro.vectors)]
    places = [f.at(c, f.index(i * micro.c_row + j * micro.lanes), scalar, "c.at") for i, j in cells]
    zero = f.const(type, 0)
    sums = [f.load(p, type, stem="sum") if micro.add else zero for p in places]
    masks = [
        f.mask_below(micro.lanes, f.sub(f.count, f.index(j * micro.lanes)))
        if micro.masked
        else None
        for j in range(micro.vectors)
    ]
    with f.loop("k", 0, f.depth, carry=[*sums, a, b]) as k:
        *sums, a, b = k.carried
        columns = [
            f.load(f.at(b, f.index(j * micro.lanes), scalar), type, mask=masks[j], stem="b.k")
            for j in range(micro.vectors)
        ]
        if micro.ahead:
            for j in range(micro.vectors):
                fetch(f, b, micro.ahead + j * 64)
        after = []
        for i in range(micro.rows):
            x = f.load(f.at(a, f.index(i * micro.a_row), scalar), scalar, stem="a.k")
            x = f.splat(x, micro.lanes)
            for j in range(micro.vectors):
                old = sums[i * micro.vectors + j]
                if micro.fused:
                    after.append(f.fma(x, columns[j], old))
                else:
                    after.append(f.add(f.mul(x, columns[j]), old))
        a = f.at(a, f.index(micro.a_depth), scalar, "a.next")
        b = f.at(b, f.index(micro.b_depth), scalar, "b.next")
        k.next(*after, a, b)
    for place, total in zip(places, k.results, strict=False):
        f.store(total, place)
    return f


def fetch(f: Function, pointer: Value, ahead: int, level: int = 3) -> None:
    """Ask for the cache line `ahead` bytes further on; a hint that never fails.

    Level 3 is the first-level cache, 2 the second.
    """
    there = f.at(pointer, f.index(ahead), "i8", "ahead")
    read, keep, data = f.const("i32", 0), f.const("i32", level), f.const("i32", 1)
    f.call("void", "llvm.prefetch.p0", there, read, keep, data)


# MERGED tinytorch.kernels.register_tile: The innermost piece of a convolution: a block of sums
# in registers over two nested loops.
#
# Knows pointers and constant steps. In the forward pass a row of the block is a pixel and the loops
# run over the window; in the gradient of the filters a row is a place in the window and the
# loops run
# over pixels. The plan is that of the kernels for matrix products: each number of `a` is spread
# over
# the lanes and multiplied with vectors of `b`.

# Turns between asking for a line of b and using it: filters of 32 or more channels stream from the
# second-level cache (14 cycles away, a turn takes 11-14). Of 0, 4, 8, 16 and 32 turns all but 0
# were alike, up to 5 % faster than 0 (docs/log.md, 2026-11-20).
AHEAD = 8


@dataclass(frozen=True)
class Turn:
    """One loop: how often, and how far `a` moves each time."""

    count: int
    a_step: int


@dataclass(frozen=True)
class Block:
    """c[i * c_row + j] (+)= the sum over both loops of a[offsets[i]] * b[j].

    Args:
        offsets: where each row finds its number of a.
        vectors: vectors of b side by side; lanes: of one.
        outer, inner: the loops. b moves by `b_step` in each inner turn and goes on from there.
        c_row: elements from one row of sums to the next.
        add: start from the sums in c.
        fused: the machine multiplies and adds with one rounding.
    """

    offsets: tuple[int, ...]
    vectors: int
    lanes: int
    outer: Turn
    inner: Turn
    b_step: int
    c_row: int
    add: bool
    fused: bool


def rows_that_fit(target: Target, vectors: int) -> int:
    """Rows whose sums, with the vectors of b and a number of a, fill the registers."""
    others = vectors + (1 if target.has_fma else 2)
    # 14: more rows do not raise the ratio of work to loads any further (kernels/gemm_plan.py)
    return max(1, min(14 if vectors > 1 else 20, (target.registers - others) // vectors))


def write_block(name: str, block: Block) -> Function:
    """The private function `name(a, b, c)`."""
    f = begin_micro(name, ())
    a, b, c = f.a, f.b, f.c
    type = vector(block.lanes, "float")
    places = [
        f.at(c, f.index(i * block.c_row + j * block.lanes), "float", "c.at")
        for i in range(len(block.offsets))
        for j in range(block.vectors)
    ]
    zero = f.const(type, 0)
    sums = [f.load(p, type, stem="sum") if block.add else zero for p in places]
    with f.loop("outer", 0, block.outer.count, carry=[*sums, a, b]) as y:
        *inside, row, b_row = y.carried
        with f.loop("inner", 0, block.inner.count, carry=[*inside, row, b_row]) as k:
            *now, a_now, b_now = k.carried
            columns = [
                f.load(f.at(b_now, f.index(j * block.lanes), "float"), type, stem="b")
                for j in range(block.vectors)
            ]
            for place in range(0, 4 * block.vectors * block.lanes, LINE):
                fetch(f, b_now, 4 * AHEAD * block.b_step + place)
            after = []
            for i, offset in enumerate(block.offsets):
                x = f.splat(f.load(f.at(a_now, f.index(offset), "float"), "float"), block.lanes)
                for j, column in enumerate(columns):
                    old = now[i * block.vectors + j]
                    both = f.fma(x, column, old) if block.fused else f.add(f.mul(x, column), old)
                    after.append(both)
            a_next = f.at(a_now, f.index(block.inner.a_step), "float", "a.next")
            k.next(*after, a_next, f.at(b_now, f.index(block.b_step), "float", "b.next"))
        *done, _, b_end = k.results
        y.next(*done, f.at(row, f.index(block.outer.a_step), "float", "a.row"), b_end)
    for place, total in zip(places, y.results, strict=False):
        f.store(total, place)
    return f


# MERGED tinytorch.kernels.register_tile: Products of small blocks that lie in the first caches,
# one register tile after the other.
#
# Knows pointers, static sizes and vector registers; never tensors or what the product is for. The
# sums of a tile stay in registers while the depth runs; what comes before and after is the
# caller's.


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


# MERGED tinytorch.kernels.register_tile: Products of small bfloat16 blocks in scratch memory by
# AMX tiles, and the copies that feed them.
#
# Knows pointers, static sizes and the eight tile registers; never tensors or what the product
# is for.
# A tile holds 16 rows of 64 bytes. One instruction adds the product of 16 rows of 32 numbers
# with 32
# rows of 16 numbers to 16 x 16 float32 sums; the second operand lies in pairs: number (depth,
# column)
# beside (depth + 1, column), a "pair" of 32 bits. Tiles are configured by the thread team.
#
# Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBF16PS.

ROWS = 16  # rows of a tile, and its columns of 4 bytes
GRAIN = 32  # sizes of all blocks are multiples: two tiles of sums, or the depth of one instruction
_A, _B = (4, 5), (6, 7)  # tile registers of the operands; the sums are in 0 .. 3
_PAIRS = vector(ROWS, "i32")


def tile_product(
    f: Function,
    sizes: tuple[int, int, int],
    a: tuple[Value, int],
    b: tuple[Value, int],
    c: tuple[Value, int],
    add: bool,
) -> None:
    """c = a b, or c += a b: float32 sums of bfloat16 products.

    Args:
        sizes: (rows, columns, depth), multiples of 32.
        a: address and bytes from row to row; a row is `depth` numbers.
        b: the same; a row is `columns` pairs, there are depth / 2.
        c: the same; a row is `columns` float32 numbers.
        add: whether c's numbers are the sums' beginning.
    """
    rows, columns, depth = sizes
    with f.loop("row", 0, rows, GRAIN) as i, f.loop("column", 0, columns, GRAIN) as j:
        places = []
        for down in range(2):
            for across in range(2):
                row = f.add(i.index, f.index(down * ROWS))
                at = f.add(f.mul(row, f.index(c[1])), f.mul(j.index, f.index(4)))
                places.append(f.at(c[0], f.add(at, f.index(across * 4 * ROWS)), "i8"))
        for tile, place in enumerate(places):
            if add:
                _amx_load(f, tile, place, c[1])
            else:
                f.call("void", "llvm.x86.tilezero", _amx_register(tile))
        with f.loop("depth", 0, depth, GRAIN) as k:
            for down, tile in enumerate(_A):
                row = f.add(i.index, f.index(down * ROWS))
                at = f.add(f.mul(row, f.index(a[1])), f.mul(k.index, f.index(2)))
                _amx_load(f, tile, f.at(a[0], at, "i8"), a[1])
            for across, tile in enumerate(_B):
                at = f.add(f.mul(k.index, f.index(b[1] // 2)), f.mul(j.index, f.index(4)))
                _amx_load(f, tile, f.at(b[0], f.add(at, f.index(across * 4 * ROWS)), "i8"), b[1])
            for sums in range(4):
                given = (
                    _amx_register(sums),
                    _amx_register(_A[sums // 2]),
                    _amx_register(_B[sums % 2]),
                )
                f.call("void", "llvm.x86.tdpbf16ps", *given)
        for tile, place in enumerate(places):
            f.call("void", "llvm.x86.tilestored64", _amx_register(tile), place, f.index(c[1]))


def _amx_register(number: int) -> Value:
    return Value(str(number), "i8")


def _amx_load(f: Function, tile: int, place: Value, step: int) -> None:
    f.call("void", "llvm.x86.tileloadd64", _amx_register(tile), place, f.index(step))


def copy_rows(
    f: Function, row_pointer: RowPointer, exist: tuple[Value, int], out: Value, sizes
) -> None:
    """Copy bfloat16 rows without gaps between them; rows and columns that do not exist are 0.

    Args:
        row_pointer: gives the address of a row that exists.
        exist: how many rows (at least 1) and columns exist.
        out: (rows, columns) numbers.
        sizes: rows and columns of `out`, multiples of 32.
    """
    rows, columns = sizes
    wide = vector(GRAIN, "i16")
    last = f.sub(exist[0], f.index(1))
    with f.loop("row", 0, rows) as row:
        start = row_pointer(f, f.minimum(row.index, last))
        there = f.compare("le", row.index, last)
        for column in range(0, columns, GRAIN):
            count = exist[1] - column
            mask = f.mask_below(GRAIN, f.index(count)) if count < GRAIN else None
            x = f.load(f.at(start, f.index(column), "i16"), wide, mask=mask)
            x = f.select(there, x, f.const(wide, 0))
            at = f.add(f.mul(row.index, f.index(columns)), f.index(column))
            f.store(x, f.at(out, at, "i16"))


def interleave_rows(f: Function, source: Value, out: Value, sizes: tuple[int, int]) -> None:
    """out pair (i, column) = source (2 i, column) and (2 i + 1, column), for dense blocks."""
    rows, columns = sizes
    wide = vector(GRAIN, "i16")
    low = [x for i in range(ROWS) for x in (i, GRAIN + i)]
    high = [x + ROWS for x in low]
    with f.loop("row", 0, rows, 2) as row:
        for column in range(0, columns, GRAIN):
            at = f.add(f.mul(row.index, f.index(columns)), f.index(column))
            upper = f.load(f.at(source, at, "i16"), wide)
            lower = f.load(f.at(source, f.add(at, f.index(columns)), "i16"), wide)
            to = f.add(f.mul(row.index, f.index(columns)), f.index(2 * column))
            f.store(f.shuffle(upper, lower, low), f.at(out, to, "i16"))
            f.store(f.shuffle(upper, lower, high), f.at(out, f.add(to, f.index(GRAIN)), "i16"))


def turn_pairs(
    f: Function, source: Value, out: Value, sizes: tuple[int, int], line: int = 0
) -> None:
    """out (column, row) = source (row, column), blocks of pairs; sizes (rows, columns).

    Args:
        line: pairs from one row of `out` to the next; default: no gap.
    """
    rows, columns = sizes
    line = line or rows
    with f.loop("row", 0, rows, ROWS) as row, f.loop("column", 0, columns, ROWS) as column:
        base = f.add(f.mul(row.index, f.index(columns)), column.index)
        lines = [
            f.load(f.at(source, f.add(base, f.index(i * columns)), "i32"), _PAIRS)
            for i in range(ROWS)
        ]
        to = f.add(f.mul(column.index, f.index(line)), row.index)
        for i, turned in enumerate(transpose(f, lines)):
            f.store(turned, f.at(out, f.add(to, f.index(i * line)), "i32"))


def rounded(f: Function, first: Value, second: Value) -> Value:
    """16 and 16 float32 numbers as 32 bfloat16, one after the other."""
    both = f.shuffle(first, second, range(2 * ROWS), "both")
    return f.bitcast(f.convert_flushed(both), vector(2 * ROWS, "i16"))


def paired(f: Function, first: Value, second: Value) -> Value:
    """The same as pairs: number i of the first beside number i of the second."""
    order = [x for i in range(ROWS) for x in (i, ROWS + i)]
    both = rounded(f, first, second)
    return f.shuffle(both, both, order, "pairs")
