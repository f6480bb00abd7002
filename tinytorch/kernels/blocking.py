"""Small pieces that loop nests over tiles share: runs of a split, batch indices, finished sums.

Knows loops and indices, not what is computed in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Loop, Value, vector
from tinytorch.codegen.kernel import Epilogue, Kernel, build


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


# MERGED tinytorch.kernels.blocking: Names a kernel after its code, so that equal kernels are
# one kernel.
#
# Knows text and hashes.

_PLACE = "@@"  # stands for the kernel's name while its code is written


def named_kernel(
    kind: str,
    arguments: Sequence[str],
    body: Callable,
    helpers: Callable[[str], list[Function]] | None = None,
    **known,
) -> Kernel:
    """Build a kernel whose name ends in a hash of its text.

    Args:
        kind: the name's first word.
        arguments, body, known: as in `codegen.kernel.build`.
        helpers: called after the body with the name's prefix; private functions that belong to it.
    """
    kernel = build(_PLACE, arguments, body, **known)
    written = helpers(_PLACE) if helpers else []
    text = "\n".join([*(h.finish() for h in written), kernel.ir])
    declarations = kernel.declarations.union(*(h.declarations for h in written))
    name = f"{kind}_{sha256((text + str(arguments)).encode()).hexdigest()[:12]}"
    return replace(kernel, name=name, ir=text.replace(_PLACE, name), declarations=declarations)


# MERGED tinytorch.kernels.blocking: Named arrays in the scratch memory of a thread.
#
# Knows names, sizes and offsets; never what the arrays hold.

LINE = 64  # bytes of a cache line, and of the widest vector


def round_up(number: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `number`.

    >>> round_up(65, 16)
    80
    """
    return -(-number // step) * step


class Scratch:
    """Arrays of one scalar type, each beginning on a cache line.

    Args:
        type: LLVM type of the elements.
        itemsize: its bytes.
        lanes: elements of one vector.
        sizes: elements of each array; an array of none has no place.
    """

    def __init__(self, type: str, itemsize: int, lanes: int, sizes: Mapping[str, int]):
        self.type, self.lanes, self.wide = type, lanes, vector(lanes, type)
        self.offsets: dict[str, int] = {}
        self.bytes = 0
        for name, size in sizes.items():
            self.offsets[name] = self.bytes
            self.bytes = round_up(self.bytes + size * itemsize, LINE)

    def begin(self, f: Function, base: Value) -> None:
        """Write the addresses, once, where the kernel begins."""
        self.f = f
        self.start = {n: f.at(base, f.index(o), "i8", n) for n, o in self.offsets.items()}

    def at(self, name: str, index: Value | None = None) -> Value:
        """The address of one element."""
        return self.f.at(self.start[name], self.f.index(0) if index is None else index, self.type)

    def load(self, name: str, index: Value) -> Value:
        """The vector that begins at an element."""
        return self.f.load(self.at(name, index), self.wide, stem=name)

    def every(self, name: str, index: Value) -> Value:
        """One element in every lane."""
        return self.f.splat(self.f.load(self.at(name, index), self.type, stem=name), self.lanes)

    def store(self, name: str, index: Value, x: Value) -> None:
        """Store a vector that begins at an element."""
        self.f.store(x, self.at(name, index))

    def fill(self, name: str, count: int, number: float) -> None:
        """Set the first `count` elements, a multiple of the lanes."""
        with self.f.loop("fill", 0, count, self.lanes) as i:
            self.store(name, i.index, self.f.const(self.wide, number))
