"""How the work of a kernel is cut: tiles for the threads, lanes of a vector, arrays in scratch.

Knows integers, loops and indices, never what is computed in them. A tile is what one thread takes
at a time; its size is fixed before the program runs, so that a result never depends on the number
of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256

from tinytorch.codegen.builder import Function, Loop, Value, vector
from tinytorch.codegen.kernel import Kernel, Operand, build, offset_of
from tinytorch.codegen.target import Target

Pointers = Mapping[str, Value]  # the buffers of a kernel, by name
Body = Callable[[Function, Pointers], None]  # writes one tile

# A tile should take about 10 us at 0.2 ns an element: taking it costs 0.1 us.
TILE_ELEMENTS = 50_000
LEAST_TILES = 8  # so that a few threads can share what is worth sharing at all
LINE = 64  # bytes of a cache line, and of the widest vector

_PLACE = "@@"  # stands for the kernel's name while its code is written


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def round_up(number: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `number`.

    >>> round_up(65, 16)
    80
    """
    return ceil_div(number, step) * step


def named_kernel(
    kind: str, arguments: Sequence[str], body: Body, *, tiles: int, scratch: int = 0, flops: int =
    0, bytes: int = 0, label: str = "", helpers: Callable[[str], list[Function]] | None = None,
) -> Kernel:  # fmt: skip
    """Build a kernel whose name ends in a hash of its text, so that equal kernels are one kernel.

    Args:
        kind: the name's first word.
        arguments, body, tiles, scratch, flops, bytes, label: as in `codegen.kernel.build`.
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


def lane_width(target: Target, itemsize: int, length: int | None = None) -> int:
    """Lanes of a vector of such elements; fewer, by halves, where `length` elements need no more.

    >>> avx2 = Target.named("avx2", architecture="x86_64")
    >>> lane_width(avx2, 4), lane_width(avx2, 4, 3), lane_width(avx2, 8, 1)
    (8, 4, 1)
    """
    lanes = target.vector_bytes // itemsize
    while length is not None and lanes > 1 and lanes // 2 >= length:
        lanes //= 2
    return lanes


def register_bytes(*operands: Operand) -> int:
    """Bytes of a number of the widest operand in a register, where narrow floats are float32."""
    return max(4, *(o.dtype.itemsize for o in operands))


def register_type(operand: Operand) -> str:
    """The LLVM type a number of the operand has in a register: narrow floats become float32."""
    return "float" if operand.dtype.llvm in ("half", "bfloat") else operand.dtype.llvm


def address(f: Function, pointer: Value, operand: Operand, index: Sequence[Value]) -> Value:
    """Where the operand's element at a logical index lies."""
    return f.at(pointer, offset_of(f, operand, index), operand.dtype.llvm)


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
