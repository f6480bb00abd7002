"""One fused loop nest in normal form: sizes, which dimensions are reduced, and what is stored.

Knows expressions and sizes, never instructions. `normalise` merges and drops dimensions, so that a
plain elementwise chain over a dense (B, T, C) array becomes one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import RaggedRows
from tinytorch.compiler.loops.expression import (
    Expression,
    Iota,
    Load,
    Op,
    Reduce,
    Store,
    describe,
    expensive_among,
    topological,
)
from tinytorch.compiler.plan.access import bounds, nested

# A tile should take about 10 us, so that taking it (0.1 us) costs nothing; on 2 cores more tiles
# than 64 balance no better. One unit is one element read, written or cheaply computed: 0.2 ns.
TILE_UNITS = 50_000
MOST_TILES = 64


@dataclass(frozen=True)
class Needed:
    """Points beyond a length that is known at run time, which need not be computed.

    Args:
        rows: which rows they are.
        strides: of each dimension, in rows.
    """

    rows: RaggedRows
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Nest:
    """A loop nest over `sizes`; `reduced` dimensions are summed away by the Reduce expressions.

    Args:
        sizes: iterations of each dimension, outermost first.
        reduced: the dimensions every Reduce of this nest runs over (empty: none).
        stores: what is written where.
        label: the operations in it, for `explain()`.
        guards: what need not be computed; a kernel may compute it all the same.
    """

    sizes: tuple[int, ...]
    reduced: frozenset[int]
    stores: tuple[Store, ...]
    label: str = ""
    guards: tuple[Needed, ...] = ()

    @property
    def points(self) -> int:
        """Iterations in all."""
        n = 1
        for s in self.sizes:
            n *= s
        return n

    @property
    def roots(self) -> list[Expression]:
        """The stored expressions."""
        return [s.value for s in self.stores]

    @property
    def inside(self) -> list[Store]:
        """The stores with a place for each point, not for each result of the reductions."""
        return [
            s for s in self.stores
            if s.value.dims & self.reduced or any(s.strides[d] for d in self.reduced)
        ]  # fmt: skip

    @property
    def units(self) -> int:
        """A rough measure of the work, for the choice of tiles."""
        order = topological(self.roots)
        loads = sum(isinstance(e, Load) for e in order)
        costly = sum(isinstance(e, Op) for e in expensive_among(order))
        return self.points * (loads + len(self.stores) + 2 * costly + len(order) // 4)

    @property
    def tiles_wanted(self) -> int:
        """How many tiles would be good."""
        return max(1, min(MOST_TILES, self.units // TILE_UNITS))

    def key(self) -> str:
        """Text that is equal exactly when the loops are."""
        guards = f" {self.guards}" if self.guards else ""
        return f"{self.sizes} {sorted(self.reduced)}{guards}\n{describe(self.stores)}"


def verify_nest(nest: Nest, nbytes: Mapping[str, int]) -> Nest:
    """Check that its loops read and write inside their buffers, each place by one turn.

    Args:
        nest: as it was made, not yet normalised.
        nbytes: of each buffer it names.

    Raises:
        CompileError: a load or store reaches outside its buffer; what is stored differs from turn
            to turn of a loop that its place does not follow; a reduction runs over other loops;
            or a buffer is read where another turn writes it.
    """

    def refuse(problem: str, got: object) -> None:
        raise CompileError.own_fault(
            f"the lowering made an invalid kernel: {problem}",
            got=f"{got} in {nest.label or 'a kernel'}",
            rule="loads and stores inside their buffers, each place written by one turn",
        )

    def check_inside(e: Load | Store, low: int, high: int) -> None:
        if low < 0 or (high + 1) * e.dtype.itemsize > nbytes[e.argument]:
            refuse("it reaches outside a buffer", f"{low} to {high} of {nbytes[e.argument]} bytes")

    sizes = nest.sizes
    if not nest.points:
        return nest
    written: dict[str, list[Store]] = {}
    for s in nest.stores:
        check_inside(s, *bounds(s.strides, sizes, s.offset))
        still = [d for d, n in enumerate(sizes) if n > 1 and not s.strides[d]]
        if not s.value.dims.isdisjoint(still):
            refuse("turns of a loop write different numbers to one place", s.strides)
        if not nested(s.strides, [1 if d in still else n for d, n in enumerate(sizes)]):
            refuse("two turns of its loops write one place", s.strides)
        written.setdefault(s.argument, []).append(s)
    for e in topological(nest.roots):
        if isinstance(e, Reduce) and e.over != nest.reduced:
            refuse("a reduction runs over other loops", sorted(e.over))
        if isinstance(e, Load) and all(n for *_, n in e.lookup):  # else a check of indices refuses
            low, high = bounds(e.strides, sizes, e.offset)
            reach = [stride * (n - 1) for _, stride, n in e.lookup]
            check_inside(
                e, low + sum(min(r, 0) for r in reach), high + sum(max(r, 0) for r in reach)
            )
            if any(_crosses(e, s, sizes) for s in written.get(e.argument, ())):
                refuse("it reads what another of its turns writes", e.strides)
    return nest


def _crosses(e: Load, s: Store, sizes: Sequence[int]) -> bool:
    """Whether a load surely meets a store of another turn: whole steps of one loop lie between."""
    if e.lookup or e.strides != s.strides:
        return False
    gap = abs(e.offset - s.offset)
    steps = ((abs(stride), n) for stride, n in zip(s.strides, sizes, strict=True) if stride)
    return gap > 0 and any(gap % stride == 0 and gap // stride < n for stride, n in steps)


def arguments_of(stores: Sequence[Store]) -> tuple[str, ...]:
    """Names of all buffers read or written, each once, in a fixed order."""
    names = [e.argument for e in topological(s.value for s in stores) if isinstance(e, Load)]
    return tuple(dict.fromkeys([*names, *(s.argument for s in stores)]))


def rebuild(
    roots: Sequence[Expression],
    strides: Callable[[tuple[int, ...]], tuple[int, ...]],
    dims: Callable[[frozenset[int]], frozenset[int]],
    swap: dict[Expression, Expression] | None = None,
    less: Mapping[str, int] | None = None,
) -> dict[Expression, Expression]:
    """The same DAG with other strides and dimensions.

    Args:
        swap: gives some expressions outright.
        less: elements by which loads of a buffer are moved towards its beginning.
    """
    new: dict[Expression, Expression] = dict(swap or {})
    for e in topological(roots):
        if e in new:
            continue
        if isinstance(e, Load):
            lookup = tuple((new[i], s, n) for i, s, n in e.lookup)
            offset = e.offset - (less or {}).get(e.argument, 0)
            new[e] = Load(e.dtype, e.argument, strides(e.strides), offset, lookup)
        elif isinstance(e, Iota):
            new[e] = Iota(e.dtype, strides(e.strides), e.offset)
        elif isinstance(e, Op):
            new[e] = Op(e.dtype, e.name, tuple(new[x] for x in e.operands))
        elif isinstance(e, Reduce):
            new[e] = Reduce(e.dtype, e.kind, new[e.operand], dims(e.over))
        else:
            new[e] = e
    return new


def from_first(stores: Sequence[Store]) -> tuple[tuple[Store, ...], dict[str, int]]:
    """The stores with each buffer counted from the lowest offset that is used, and that in bytes.

    So a kernel does not know where in its memory it works: rows of a table, steps of a sequence.
    """
    order = topological(s.value for s in stores)
    used: dict[str, list[Load | Store]] = {}
    for e in (*(e for e in order if isinstance(e, Load)), *stores):
        used.setdefault(e.argument, []).append(e)
    firsts = {
        name: min(e.offset for e in uses)
        for name, uses in used.items()
        if len({e.dtype.itemsize for e in uses}) == 1
    }
    begins = {n: first * used[n][0].dtype.itemsize for n, first in firsts.items() if first > 0}
    if not begins:
        return tuple(stores), {}
    less = {n: firsts[n] for n in begins}
    new = rebuild([s.value for s in stores], lambda s: s, lambda d: d, less=less)
    return tuple(
        replace(s, value=new[s.value], offset=s.offset - less.get(s.argument, 0)) for s in stores
    ), begins


def _with_dims(nest: Nest, keep: list[int], sizes: Sequence[int]) -> Nest:
    """Only the dimensions `keep`, in that order, with new sizes."""
    place = {old: i for i, old in enumerate(keep)}

    def dims(old: frozenset[int]) -> frozenset[int]:
        return frozenset(place[d] for d in old if d in place)

    def strides(s: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(s[d] for d in keep)

    new = rebuild(nest.roots, strides, dims)
    stores = tuple(replace(s, strides=strides(s.strides), value=new[s.value]) for s in nest.stores)
    guards = tuple(replace(g, strides=strides(g.strides)) for g in nest.guards)
    return Nest(tuple(sizes), dims(nest.reduced), stores, nest.label, guards)


def all_strides(nest: Nest) -> list[tuple[int, ...]]:
    """The strides of every load, store and iota."""
    indexed = [e.strides for e in topological(nest.roots) if isinstance(e, Load | Iota)]
    return indexed + [s.strides for s in (*nest.stores, *nest.guards)]


def _order(nest: Nest) -> list[int]:
    """Dimensions from the largest stores' strides to the smallest, size-1 dimensions dropped.

    The written array decides, because a scattered write costs more than a scattered read; where it
    says nothing (a reduced dimension), the arrays read do.
    """
    dims = [d for d, n in enumerate(nest.sizes) if n != 1]
    written = [
        s.strides for s in nest.stores if all(s.strides[d] for d in dims if d not in nest.reduced)
    ]
    read = sorted(
        (e.strides for e in topological(nest.roots) if isinstance(e, Load)),
        key=lambda s: -sum(bool(x) for x in s),
    )
    if nest.reduced:
        whole = [s for s in read if all(s[d] for d in dims)][:1]
        inside = [s.strides for s in nest.inside if all(s.strides[d] for d in dims)][:1]
        guides = (whole or inside) + written
    else:
        guides = written[:1]
    guides += read
    order: list[int] = []
    rest = set(dims)
    for (
        strides
    ) in guides:  # innermost first: smallest non-zero stride of the first guide that has one
        for d in sorted((d for d in rest if strides[d]), key=lambda d: (abs(strides[d]), -d)):
            order.append(d)
            rest.discard(d)
    order += sorted(rest, reverse=True)
    return order[::-1]


def normalise(nest: Nest) -> Nest:
    """Order dimensions by memory, drop those of size 1, merge neighbours that are one in memory."""
    keep = _order(nest)
    nest = _with_dims(nest, keep, [nest.sizes[d] for d in keep])
    d = 0
    while d + 1 < len(nest.sizes):
        inner = nest.sizes[d + 1]
        same_kind = (d in nest.reduced) == (d + 1 in nest.reduced)
        if same_kind and all(s[d] == s[d + 1] * inner for s in all_strides(nest)):
            sizes = [*nest.sizes[:d], nest.sizes[d] * inner, *nest.sizes[d + 2 :]]
            keep = [i for i in range(len(nest.sizes)) if i != d]
            nest = _with_dims(nest, keep, sizes)
        else:
            d += 1
    return nest


def reduced_innermost(nest: Nest) -> Nest:
    """The kept dimensions first, then the reduced ones."""
    keep = sorted(range(len(nest.sizes)), key=lambda d: d in nest.reduced)
    return _with_dims(nest, keep, [nest.sizes[d] for d in keep])


def split_dimension(nest: Nest, dim: int, parts: int) -> Nest:
    """Dimension `dim` as two: `parts` outer turns of size/parts inner ones (it must divide)."""
    inner = nest.sizes[dim] // parts

    def strides(s: tuple[int, ...]) -> tuple[int, ...]:
        return (*s[:dim], s[dim] * inner, s[dim], *s[dim + 1 :])

    def dims(old: frozenset[int]) -> frozenset[int]:
        grown = {d if d < dim else d + 1 for d in old if d != dim}
        return frozenset(grown | ({dim, dim + 1} if dim in old else set()))

    new = rebuild(nest.roots, strides, dims)
    stores = tuple(replace(s, strides=strides(s.strides), value=new[s.value]) for s in nest.stores)
    sizes = (*nest.sizes[:dim], parts, inner, *nest.sizes[dim + 1 :])
    return Nest(sizes, dims(nest.reduced), stores, nest.label)


def reductions(nest: Nest) -> list[Reduce]:
    """All Reduce expressions, those that must be finished first in front."""
    found = [e for e in topological(nest.roots) if isinstance(e, Reduce)]
    return sorted(found, key=lambda r: r.level)
