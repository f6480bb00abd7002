"""A native kernel: what it is to those who schedule it, and how its work is cut when it is written.

Every kernel has one native signature,

    void kernel(ptr arguments, i64 tile, ptr scratch)

where `arguments` points to an array of buffer addresses. The thread team calls it once for each
tile, in any order, on any thread; tiles must not depend on each other. `scratch` is memory of the
calling thread, 64-byte aligned, with unspecified contents.

A tile is what one thread takes at a time; its size is fixed before the program runs, so that a
result never depends on the number of threads. Inside a tile the lanes of a vector lie along one
axis, and what has to be held in memory lies in scratch. Knows pointers, strides, loops and indices,
never graphs, nor what is computed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import reduce
from hashlib import sha256
from typing import Protocol

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Loop, Value, lanes, vector
from tinytorch.codegen.target import Target

Pointers = Mapping[str, Value]  # the buffers of a kernel, by name
Body = Callable[[Function, Pointers], None]  # writes one tile


@dataclass(frozen=True)
class Operand:
    """How an array lies in a buffer: element strides for each logical axis, and an offset."""

    dtype: DType
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True)
class Kernel:
    """One compiled loop nest.

    Args:
        name: symbol; kernels with equal names have equal code.
        ir: the text of its function (and of private helpers), without declarations.
        declarations: `declare ...` lines it needs.
        arguments: a name for each buffer, in the order of the native array.
        tiles: how many independent pieces it has.
        scratch: bytes each thread needs.
        flops, bytes: arithmetic operations and memory traffic of all tiles together.
        label: what it does, for `explain()`.
    """

    name: str
    ir: str
    declarations: frozenset[str]
    arguments: tuple[str, ...]
    tiles: int
    scratch: int = 0
    flops: int = 0
    bytes: int = 0
    label: str = ""

    @property
    def unit(self) -> str:
        """Which unit of the processor does the arithmetic, read off the code: "fp32", "bf16"...

        The products decide: sums of products of bfloat16 are float32 everywhere.
        """
        for unit, pattern in _UNITS.items():
            if any(re.search(pattern, line) for line in (*self.declarations, self.ir)):
                return unit
        return "fp32"


# units by what only their kernels call; float64 by its multiplications
_UNITS = {
    "int8": r"llvm\.x86\.(avx512\.vpdpbusd|tdpb[su][su]d)|llvm\.aarch64\.neon\.(us|s|u)dot",
    "bf16": r"llvm\.x86\.(avx512bf16\.dpbf16ps|tdpbf16ps)|llvm\.aarch64\.neon\.bfdot",
    "fp64": r"llvm\.(fma|fmuladd)\.(v\d+)?f64|fmul (<\d+ x )?double",
}


@dataclass(frozen=True)
class Step:
    """One kernel with the names of its buffers ("a", "out", "temporary.packed", ...).

    Args:
        kernel: the code.
        arguments: the names.
        reads: temporaries that it reads and does not write; others may be written.
    """

    kernel: Kernel
    arguments: tuple[str, ...]
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Lowered:
    """Kernels that run one after the other and do one operation together.

    Args:
        steps: in order.
        temporaries: bytes of each buffer that lives only during the operation.
    """

    steps: tuple[Step, ...]
    temporaries: Mapping[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, kernel: Kernel) -> Lowered:
        """One kernel, given buffers of the names it has."""
        return cls((Step(kernel, kernel.arguments),))


class Epilogue(Protocol):
    """What happens to a result while it is still in registers, the store included.

    `key` identifies the code (equal keys, equal code). `arguments` names the buffers beyond the
    kernel's own; the kernel appends them to its argument list in this order. `emit` is called in
    the kernel's innermost position with a value (scalar, or a vector along the last logical axis),
    the i64 index of each logical output axis (the last one that of lane 0), and a lane mask or
    None.
    """

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """The buffers beyond the kernel's own."""
        ...

    def emit(
        self,
        f: Function,
        value: Value,
        index: Sequence[Value],
        mask: Value | None,
        pointers: Mapping[str, Value],
    ) -> None:
        """Write the code."""
        ...

    def prefetch(self, f: Function, index: Sequence[Value], pointers: Mapping[str, Value]) -> None:
        """Ask for the memory that `emit` will read at this place, long before it does."""
        ...


class Prologue(Protocol):
    """How the elements of a matrix are made while a kernel reads them.

    `key` identifies the code; `arguments` names the buffers it reads, in an order; `bytes` counts
    what they hold. `emit` gives n elements from (row, column) on, `along_rows` or along columns.
    """

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """The buffers it reads."""
        ...

    @property
    def bytes(self) -> int:
        """What they hold."""
        ...

    def emit(
        self, f: Function, place: tuple[Value, Value], n: int, along_rows: bool,
        mask: Value | None, pointers: Mapping[str, Value], known: tuple[int, int] = (0, 1),
    ) -> Value:  # fmt: skip
        """Write the code.

        Args:
            known: (ahead, turn): the first number lies `ahead` behind the place, whose index along
                the numbers is a multiple of `turn`.
        """
        ...

    def prefetch(
        self, f: Function, place: tuple[Value, Value], pointers: Mapping[str, Value]
    ) -> None:
        """Ask for the memory that `emit` will read at this place, long before it does."""
        ...


@dataclass(frozen=True)
class StoreEpilogue:
    """The plain epilogue: convert to the output's dtype and store to buffer "out"."""

    out: Operand
    arguments: tuple[str, ...] = ("out",)

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        return f"store({self.out.dtype.name},{self.out.strides},{self.out.offset})"

    def emit(
        self,
        f: Function,
        value: Value,
        index: Sequence[Value],
        mask: Value | None,
        pointers: Mapping[str, Value],
    ) -> None:
        """Store `value` at `index`."""
        store_at(f, value, pointers["out"], self.out, index, mask)

    def prefetch(self, f: Function, index: Sequence[Value], pointers: Mapping[str, Value]) -> None:
        """Ask for the line that will be written."""
        fetch(f, address(f, pointers["out"], self.out, index), write=True)


def fetch(f: Function, pointer: Value, ahead: int = 0, level: int = 1, write: bool = False) -> None:
    """Ask for a cache line; a hint that never fails.

    Args:
        ahead: bytes from the pointer to the line.
        level: of the cache that it is brought into, 1 or 2.
        write: it will be written.
    """
    given = (f.const("i32", n) for n in (int(write), 4 - level, 1))
    there = f.at(pointer, f.index(ahead), "i8", "ahead")
    f.call("void", "llvm.prefetch.p0", there, *given)


def offset_of(f: Function, operand: Operand, index: Sequence[Value]) -> Value:
    """Element offset of the logical `index` in the operand's buffer."""
    total = f.index(operand.offset)
    for i, stride in zip(index, operand.strides, strict=True):
        if stride:
            total = f.add(f.mul(i, f.index(stride), "offset"), total, "offset")
    return total


def address(f: Function, pointer: Value, operand: Operand, index: Sequence[Value]) -> Value:
    """Where the operand's element at a logical index lies."""
    return f.at(pointer, offset_of(f, operand, index), operand.dtype.llvm)


def store_at(
    f: Function, value: Value, pointer: Value, operand: Operand, index: Sequence[Value],
    mask: Value | None,
) -> None:  # fmt: skip
    """Store a scalar or a vector along the last axis, whatever that axis's stride is."""
    llvm = operand.dtype.llvm
    value = f.convert(value, llvm)
    base = f.at(pointer, offset_of(f, operand, index), llvm, "out.at")
    n = lanes(value.type)
    if n == 1 or operand.strides[-1] == 1:
        f.store(value, base, mask=mask)
        return
    for lane in range(n):
        place = f.at(base, f.index(lane * operand.strides[-1]), llvm)
        if mask is None:
            f.store(f.extract(value, lane), place)
        else:
            with f.when(f.extract(mask, lane)):
                f.store(f.extract(value, lane), place)


_PLACE = "@@"  # stands for the kernel's name while its code is written


def build(
    name: str,
    arguments: Sequence[str],
    body: Body,
    *,
    tiles: int,
    scratch: int = 0,
    flops: int = 0,
    bytes: int = 0,
    label: str = "",
) -> Kernel:
    """Write a kernel: `body(f, pointers)` emits one tile (`f.tile`, `f.scratch`)."""
    f = Function(name, [("arguments", "ptr"), ("tile", "i64"), ("scratch", "ptr")])
    pointers: dict[str, Value] = {}
    for i, argument in enumerate(arguments):
        slot = f.at(f.arguments, f.index(i), "ptr", f"{argument}.slot")
        pointers[argument] = f.load_pointer(slot, argument)
    body(f, pointers)
    return Kernel(
        name,
        f.finish(),
        frozenset(f.declarations),
        tuple(arguments),
        tiles,
        scratch,
        flops,
        bytes,
        label,
    )


def named_kernel(
    kind: str, arguments: Sequence[str], body: Body, *, tiles: int, scratch: int = 0, flops: int =
    0, bytes: int = 0, label: str = "", helpers: Callable[[str], list[Function]] | None = None,
) -> Kernel:  # fmt: skip
    """Build a kernel whose name ends in a hash of its text, so that equal kernels are one kernel.

    Args:
        kind: the name's first word.
        arguments, body, tiles, scratch, flops, bytes, label: as in `build`.
        helpers: called after the body with the name's prefix; private functions that belong to it.
    """
    kernel = build(
        _PLACE, arguments, body, tiles=tiles, scratch=scratch, flops=flops, bytes=bytes, label=label
    )
    written = helpers(_PLACE) if helpers else []
    text = "\n".join([*(h.finish() for h in written), kernel.ir])
    declarations = kernel.declarations.union(*(h.declarations for h in written))
    name = f"{kind}_{sha256((text + str(arguments)).encode()).hexdigest()[:12]}"
    return replace(kernel, name=name, ir=text.replace(_PLACE, name), declarations=declarations)


# --- rows that a call may leave out ---


@dataclass(frozen=True)
class RaggedRows:
    """Rows of which those beyond a length that is known at run time need not be computed.

    Row i is needed if (i // inner) % bound is below the length.

    Args:
        argument: the buffer that holds the length, one int64.
        bound: its greatest value.
        inner: rows for each place.
        rows: rows in all.
    """

    argument: str
    bound: int
    inner: int
    rows: int

    def some(self, f: Function, pointers: Pointers, start: Value, count: Value) -> Value:
        """Whether one of so many rows from `start` on is needed; sometimes though none is."""
        length = f.load(pointers[self.argument], "i64", stem="length")
        limit = f.mul(length, f.index(self.inner), "limit")
        period = self.bound * self.inner
        if self.is_prefix:
            return f.compare("lt", start, limit)
        place = f.rem(start, f.index(period))
        beyond = f.compare("gt", f.add(place, count), f.index(period))
        return f.op("or", f.compare("lt", place, limit), beyond)

    def each(self, rows: int) -> RaggedRows:
        """So many rows for each of these."""
        return replace(self, inner=self.inner * rows, rows=self.rows * rows)

    def left(self, f: Function, pointers: Pointers, start: Value) -> Value:
        """How many rows from `start` on are needed before one is not, or the places begin anew.

        Below 0 if `start` lies beyond the length.
        """
        limit = f.mul(f.load(pointers[self.argument], "i64", stem="length"), f.index(self.inner))
        place = start if self.is_prefix else f.rem(start, f.index(self.bound * self.inner))
        return f.sub(limit, place, "left")

    @property
    def is_prefix(self) -> bool:
        """Whether the needed rows are the first ones."""
        return self.rows == self.bound * self.inner


NeededRows = tuple[RaggedRows, ...]  # rows that each of these needs; none: all rows


def where_needed(
    f: Function, pointers: Pointers, needed: NeededRows, start: Value, count: int | Value
) -> AbstractContextManager[object]:
    """What is written within is done only if one of so many rows is needed."""
    if not needed:
        return nullcontext()
    return f.when(some_needed(f, pointers, needed, start, count), "needed")


def some_needed(
    f: Function, pointers: Pointers, needed: NeededRows, start: Value, count: int | Value
) -> Value:
    """Whether one of so many rows is needed; sometimes though none is."""
    many = f.index(count) if isinstance(count, int) else count
    some = [rows.some(f, pointers, start, many) for rows in needed]
    return reduce(lambda a, b: f.op("and", a, b), some)


def how_many_needed(
    f: Function, pointers: Pointers, needed: NeededRows, start: Value, most: Value
) -> Value:
    """Of `most` rows from `start` on, none of them in another run, how many; may be below 0."""
    return reduce(f.minimum, (rows.left(f, pointers, start) for rows in needed), most)


def end_of_needed(f: Function, pointers: Pointers, needed: NeededRows, end: Value) -> Value:
    """Where the needed ones of the rows before `end` end, as far as that is one place."""
    limits = (rows.left(f, pointers, f.index(0)) for rows in needed if rows.is_prefix)
    return reduce(f.minimum, limits, end)


def lengths_of(*needed: NeededRows) -> tuple[str, ...]:
    """The buffers that say which rows are needed, each once."""
    return tuple(dict.fromkeys(rows.argument for several in needed for rows in several))


# --- how the work is cut ---

# A tile should take about 10 us at 0.2 ns an element: taking it costs 0.1 us.
TILE_ELEMENTS = 50_000
LEAST_TILES = 8  # so that a few threads can share what is worth sharing at all
LINE = 64  # bytes of a cache line, and of the widest vector


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def round_up(number: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `number`.

    >>> round_up(65, 16)
    80
    """
    return ceil_div(number, step) * step


def lane_width(target: Target, itemsize: int, length: int | None = None) -> int:
    """Lanes of a vector of such elements; fewer, by halves, where `length` elements need no more.

    >>> avx2 = Target.named("avx2", architecture="x86_64")
    >>> lane_width(avx2, 4), lane_width(avx2, 4, 3), lane_width(avx2, 8, 1)
    (8, 4, 1)
    """
    width = target.vector_bytes // itemsize
    while length is not None and width > 1 and width // 2 >= length:
        width //= 2
    return width


def register_bytes(*operands: Operand) -> int:
    """Bytes of a number of the widest operand in a register, where narrow floats are float32."""
    return max(4, *(o.dtype.itemsize for o in operands))


def register_type(operand: Operand) -> str:
    """The LLVM type a number of the operand has in a register: narrow floats become float32."""
    return "float" if operand.dtype.llvm in ("half", "bfloat") else operand.dtype.llvm


@dataclass(frozen=True)
class Shares:
    """`units` of work shared out: each tile does `each` of them, the last one what is left."""

    units: int
    each: int

    @staticmethod
    def of(units: int, cost: int, budget: int = TILE_ELEMENTS) -> Shares:
        """Tiles of about `budget`, where a unit costs `cost`.

        >>> Shares.of(1000, 100), Shares.of(1000, 100).tiles
        (Shares(units=1000, each=125), 8)
        """
        return Shares(units, max(1, min(budget // max(1, cost), ceil_div(units, LEAST_TILES))))

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return ceil_div(self.units, self.each)

    @contextmanager
    def loop(self, f: Function, name: str, step: int = 1) -> Generator[Loop, None, None]:
        """Run over the units of this tile, `step` at a time."""
        start = f.mul(f.tile, f.index(self.each))
        stop = f.minimum(f.add(start, f.index(self.each)), f.index(self.units))
        with f.loop(name, start, stop, step) as loop:
            yield loop


@dataclass(frozen=True)
class Split:
    """`total` things in `parts` runs whose lengths differ by at most one, the longer runs first.

    >>> Split(10, 4).sizes
    (3, 3, 2, 2)
    """

    total: int
    parts: int

    @property
    def base(self) -> int:
        """Length of the shorter runs."""
        return self.total // self.parts

    @property
    def longer(self) -> int:
        """How many runs are one longer."""
        return self.total % self.parts

    @property
    def largest(self) -> int:
        """Length of the longest run."""
        return self.base + (self.longer > 0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Length of each run."""
        return (self.base + 1,) * self.longer + (self.base,) * (self.parts - self.longer)

    def start(self, f: Function, part: Value) -> Value:
        """Where a run begins."""
        start = f.mul(part, f.index(self.base), "start")
        if not self.longer:
            return start
        return f.add(start, f.minimum(part, f.index(self.longer)), "start")

    @contextmanager
    def loop(self, f: Function, part: Value, name: str) -> Generator[Loop, None, None]:
        """Run over the things in one run."""
        if self.parts == 1:
            start, end = f.index(0), f.index(self.total)
        else:
            start = self.start(f, part)
            end = self.start(f, f.add(part, f.index(1)))
        with f.loop(name, start, end) as loop:
            yield loop


@dataclass(frozen=True)
class Pieces(Split):
    """`total` things in runs of `size`, the rest last.

    >>> Pieces.of(10, 4).sizes, Pieces.of(8, 4).sizes
    ((4, 4, 2), (4, 4))
    """

    size: int = 1

    @staticmethod
    def of(total: int, size: int) -> Pieces:
        """The runs of `total` things."""
        return Pieces(total, ceil_div(total, size), size)

    @property
    def base(self) -> int:
        """Length of the last run."""
        return self.total - (self.parts - 1) * self.size

    @property
    def longer(self) -> int:
        """How many runs are longer than the last."""
        return (self.parts - 1) * (self.base < self.size)

    @property
    def largest(self) -> int:
        """Length of the longest run."""
        return min(self.size, self.total)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Length of each run."""
        return (self.size,) * (self.parts - 1) + (self.base,)

    def start(self, f: Function, part: Value) -> Value:
        """Where a run begins."""
        start = f.mul(part, f.index(self.size), "start")
        if self.base == self.size:
            return start
        return f.minimum(start, f.index(self.total))


def unravel(f: Function, flat: Value, sizes: Sequence[int]) -> list[Value]:
    """The index along each axis of the flat index `flat`, last axis fastest."""
    index: list[Value] = []
    for n in reversed(sizes[1:]):
        above = f.div(flat, f.index(n), "above")
        index.append(f.sub(flat, f.mul(above, f.index(n)), "index"))
        flat = above
    return [flat, *reversed(index)] if sizes else []


class Scratch:
    """Arrays of one scalar type in the scratch memory of a thread, each on a cache line.

    Args:
        type: LLVM type of the elements.
        itemsize: its bytes.
        lanes: elements of one vector.
        sizes: elements of each array; an array of none has no place.
    """

    f: Function  # set by `begin`
    start: dict[str, Value]

    def __init__(self, type: str, itemsize: int, lanes: int, sizes: Mapping[str, int]):
        self.type, self.lanes, self.wide = type, lanes, vector(lanes, type)
        self.offsets: dict[str, int] = {}
        self.bytes = 0
        for name, size in sizes.items():
            self.offsets[name] = self.bytes
            self.bytes = round_up(self.bytes + size * itemsize, LINE)

    def begin(self, f: Function) -> None:
        """Write the addresses, once, where the kernel begins."""
        self.f = f
        self.start = {n: f.at(f.scratch, f.index(o), "i8", n) for n, o in self.offsets.items()}

    def at(self, name: str, index: Value | None = None, type: str | None = None) -> Value:
        """The address of one element, or of an element of an array of another type."""
        index = self.f.index(0) if index is None else index
        return self.f.at(self.start[name], index, type or self.type)

    def load(self, name: str, index: Value) -> Value:
        """The vector that begins at an element."""
        return self.f.load(self.at(name, index), self.wide, stem=name)

    def store(self, name: str, index: Value, x: Value) -> None:
        """Store a vector that begins at an element."""
        self.f.store(x, self.at(name, index))

    def fill(self, name: str, count: int, number: float) -> None:
        """Set the first `count` elements, a multiple of the lanes."""
        with self.f.loop("fill", 0, count, self.lanes) as i:
            self.store(name, i.index, self.f.const(self.wide, number))
