"""Native code for nests that reduce outer dimensions: sums over the batch, batch-norm statistics.

The innermost dimension is kept, and its consecutive elements lie in the lanes of a vector; each
tile owns a block of columns, and runs over (its share of) the reduced dimensions. Knows expressions
and instructions, never graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinytorch.base.errors import CompileError
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Kernel, build
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops.elementwise import (
    accumulator,
    combine,
    convert,
    identity,
    register_type,
    round_to,
)
from tinytorch.compiler.loops.expression import (
    Emitter,
    Load,
    Reduce,
    digest,
    flops_per_point,
    topological,
)
from tinytorch.compiler.loops.inner_reductions import width_for
from tinytorch.compiler.loops.nest import Nest, arguments_of, reductions

BLOCK = 4  # vectors side by side: 256 bytes of each row, four lines, keep the prefetcher going


@dataclass(frozen=True)
class OuterPlan:
    """How a column nest is cut into tiles.

    Args:
        nest: normalised; the last dimension is kept.
        kept: the kept dimensions but the last.
        over: the reduced dimensions.
        width: lanes of a vector.
        vectors: vectors side by side in a block.
        blocks_per_tile: blocks of columns that one tile works on.
    """

    nest: Nest
    kept: tuple[int, ...]
    over: tuple[int, ...]
    width: int
    vectors: int
    blocks_per_tile: int

    @property
    def blocks(self) -> int:
        """Blocks of columns in one row."""
        return -(-self.nest.sizes[-1] // (self.width * self.vectors))

    @property
    def groups(self) -> int:
        """Blocks in all."""
        n = self.blocks
        for d in self.kept:
            n *= self.nest.sizes[d]
        return n

    @property
    def tiles(self) -> int:
        """Tiles in all."""
        return -(-self.groups // self.blocks_per_tile)


def plan_outer(target: Target, nest: Nest) -> OuterPlan:
    """Choose blocks and tiles."""
    last = len(nest.sizes) - 1
    kept = tuple(d for d in range(last) if d not in nest.reduced)
    width = width_for(target, nest.sizes[-1])
    vectors = max(1, min(BLOCK, -(-nest.sizes[-1] // width)))
    plan = OuterPlan(nest, kept, tuple(sorted(nest.reduced)), width, vectors, 1)
    per_tile = max(1, plan.groups // max(1, nest.tiles_wanted))
    return OuterPlan(nest, kept, plan.over, width, vectors, per_tile)


def outer_kernel(target: Target, nest: Nest) -> Kernel:
    """The kernel of a column nest: every store depends on kept dimensions only.

    Raises:
        CompileError: a store varies along a reduced dimension, or the innermost one is reduced.
    """
    if nest.inside or not nest.reduced or len(nest.sizes) - 1 in nest.reduced:
        raise CompileError.own_fault(
            "a kernel of columns was asked to store along its reduced loops",
            got=nest.label,
            rule="it stores when they are over, and its innermost loop is kept",
        )
    plan = plan_outer(target, nest)
    last = len(nest.sizes) - 1

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        f.target = target
        em = Emitter(f, pointers, last, plan.width)
        em.prepare(nest.roots, frozenset())
        start = f.mul(f.tile, f.index(plan.blocks_per_tile))
        stop = f.minimum(f.add(start, f.index(plan.blocks_per_tile)), f.index(plan.groups))
        with f.loop("block", start, stop) as loop:
            em.push()
            rest = loop.index
            column = f.mul(f.rem(rest, f.index(plan.blocks)), f.index(plan.width * plan.vectors))
            rest = f.div(rest, f.index(plan.blocks))
            for d in reversed(plan.kept):
                em.index[d] = f.rem(rest, f.index(nest.sizes[d]))
                rest = f.div(rest, f.index(nest.sizes[d]))
            _block(f, em, plan, column)
            em.pop()

    read = [e for e in topological(nest.roots) if isinstance(e, Load)]
    moved = 0
    for e in (*read, *nest.stores):
        n = e.dtype.itemsize
        for size, stride in zip(nest.sizes, e.strides, strict=True):
            n *= size if stride else 1
        moved += n
    name = f"columns_{digest('columns', target.key, nest.key(), plan.blocks_per_tile)}"
    return build(
        name, arguments_of(nest.stores), body, tiles=plan.tiles,
        flops=nest.points * flops_per_point(nest.stores), bytes=moved, label=nest.label,
    )  # fmt: skip


def _block(f: Function, em: Emitter, plan: OuterPlan, column: Value) -> None:
    """Reduce `vectors` vectors of columns beginning at `column`, then store."""
    last = len(plan.nest.sizes) - 1
    size = plan.nest.sizes[-1]
    whole = size % (plan.width * plan.vectors) == 0
    at = [f.add(column, f.index(v * plan.width)) for v in range(plan.vectors)]
    masks = [None if whole else f.mask_below(plan.width, f.sub(f.index(size), a)) for a in at]
    done: list[Reduce] = []
    values: list[dict[Reduce, Value]] = [{} for _ in at]
    waiting = reductions(plan.nest)
    while waiting:
        group = [r for r in waiting if r.level == waiting[0].level]
        waiting = waiting[len(group) :]
        first = [
            identity(f, r.kind, r.dtype, vector(plan.width, register_type(r.dtype)))
            for _ in at
            for r in group
        ]
        totals = _over(f, em, plan, list(plan.over), first, group, at, masks, values)
        for v in range(plan.vectors):
            part = totals[v * len(group) : (v + 1) * len(group)]
            values[v].update({r: round_to(f, t, r.dtype) for r, t in zip(group, part, strict=True)})
        done += group
    for v, known in enumerate(values):
        em.push()
        em.index[last], em.mask = at[v], masks[v]
        for r, value in known.items():
            em.know(r, value)
        em.store_all(plan.nest.stores)
        em.mask = None
        em.pop()


def _over(
    f: Function, em: Emitter, plan: OuterPlan, dims: list[int], carry: Sequence[Value],
    group: list[Reduce], at: list[Value], masks: Sequence[Value | None],
    known: list[dict[Reduce, Value]],
) -> list[Value]:  # fmt: skip
    """Loop over the reduced dimensions, all vectors of the block inside the innermost."""
    if dims:
        with f.loop("over", 0, plan.nest.sizes[dims[0]], carry=carry) as loop:
            em.index[dims[0]] = loop.index
            em.push()
            loop.next(*_over(f, em, plan, dims[1:], loop.carried, group, at, masks, known))
            em.pop()
        return loop.results
    out, last = list[Value](), len(plan.nest.sizes) - 1
    for v in range(plan.vectors):
        em.push()
        em.index[last], em.mask = at[v], masks[v]
        for r, value in known[v].items():
            em.know(r, value)
        for i, r in enumerate(group):
            x = em.as_vector(r.operand, plan.width)
            x = convert(f, x, r.operand.dtype, accumulator(r.dtype))
            out.append(combine(f, r.kind, r.dtype, carry[v * len(group) + i], x))
        em.mask = None
        em.pop()
    return out
