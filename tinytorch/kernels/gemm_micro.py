"""The innermost piece of a matrix product: a block of sums in registers, a multiply-add each turn.

Knows one block of rows and one panel of columns; not where they come from nor where the sums go
(they are left in scratch, for the epilogue).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Value, vector

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
