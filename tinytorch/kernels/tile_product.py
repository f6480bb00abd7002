"""Products of small bfloat16 blocks in scratch memory by AMX tiles, and the copies that feed them.

Knows pointers, static sizes and the eight tile registers; never tensors or what the product is for.
A tile holds 16 rows of 64 bytes. One instruction adds the product of 16 rows of 32 numbers with 32
rows of 16 numbers to 16 x 16 float32 sums; the second operand lies in pairs: number (depth, column)
beside (depth + 1, column), a "pair" of 32 bits. Tiles are configured by the thread team.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBF16PS.
"""

from __future__ import annotations

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.kernels.block_transpose import RowPointer, transpose

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
                _load(f, tile, place, c[1])
            else:
                f.call("void", "llvm.x86.tilezero", _tile(tile))
        with f.loop("depth", 0, depth, GRAIN) as k:
            for down, tile in enumerate(_A):
                row = f.add(i.index, f.index(down * ROWS))
                at = f.add(f.mul(row, f.index(a[1])), f.mul(k.index, f.index(2)))
                _load(f, tile, f.at(a[0], at, "i8"), a[1])
            for across, tile in enumerate(_B):
                at = f.add(f.mul(k.index, f.index(b[1] // 2)), f.mul(j.index, f.index(4)))
                _load(f, tile, f.at(b[0], f.add(at, f.index(across * 4 * ROWS)), "i8"), b[1])
            for sums in range(4):
                given = (_tile(sums), _tile(_A[sums // 2]), _tile(_B[sums % 2]))
                f.call("void", "llvm.x86.tdpbf16ps", *given)
        for tile, place in enumerate(places):
            f.call("void", "llvm.x86.tilestored64", _tile(tile), place, f.index(c[1]))


def _tile(number: int) -> Value:
    return Value(str(number), "i8")


def _load(f: Function, tile: int, place: Value, step: int) -> None:
    f.call("void", "llvm.x86.tileloadd64", _tile(tile), place, f.index(step))


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
