"""Arithmetic on the result of a matrix product while it is in registers.

Knows expressions and the epilogue protocol of the kernels, never graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinytorch.codegen.builder import lanes
from tinytorch.compiler.arithmetic import Given
from tinytorch.compiler.elementwise import round_to
from tinytorch.compiler.expression import Emitter, Iota, Load, Store, describe, flops_per_point, topological
from tinytorch.compiler.nest import arguments_of, rebuild


@dataclass(frozen=True, eq=False)
class FusedEpilogue:
    """Stores of expressions over the logical axes of a result that a kernel holds in registers.

    Args:
        stores: what is written; the result is the `given` expression.
        given: that expression.
        shape: the logical sizes.
        rows: the logical axes that the kernel's row index runs over, outermost first.
        column: the logical axis along the lanes.
        batch: leading kernel indices that are logical axes of their own, in order.
        shift: added to the kernel's column index.
    """

    stores: tuple[Store, ...]
    given: Given
    shape: tuple[int, ...]
    rows: tuple[int, ...]
    column: int
    batch: tuple[int, ...] = ()
    shift: int = 0

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        return f"{self.shape} {self.rows} {self.column} {self.batch} {self.shift}\n{describe(self.stores)}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the buffers read and written."""
        return arguments_of(self.stores)

    def flops(self) -> int:
        """Operations on each element."""
        return flops_per_point(self.stores)

    def emit(self, f, value, index, mask, pointers) -> None:
        """Write the code for one vector of results."""
        em = Emitter(f, pointers, self.column, lanes(value.type))
        em.mask = mask
        em.index = dict(zip(self.batch, index, strict=False))
        em.index[self.column] = f.add(index[-1], f.index(self.shift))
        row = index[-2]
        for place, d in reversed(list(enumerate(self.rows))):
            em.index[d] = f.rem(row, f.index(self.shape[d])) if place else row
            row = f.div(row, f.index(self.shape[d])) if place else row
        em.know(self.given, round_to(f, value, self.given.dtype))
        for s in self.stores:
            em.store(s)


def joined(epilogue: FusedEpilogue) -> FusedEpilogue:
    """The epilogue with its row axes as one, where every array runs through them as one.

    Without this the row number is taken apart for each vector.
    """
    indexed = [e.strides for e in topological([s.value for s in epilogue.stores]) if isinstance(e, Load | Iota)]
    indexed += [s.strides for s in epilogue.stores]
    live = [d for d in epilogue.rows if epilogue.shape[d] != 1]
    pairs = list(zip(live, live[1:], strict=False))
    if not pairs or not all(s[a] == s[b] * epilogue.shape[b] for s in indexed for a, b in pairs):
        return epilogue
    last = live[-1]
    rank = len(epilogue.shape)
    given = Given(epilogue.given.dtype, rank)
    gone = set(epilogue.rows) - {last}

    def strides(s: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(0 if d in gone else x for d, x in enumerate(s))

    new = rebuild([s.value for s in epilogue.stores], strides, lambda d: d, {epilogue.given: given})
    stores = tuple(replace(s, strides=strides(s.strides), value=new[s.value]) for s in epilogue.stores)
    return replace(epilogue, stores=stores, given=given, rows=(last,))
