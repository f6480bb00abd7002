"""From a fused loop nest to kernels: which loop form, and whether a reduction is done in two steps.

Knows nests, never graphs. A reduction with fewer results than there are tiles to share is cut into
parts of a fixed size; a second kernel combines the parts and does what comes after. The parts
depend on the program only, so the result does not depend on the number of threads. What was lowered
is remembered: equal layers of a model are written once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace

from tinytorch.codegen.kernel import Kernel, Lowered, Step
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops.elementwise import accumulator
from tinytorch.compiler.loops.expression import Expression, Load, Reduce, Store
from tinytorch.compiler.loops.inner_reductions import inner_kernel
from tinytorch.compiler.loops.nest import (
    Nest,
    arguments_of,
    normalise,
    rebuild,
    reduced_innermost,
    reductions,
    split_dimension,
)
from tinytorch.compiler.loops.outer_reductions import outer_kernel

MOST = 1024  # a kernel's text is about 50 KB, a large program has about a hundred different ones


class LoweredOnce:
    """A bounded table from a key to kernels; the entry used longest ago goes first."""

    def __init__(self, most: int = MOST):
        self._most = most
        self._held: OrderedDict[Hashable, Lowered] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Lowered]) -> Lowered:
        """The kernels of a key, made at most once while they are remembered."""
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = make()
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return found


LOWERED = LoweredOnce()

# A part of a reduction should be worth a tile of its own (see nest.TILE_UNITS).
MOST_PARTS = 16


def lower_nest(target: Target, nest: Nest) -> Lowered:
    """The kernels of one nest; buffers are called as in its loads and stores."""
    return LOWERED.get(("nest", target.key, nest.key()), lambda: _lower(target, nest))


def _lower(target: Target, nest: Nest) -> Lowered:
    nest = normalise(nest)
    if not nest.sizes:  # a single point: give it a dimension to loop over
        nest = _with_one_dimension(nest)
    if nest.reduced:
        parts = _parts(nest)
        if parts:
            return _in_two_steps(target, nest, *parts)
    return Lowered.of(_kernel(target, nest))


def _kernel(target: Target, nest: Nest) -> Kernel:
    """The loop form that fits: reduced dimensions innermost, or a kept one.

    A column kernel stores when its reduced loops are over: what is stored at each of their points
    needs rows, at the price of elements picked up one by one where memory runs the other way.
    """
    if not nest.reduced or _innermost(nest):
        return inner_kernel(target, nest)
    if len(nest.sizes) - 1 in nest.reduced or nest.inside:
        return inner_kernel(target, reduced_innermost(nest))
    return outer_kernel(target, nest)


def _with_one_dimension(nest: Nest) -> Nest:
    def strides(s: tuple[int, ...]) -> tuple[int, ...]:
        return (0,)

    new = rebuild(nest.roots, strides, lambda d: frozenset())
    stores = tuple(replace(s, strides=(0,), value=new[s.value]) for s in nest.stores)
    return Nest((1,), frozenset(), stores, nest.label)


def _innermost(nest: Nest) -> bool:
    """Whether the reduced dimensions are the innermost ones."""
    n = len(nest.sizes)
    return nest.reduced == frozenset(range(n - len(nest.reduced), n))


def _parts(nest: Nest) -> tuple[int, int] | None:
    """(dimension, number of parts) to cut, or None: enough independent results without."""
    if any(r.level > 1 for r in reductions(nest)) or not all(
        s.value.reductions for s in nest.stores
    ):
        return None
    if not nest.points:
        return None
    if nest.inside:
        return None
    kept = 1
    for d, n in enumerate(nest.sizes):
        kept *= 1 if d in nest.reduced else n
    independent = kept if _innermost(nest) else max(1, kept // 64)
    wanted = min(nest.tiles_wanted, MOST_PARTS)
    if independent * 2 > wanted:
        return None
    dim = max(nest.reduced, key=lambda d: nest.sizes[d])
    divisors = [p for p in range(2, 4 * MOST_PARTS) if nest.sizes[dim] % p == 0]
    good = [p for p in divisors if p <= wanted // independent] or divisors[:1]
    return (dim, good[-1]) if good else None


def _in_two_steps(target: Target, nest: Nest, dim: int, parts: int) -> Lowered:
    """Part sums into a temporary, (parts, reductions, kept sizes), then their combination."""
    cut = split_dimension(nest, dim, parts)
    inner = frozenset(cut.reduced - {dim})
    kept = [d for d in range(len(cut.sizes)) if d not in cut.reduced]
    strides, total = [0] * len(cut.sizes), 1
    for d in reversed([dim, *kept]):
        strides[d] = total
        total *= cut.sizes[d]
    temporaries, first = dict[str, int](), list[Store]()
    swap: dict[Expression, Expression] = {}
    partial = rebuild([r.operand for r in reductions(cut)], lambda s: s, lambda d: inner)
    for i, r in enumerate(reductions(cut)):
        name = f"temporary.part{i}"
        wide = accumulator(r.dtype)
        temporaries[name] = total * wide.itemsize
        value = Reduce(wide, r.kind, partial[r.operand], inner)
        first.append(Store(name, wide, tuple(strides), value))
        swap[r] = Reduce(r.dtype, r.kind, Load(wide, name, tuple(strides)), frozenset([dim]))
    new: dict[Expression, Expression] = rebuild(cut.roots, lambda s: s, lambda d: d, swap)
    second = [replace(s, value=new[s.value]) for s in cut.stores]
    sizes = [n if d == dim or d in kept else 1 for d, n in enumerate(cut.sizes)]
    steps: list[Step] = []
    for n in (
        Nest(cut.sizes, inner, tuple(first), nest.label + " (parts)"),
        Nest(tuple(sizes), frozenset([dim]), tuple(second), nest.label),
    ):
        kernel = _kernel(target, normalise(n))
        steps.append(Step(kernel, arguments_of(n.stores)))
    return Lowered(tuple(steps), temporaries)
