"""Native code for nests whose innermost dimension is computed or reduced along its own memory.

A row is everything inside the outer dimensions: softmax, layer norm and cross-entropy are one pass
over the rows, with one inner loop for each reduction that must be finished before the next begins.
Elementwise chains are rows without reductions. Knows expressions and instructions, never graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tinytorch.base.errors import CompileError
from tinytorch.codegen.builder import Function, Value, size_of, vector
from tinytorch.codegen.kernel import Kernel, build
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops.elementwise import (
    accumulator,
    combine,
    convert,
    identity,
    register_type,
    round_to,
    tree,
)
from tinytorch.compiler.loops.expression import (
    Emitter,
    Expression,
    Load,
    Op,
    Reduce,
    Store,
    digest,
    flops_per_point,
    topological,
)
from tinytorch.compiler.loops.nest import Needed, Nest, arguments_of, reductions
from tinytorch.primitives.primitive import TABLE

Body = Callable[[int, list[Value]], list[Value]]
UNROLL = 4  # independent accumulators: a float add takes 4 cycles, one can begin in each half cycle


@dataclass(frozen=True)
class InnerPlan:
    """How a nest is cut into tiles.

    Args:
        outer: how many leading dimensions make up the row number.
        rows: rows in all.
        rows_per_tile: rows of one tile.
        chunk: iterations of the innermost dimension in one tile (all of them unless rows are few).
        width: lanes of a vector.
    """

    nest: Nest
    outer: int
    rows: int
    rows_per_tile: int
    chunk: int
    width: int

    @property
    def inner(self) -> tuple[int, ...]:
        """Sizes of the dimensions inside a row."""
        return self.nest.sizes[self.outer :]

    @property
    def chunks(self) -> int:
        """Tiles along the innermost dimension; a sum of nothing is still written."""
        return -(-self.inner[-1] // self.chunk) or int(bool(self.nest.reduced))

    @property
    def tiles(self) -> int:
        """Tiles in all."""
        return -(-self.rows // self.rows_per_tile) * self.chunks if self.rows else 0


def width_for(target: Target, size: int) -> int:
    """Lanes for a loop of `size` turns: those of a float32 vector, fewer for a very short loop."""
    width = target.vector_bytes // 4
    while width > 1 and width // 2 >= size:
        width //= 2
    return width


def plan_inner(target: Target, nest: Nest) -> InnerPlan:
    """Choose the tiles. The nest is normalised; its reduced dimensions are the innermost ones."""
    outer = len(nest.sizes) - max(1, len(nest.reduced))
    rows = 1
    for n in nest.sizes[:outer]:
        rows *= n
    last = nest.sizes[-1]
    width = width_for(target, last)
    wanted = nest.tiles_wanted
    per_tile, chunk = max(1, -(-rows // wanted)), max(1, last)
    if not nest.reduced and rows < wanted:
        pieces = -(-wanted // rows) if rows else 1
        block = width * UNROLL
        chunk = max(block, -(-last // pieces // block) * block) if last else 1
    return InnerPlan(nest, outer, rows, per_tile, chunk, width)


def inner_kernel(target: Target, nest: Nest) -> Kernel:
    """The kernel of a row nest.

    Raises:
        CompileError: its reduced dimensions are not the innermost ones.
    """
    first = len(nest.sizes) - len(nest.reduced)
    if any(d < first for d in nest.reduced):
        raise CompileError.own_fault(
            "a kernel of rows was asked to reduce along an outer loop",
            got=nest.label,
            rule="its reduced loops are the innermost ones",
        )
    plan = plan_inner(target, nest)
    guards = [g for g in nest.guards if not any(g.strides[plan.outer :])]
    names = tuple(dict.fromkeys((*arguments_of(nest.stores), *(g.rows.argument for g in guards))))
    cached = _cached(nest)
    # The last vector of the last row reaches up to width - 1 elements past it.
    padded = _product(plan.inner) + plan.width - 1
    size = {e: size_of(register_type(e.dtype)) for e in cached}
    places, total = dict[Expression, int](), 0
    for e in cached:
        places[e] = total
        total += -(-padded * size[e] // 64) * 64

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        f.target = target
        _Writer(f, pointers, plan, places, guards).write()

    points = nest.points
    moved = sum(_traffic(nest, s.strides, s.dtype.itemsize) for s in nest.stores) + sum(
        _traffic(nest, e.strides, e.dtype.itemsize)
        for e in topological(nest.roots)
        if isinstance(e, Load)
    )
    name = f"rows_{digest('rows', target.key, nest.key(), plan.rows_per_tile, plan.chunk)}"
    return build(
        name, names, body, tiles=plan.tiles, scratch=total,
        flops=points * flops_per_point(nest.stores), bytes=moved, label=nest.label,
    )  # fmt: skip


def _product(sizes: Sequence[int]) -> int:
    n = 1
    for s in sizes:
        n *= s
    return n


def _traffic(nest: Nest, strides: Sequence[int], itemsize: int) -> int:
    return _product([n for n, s in zip(nest.sizes, strides, strict=True) if s]) * itemsize


def _cached(nest: Nest) -> list[Expression]:
    """Costly values that more than one loop over the row needs: kept in scratch after the first."""
    seen: dict[Expression, int] = {}
    loops = [[r.operand] for r in reductions(nest)] + [nest.roots]
    for roots in loops:
        for e in _until_reductions(roots):
            if isinstance(e, Op) and TABLE[e.name].expensive and e.dims & nest.reduced:
                seen[e] = seen.get(e, 0) + 1
    return [e for e, n in seen.items() if n > 1]


def _until_reductions(roots: Sequence[Expression]) -> list[Expression]:
    order, seen, stack = list[Expression](), set[int](), list(roots)
    while stack:
        e = stack.pop()
        if id(e) in seen or isinstance(e, Reduce):
            continue
        seen.add(id(e))
        order.append(e)
        stack.extend(e.inputs)
    return order


class _Writer:
    """Writes one tile of a row nest."""

    def __init__(
        self,
        f: Function,
        pointers: Mapping[str, Value],
        plan: InnerPlan,
        places: dict[Expression, int],
        guards: Sequence[Needed],
    ):
        self.f, self.plan, self.places = f, plan, places
        self.pointers, self.guards = pointers, guards
        self.last = len(plan.nest.sizes) - 1
        self.em = Emitter(f, pointers, self.last, plan.width)
        self.in_scratch: set[Expression] = set()
        self.low, self.high = f.index(0), f.index(plan.inner[-1])

    def write(self) -> None:
        """The whole tile."""
        f, plan = self.f, self.plan
        tile, roots = f.tile, plan.nest.roots
        if plan.chunks > 1:
            chunk = f.rem(tile, f.index(plan.chunks))
            tile = f.div(tile, f.index(plan.chunks))
            self.low = f.mul(chunk, f.index(plan.chunk))
            self.high = f.minimum(f.add(self.low, f.index(plan.chunk)), f.index(plan.inner[-1]))
        self.em.prepare(roots, frozenset())
        if plan.outer == 0:
            self._row(roots, frozenset())
            return
        start = f.mul(tile, f.index(plan.rows_per_tile))
        stop = f.minimum(f.add(start, f.index(plan.rows_per_tile)), f.index(plan.rows))
        with f.loop("row", start, stop) as row:
            rest = row.index
            for d in reversed(range(plan.outer)):
                n = plan.nest.sizes[d]
                self.em.index[d] = f.rem(rest, f.index(n)) if d else rest
                rest = f.div(rest, f.index(n)) if d else rest
            with self._where_needed():
                self.em.push()
                self.in_scratch = set()
                self._row(roots, frozenset(range(plan.outer)))
                self.em.pop()

    def _where_needed(self) -> AbstractContextManager[object]:
        """The rows that nobody needs are left out."""
        f, needed = self.f, None
        for guard in self.guards:
            row = f.index(0)
            for d, stride in enumerate(guard.strides[: self.plan.outer]):
                if stride:
                    row = f.add(row, f.mul(self.em.index[d], f.index(stride)))
            one = guard.rows.some(f, self.pointers, row, f.index(1))
            needed = one if needed is None else f.op("and", needed, one)
        return nullcontext() if needed is None else f.when(needed, "needed")

    def _row(self, roots: list[Expression], dims: frozenset[int]) -> None:
        nest, em = self.plan.nest, self.em
        em.prepare(roots, dims)
        done: list[Reduce] = []
        waiting = reductions(nest)
        while waiting:
            now = [r for r in waiting if r.level == waiting[0].level]
            waiting = waiting[len(now) :]
            for r, value in zip(now, self._reduce(now), strict=True):
                em.know(r, value)
            done += now
            em.prepare(roots, dims, done)
        inner = frozenset(range(self.plan.outer, len(nest.sizes)))
        full = [s for s in nest.stores if s.value.dims & inner or any(s.strides[d] for d in inner)]
        if full:
            self._loops(lambda copy, carried: self._store_all(full), [])
        em.store_all([s for s in nest.stores if s not in full])

    def _store_all(self, stores: list[Store]) -> list[Value]:
        self.em.store_all(stores)
        return []

    def _reduce(self, group: list[Reduce]) -> list[Value]:
        f, em, width = self.f, self.em, self.plan.width
        first = [identity(f, r.kind, r.dtype, vector(width, register_type(r.dtype))) for r in group]

        def body(copy: int, carried: list[Value]) -> list[Value]:
            out: list[Value] = []
            for r, total, start in zip(group, carried, first, strict=True):
                x = em.as_vector(r.operand, width)
                x = convert(f, x, r.operand.dtype, accumulator(r.dtype))
                if em.mask is not None:
                    x = f.select(em.mask, x, start)
                out.append(combine(f, r.kind, r.dtype, total, x))
            return out

        totals = self._loops(body, first, group)
        return [
            round_to(f, tree(f, r.kind, r.dtype, t), r.dtype)
            for r, t in zip(group, totals, strict=True)
        ]

    def _loops(self, body: Body, carry: list[Value], group: Sequence[Reduce] = ()) -> list[Value]:
        """Run body over the row: nested loops over the inner dimensions, vectors along the last."""
        self.stored: set[Expression] = set()
        results = self._nested(self.plan.outer, body, carry, group)
        self.in_scratch |= self.stored
        return results

    def _nested(
        self, dim: int, body: Body, carry: list[Value], group: Sequence[Reduce]
    ) -> list[Value]:
        f, em = self.f, self.em
        if dim == self.last:
            return self._lanes(body, carry, group)
        with f.loop("inner", 0, self.plan.nest.sizes[dim], carry=carry) as loop:
            em.index[dim] = loop.index
            em.push()
            loop.next(*self._nested(dim + 1, body, loop.carried, group))
            em.pop()
        return loop.results

    def _lanes(self, body: Body, carry: list[Value], group: Sequence[Reduce]) -> list[Value]:
        f, plan, width = self.f, self.plan, self.plan.width
        whole = plan.chunks <= 1
        size = plan.inner[-1]
        many = 0
        unroll = UNROLL if carry and whole and size >= 2 * UNROLL * width else 1
        if unroll > 1:
            many = size // (unroll * width) * (unroll * width)
            copies = [carry] + [
                [identity(f, r.kind, r.dtype, c.type) for r, c in zip(group, carry, strict=True)]
            ] * (unroll - 1)
            flat = [c for copy in copies for c in copy]
            with f.loop("block", 0, many, unroll * width, carry=flat) as loop:
                out: list[Value] = []
                n = len(carry)
                for copy in range(unroll):
                    at = f.add(loop.index, f.index(copy * width))
                    out += self._turn(at, None, copy, loop.carried[copy * n : (copy + 1) * n], body)
                loop.next(*out)
            merged = loop.results[: len(carry)]
            for copy in range(1, unroll):
                part = loop.results[copy * len(carry) : (copy + 1) * len(carry)]
                merged = [
                    combine(f, r.kind, r.dtype, a, b)
                    for r, a, b in zip(group, merged, part, strict=True)
                ]
            carry, start = merged, f.index(many)
        else:
            start = self.low
        if whole:
            full_stop, tail = f.index(size // width * width), size % width
        else:
            length = f.sub(self.high, self.low)
            full_stop = f.add(self.low, f.mul(f.div(length, f.index(width)), f.index(width)))
            tail = size % width
        if not whole or size // width * width > many:
            with f.loop("lane", start, full_stop, width, carry=carry) as loop:
                loop.next(*self._turn(loop.index, None, 0, loop.carried, body))
            carry = loop.results
        if tail:
            carry = self._tail(full_stop, carry, body, whole)
        return carry

    def _tail(self, start: Value, carry: list[Value], body: Body, whole: bool) -> list[Value]:
        """The last, partly filled vector; in a chunked loop only the last chunk has one."""
        f, width = self.f, self.plan.width
        left = f.sub(self.high, start) if not whole else f.index(self.plan.inner[-1] % width)
        mask = f.mask_below(width, left)
        if whole:
            return self._turn(start, mask, 0, carry, body)
        with f.when(f.compare("gt", left, f.index(0)), "tail"):
            self._turn(start, mask, 0, carry, body)
        return carry

    def _turn(
        self, at: Value, mask: Value | None, copy: int, carried: list[Value], body: Body
    ) -> list[Value]:
        em = self.em
        em.index[self.last], em.mask = at, mask
        em.push()
        here = self._scratch_index(at)
        for e in [e for e in self.places if e in self.in_scratch]:  # a set has no order
            em.know(e, self.f.load(self._place(e, here), self._scratch_vector(e), stem="kept"))
        out = body(copy, carried)
        for e in self.places:
            if e not in self.in_scratch and em.knows(e):
                self.f.store(em.as_vector(e, self.plan.width), self._place(e, here))
                self.stored.add(e)
        em.pop()
        em.mask = None
        return out

    def _scratch_vector(self, e: Expression) -> str:
        return vector(self.plan.width, register_type(e.dtype))

    def _scratch_index(self, at: Value) -> Value:
        f, total = self.f, at
        for d in range(self.plan.outer, self.last):
            step = _product(self.plan.nest.sizes[d + 1 :])
            total = f.add(total, f.mul(self.em.index[d], f.index(step)))
        return total

    def _place(self, e: Expression, here: Value) -> Value:
        base = self.f.at(self.f.scratch, self.f.index(self.places[e]), "i8")
        return self.f.at(base, here, register_type(e.dtype))
