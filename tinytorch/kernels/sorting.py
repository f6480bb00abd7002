"""Sorting along an axis: equal elements keep their order, NaN comes last.

Knows pointers, strides and lines, never graphs. Every number type is compared as whole numbers
without a sign (`_key`): NaN the largest, both zeros one number, as NumPy compares them. There are
three ways, by the length and the number of lines:

    counted    short lines: how many elements come before each, by comparing it with all (Knuth
               1998, section 5.2, algorithm C); no branch, vectors of comparisons
    a line     longer ones: byte by byte of the key, the lowest first (radix sort; the same,
               section 5.2.5), in memory of the thread
    in parts   few long lines: the same, each line in parts that threads share; a part counts its
               bytes, the counts of all parts say where each part's elements go

A record is a key with what is written in the end: the element, or its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Value, element, lanes, size_of, vector
from tinytorch.codegen.kernel import (
    LEAST_TILES,
    Kernel,
    Lowered,
    Operand,
    Pointers,
    Split,
    Step,
    address,
    ceil_div,
    named_kernel,
    round_up,
    unravel,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.axis_ops import Line, over_lines

# Elements of a line up to which comparing all with all is the fastest, and of eight bytes, which
# have as many bytes to go through again.
COUNTED, COUNTED_WIDE = 96, 224
SHARED = 1 << 15  # elements of a line from which threads may share it
PART = 1 << 12  # elements of a part, at least
PARTS = 32  # of a line, at most: the more, the more counts are added up
BYTES = 256  # values of a byte
COUNTS = "temporary.counts"


@dataclass(frozen=True)
class SortSpec:
    """What is sorted, and what is written.

    Args:
        beside: sizes of the axes beside the sorted one.
        n: its length, at least 1.
        x, out: strides over `beside`; step, out_step: those of the axis.
        places: write the position (int64) of each element, not the element.
    """

    beside: tuple[int, ...]
    n: int
    x: Operand
    step: int
    out: Operand
    out_step: int
    places: bool

    @property
    def bits(self) -> str:
        """The LLVM type of an element as a whole number."""
        return f"i{8 * self.x.dtype.itemsize}"

    @property
    def lines(self) -> int:
        """How many lines there are."""
        return prod(self.beside)

    @property
    def flops(self) -> int:
        """Operations of all lines together, one a byte."""
        return self.lines * self.n * self.x.dtype.itemsize

    @property
    def bytes(self) -> int:
        """What is read and written at least."""
        written = 8 if self.places else self.x.dtype.itemsize
        return self.lines * self.n * (self.x.dtype.itemsize + written)


def lower_sort(target: Target, spec: SortSpec) -> Lowered:
    """The kernels; buffers "x" and "out".

    Cost: about 1 ns a byte of each element on one core, where it is not counted; a copy of the
    records, 8 bytes each (16 where elements have 8 bytes), twice.
    """
    if spec.n <= (COUNTED_WIDE if spec.x.dtype.itemsize == 8 else COUNTED):
        return Lowered.of(_counted(target, spec))
    if spec.n < SHARED or spec.lines >= LEAST_TILES and spec.n < 4 * SHARED:
        return Lowered.of(_whole_lines(target, spec))
    return _in_parts(spec)


def _key(f: Function, bits: Value, dtype: DType) -> Value:
    """A whole number without a sign that is in order as the element of these bits is."""
    top = f.const(bits.type, 1 << (8 * dtype.itemsize - 1))
    if dtype.kind == "i":
        return f.op("xor", bits, top, "key")
    if not dtype.is_float:
        return bits
    infinity = f.const(bits.type, _INFINITY[dtype.name])
    size = f.op("and", bits, f.op("xor", top, f.const(bits.type, -1)), "size")
    zero = f.const(bits.type, 0)
    bits = f.select(f.compare("eq", size, zero), zero, bits)
    last = f.const(bits.type, 8 * dtype.itemsize - 1)
    turned = f.op("or", f.op("ashr", bits, last), top)  # of a negative number all bits
    key = f.op("xor", bits, turned, "key")
    nan = f.compare("gt", size, infinity, signed=False, stem="nan")
    return f.select(nan, f.const(bits.type, -1), key, "key")


# bits of infinity: exponent all ones, fraction 0 (IEEE 754, table 3.5)
_INFINITY = {
    "float16": 0x1F << 10, "bfloat16": 0xFF << 7, "float32": 0xFF << 23, "float64": 0x7FF << 52,
}  # fmt: skip


# ---- short lines


def _counted(target: Target, spec: SortSpec) -> Kernel:
    """out[how many come before it] = element."""
    type = "i64" if spec.bits == "i64" else "i32"
    width = target.vector_bytes // size_of(type)
    wide = vector(width, type)
    room = round_up(spec.n, width)

    def body(line: Line) -> None:
        f = line.f
        keys, ranks = f.scratch, f.at(f.scratch, f.index(room), type)
        flip = f.const(type, -(1 << (8 * size_of(type) - 1)))  # comparisons with a sign are cheaper
        with f.loop("i", 0, spec.n) as i:
            key = f.convert(_key(f, _bits(line, spec, i.index), spec.x.dtype), type, False)
            f.store(f.op("xor", key, flip), f.at(keys, i.index, type))
        with f.loop("first", 0, spec.n, width) as block:
            mine = f.load(f.at(keys, block.index, type), wide)
            ranks_here = _ranks(f, keys, mine, block.index, spec.n)
            f.store(ranks_here, f.at(ranks, block.index, type))
        with f.loop("i", 0, spec.n) as i:
            rank = f.convert(f.load(f.at(ranks, i.index, type), type), "i64")
            made = i.index if spec.places else _bits(line, spec, i.index)
            f.store(made, line.at("out", f.mul(rank, f.index(spec.out_step))))

    return over_lines(
        _name(spec), target, spec.beside, {"x": spec.x, "out": spec.out}, body,
        elements=spec.n * (8 + spec.n // width), written=("out",), vectors=False,
        scratch=2 * room * size_of(type), flops=spec.flops, bytes=spec.bytes,
    )  # fmt: skip


def _ranks(f: Function, keys: Value, mine: Value, first: Value, n: int) -> Value:
    """How many elements of the line come before each of those from `first` on: a vector."""
    wide, type, width = mine.type, element(mine.type), lanes(mine.type)
    behind = f.add(first, f.index(width))
    count = f.const(wide, 0)
    for how, start, stop in (
        ("le", f.index(0), first), ("lt", first, f.minimum(behind, f.index(n))),
        ("lt", behind, f.index(n)),
    ):  # fmt: skip
        with f.loop("j", start, stop, carry=[count]) as j:
            other = f.splat(f.load(f.at(keys, j.index, type), type), width)
            before = f.compare(how, other, mine)
            if start is first:  # beside each other: of equal ones the first comes first
                later = f.sub(f.step(width), f.splat(f.sub(j.index, first), width))
                later = f.compare("gt", later, f.const(later.type, 0))
                before = f.op("or", before, f.op("and", f.compare("eq", other, mine), later))
            j.next(f.add(j.carried[0], f.convert(before, wide)))
        count = j.results[0]
    return count


def _bits(line: Line, spec: SortSpec, i: Value) -> Value:
    return line.f.load(line.at("x", line.f.mul(i, line.f.index(spec.step))), spec.bits)


def _name(spec: SortSpec) -> str:
    return "argsort" if spec.places else "sort"


# ---- longer lines, byte by byte


class _SortRecords:
    """Writes how records are made, moved and finished.

    A key of up to four bytes is the upper half of a record of eight; longer ones, and those of
    lines whose places need more than four bytes, have a second number beside them.
    """

    def __init__(self, spec: SortSpec):
        self.spec = spec
        self.key_bytes = spec.x.dtype.itemsize
        self.apart = self.key_bytes == 8 or spec.n >= 1 << 32
        self.bytes = 16 if self.apart else 8

    def read(self, f: Function, line: Value, i: Value) -> list[Value]:
        """The record of element i of a line."""
        spec = self.spec
        bits = f.load(f.at(line, f.mul(i, f.index(spec.step)), spec.bits), spec.bits)
        key = f.convert(_key(f, bits, spec.x.dtype), "i64", False)
        given = i if spec.places else f.convert(bits, "i64", False)
        if self.apart:
            return [key, given]
        return [f.op("or", f.op("shl", key, f.index(32)), given, "record")]

    def byte(self, f: Function, record: Sequence[Value], number: int) -> Value:
        """A byte of the key, the lowest is number 0."""
        shift = 8 * number + (0 if self.apart else 32)
        return f.op("and", f.op("lshr", record[0], f.index(shift)), f.index(BYTES - 1), "byte")

    def write(self, f: Function, record: Sequence[Value], line: Value, i: Value) -> None:
        """Element i of the sorted line."""
        spec, given = self.spec, record[-1]
        if spec.places and not self.apart:
            given = f.op("and", given, f.index((1 << 32) - 1), "place")
        given = f.convert(given, "i64" if spec.places else spec.bits)
        f.store(given, f.at(line, f.mul(i, f.index(spec.out_step)), given.type))

    def keep(self, f: Function, record: Sequence[Value], held: Value, i: Value) -> None:
        """Put a record at place i among records."""
        at = f.at(held, f.mul(i, f.index(len(record))), "i64")
        for number, part in enumerate(record):
            f.store(part, f.at(at, f.index(number), "i64"))

    def kept(self, f: Function, held: Value, i: Value) -> list[Value]:
        """The record at place i."""
        count = 2 if self.apart else 1
        at = f.at(held, f.mul(i, f.index(count)), "i64")
        return [f.load(f.at(at, f.index(n), "i64"), "i64") for n in range(count)]


def _count(f: Function, counts: Value, byte: Value) -> Value:
    """One more of this byte; gives how many there were."""
    at = f.at(counts, byte, "i64")
    before = f.load(at, "i64")
    f.store(f.add(before, f.index(1)), at)
    return before


def _clear(f: Function, counts: Value, tables: int = 1) -> None:
    eight = vector(8, "i64")
    with f.loop("clear", 0, tables * BYTES, 8) as i:
        f.store(f.const(eight, 0), f.at(counts, i.index, "i64"))


def _whole_lines(target: Target, spec: SortSpec) -> Kernel:
    """A line is sorted by one thread, in its scratch memory."""
    records = _SortRecords(spec)
    room = round_up(spec.n * records.bytes, 64)

    def body(line: Line) -> None:
        f = line.f
        held = [f.at(f.scratch, f.index(i * room), "i8") for i in range(2)]
        counts = f.at(f.scratch, f.index(2 * room), "i8")
        tables = [f.at(counts, f.index(n * BYTES), "i64") for n in range(records.key_bytes)]
        _clear(f, counts, len(tables))
        with f.loop("i", 0, spec.n) as i:
            record = records.read(f, line.starts["x"], i.index)
            records.keep(f, record, held[0], i.index)
            for number, table in enumerate(tables):
                _count(f, table, records.byte(f, record, number))
        for number, table in enumerate(tables):
            with f.loop("b", 0, BYTES, carry=[f.index(0)]) as b:
                at = f.at(table, b.index, "i64")
                count = f.load(at, "i64")
                f.store(b.carried[0], at)
                b.next(f.add(b.carried[0], count))
            with f.loop("i", 0, spec.n) as i:
                record = records.kept(f, held[number % 2], i.index)
                place = _count(f, table, records.byte(f, record, number))
                if number + 1 == len(tables):
                    records.write(f, record, line.starts["out"], place)
                else:
                    records.keep(f, record, held[1 - number % 2], place)

    return over_lines(
        _name(spec), target, spec.beside, {"x": spec.x, "out": spec.out}, body,
        elements=8 * records.key_bytes * spec.n, written=("out",), vectors=False,
        scratch=2 * room + 8 * BYTES * records.key_bytes, flops=spec.flops, bytes=spec.bytes,
    )  # fmt: skip


# ---- few long lines, in parts


def _in_parts(spec: SortSpec) -> Lowered:
    """For each byte: parts count, counts become places, parts move their records there."""
    records = _SortRecords(spec)
    parts = Split(spec.n, min(PARTS, ceil_div(spec.n, PART)))
    held = ("temporary.even", "temporary.odd")
    steps = [Step(_first_counts(spec, records, parts), ("x", held[0], COUNTS))]
    places = Step(_places(spec, parts), (COUNTS,))
    for number in range(records.key_bytes):
        here, there = held[number % 2], held[1 - number % 2]
        if number:
            steps.append(Step(_counts(spec, records, parts, number), (here, COUNTS)))
        last = number + 1 == records.key_bytes
        move = _moves(spec, records, parts, number, last)
        steps += [places, Step(move, (here, COUNTS, "out" if last else there))]
    room = spec.lines * spec.n * records.bytes
    used = held if records.key_bytes > 1 else held[:1]
    counts = 8 * spec.lines * parts.parts * BYTES
    return Lowered(tuple(steps), {**dict.fromkeys(used, room), COUNTS: counts})


def _over_parts(
    spec: SortSpec, parts: Split, kind: str, arguments: Sequence[str],
    body: Callable[[Function, Pointers, Value, Value], None], bytes: int,
) -> Kernel:  # fmt: skip
    """A kernel whose tiles are the parts of all lines; body(f, buffers, line, part)."""

    def emit(f: Function, p: Pointers) -> None:
        line = f.div(f.tile, f.index(parts.parts))
        body(f, p, line, f.rem(f.tile, f.index(parts.parts)))

    return named_kernel(
        f"{_name(spec)}_{kind}", arguments, emit, tiles=spec.lines * parts.parts, bytes=bytes,
        label=_name(spec),
    )  # fmt: skip


def _table(f: Function, counts: Value) -> Value:
    """The counts of this tile's part."""
    return f.at(counts, f.mul(f.tile, f.index(BYTES)), "i64")


def _line_at(f: Function, spec: SortSpec, pointer: Value, operand: Operand, line: Value) -> Value:
    return address(f, pointer, operand, unravel(f, line, spec.beside))


def _records_of(
    f: Function, spec: SortSpec, records: _SortRecords, pointer: Value, line: Value
) -> Value:
    return f.at(pointer, f.mul(line, f.index(spec.n * records.bytes)), "i8")


def _first_counts(spec: SortSpec, records: _SortRecords, parts: Split) -> Kernel:
    """The records of a part, and how often each lowest byte is there."""

    def body(f: Function, p: Pointers, line: Value, part: Value) -> None:
        counts = _table(f, p["counts"])
        source = _line_at(f, spec, p["x"], spec.x, line)
        to = _records_of(f, spec, records, p["to"], line)
        _clear(f, counts)
        with parts.loop(f, part, "i") as i:
            record = records.read(f, source, i.index)
            records.keep(f, record, to, i.index)
            _count(f, counts, records.byte(f, record, 0))

    moved = spec.lines * spec.n * (records.bytes + spec.x.dtype.itemsize)
    return _over_parts(spec, parts, "records", ("x", "to", "counts"), body, moved)


def _counts(spec: SortSpec, records: _SortRecords, parts: Split, number: int) -> Kernel:
    """How often each byte of this number is in a part."""

    def body(f: Function, p: Pointers, line: Value, part: Value) -> None:
        counts = _table(f, p["counts"])
        held = _records_of(f, spec, records, p["from"], line)
        _clear(f, counts)
        with parts.loop(f, part, "i") as i:
            record = records.kept(f, held, i.index)
            _count(f, counts, records.byte(f, record, number))

    moved = spec.lines * spec.n * records.bytes
    return _over_parts(spec, parts, "counts", ("from", "counts"), body, moved)


def _places(spec: SortSpec, parts: Split) -> Kernel:
    """Counts become places: smaller bytes come before, of one byte the parts in their order."""

    def body(f: Function, p: Pointers) -> None:
        size = parts.parts * BYTES
        counts = f.at(p["counts"], f.mul(f.tile, f.index(size)), "i64")
        with f.loop("byte", 0, BYTES, carry=[f.index(0)]) as byte:
            with f.loop("part", 0, parts.parts, carry=[byte.carried[0]]) as part:
                at = f.add(f.mul(part.index, f.index(BYTES)), byte.index)
                slot = f.at(counts, at, "i64")
                count = f.load(slot, "i64")
                f.store(part.carried[0], slot)
                part.next(f.add(part.carried[0], count))
            byte.next(part.results[0])

    return named_kernel(
        f"{_name(spec)}_places", ("counts",), body, tiles=spec.lines,
        bytes=16 * spec.lines * parts.parts * BYTES, label=_name(spec),
    )  # fmt: skip


def _moves(spec: SortSpec, records: _SortRecords, parts: Split, number: int, last: bool) -> Kernel:
    """The records of a part, each to its place; last: what is written in the end."""

    def body(f: Function, p: Pointers, line: Value, part: Value) -> None:
        counts = _table(f, p["counts"])
        held = _records_of(f, spec, records, p["from"], line)
        if last:
            to = _line_at(f, spec, p["to"], spec.out, line)
        else:
            to = _records_of(f, spec, records, p["to"], line)
        with parts.loop(f, part, "i") as i:
            record = records.kept(f, held, i.index)
            place = _count(f, counts, records.byte(f, record, number))
            (records.write if last else records.keep)(f, record, to, place)

    moved = 2 * spec.lines * spec.n * records.bytes
    return _over_parts(spec, parts, "moves", ("from", "counts", "to"), body, moved)
