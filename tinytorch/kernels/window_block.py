"""The innermost piece of a convolution: a block of sums in registers over two nested loops.

Knows pointers and constant steps. In the forward pass a row of the block is a pixel and the loops
run over the window; in the gradient of the filters a row is a place in the window and the loops run
over pixels. The plan is that of the kernels for matrix products: each number of `a` is spread over
the lanes and multiplied with vectors of `b`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.codegen.builder import Function, vector
from tinytorch.codegen.target import Target
from tinytorch.kernels.gemm_micro import begin_micro, fetch
from tinytorch.kernels.scratch import LINE

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
