"""Arithmetic on the result of a matrix product while it is in registers.

Knows expressions and the epilogue protocol of the kernels, never graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinytorch.codegen.builder import lanes
from tinytorch.compiler.arithmetic import Given
from tinytorch.compiler.elementwise import round_to
from tinytorch.compiler.expression import Emitter, Expression, Iota, Load, Store, describe, flops_per_point, topological
from tinytorch.compiler.nest import arguments_of, rebuild


@dataclass(frozen=True, eq=False)
class FusedEpilogue:
    """Stores of expressions over the logical output axes (*batch, m, n), one of which is the product.

    Args:
        stores: what is written; the product is the `Given` expression.
        given: that expression.
        rows: sizes of the row axes that the kernel runs over as one (its index is (row, n) then);
            empty where the kernel's index is the logical one.
    """

    stores: tuple[Store, ...]
    given: Given
    rows: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        return f"{self.rows}\n{describe(self.stores)}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the buffers read and written."""
        return arguments_of(self.stores)

    def flops(self) -> int:
        """Operations on each element."""
        return flops_per_point(self.stores)

    def emit(self, f, value, index, mask, pointers) -> None:
        """Write the code for one vector of results."""
        if self.rows:
            index = (*_unravel(f, index[0], self.rows), index[1])
        em = Emitter(f, pointers, len(index) - 1, lanes(value.type))
        em.index, em.mask = dict(enumerate(index)), mask
        em.know(self.given, round_to(f, value, self.given.dtype))
        for s in self.stores:
            em.store(s)


def _unravel(f, row, sizes: Sequence[int]):
    out = []
    for d in reversed(range(len(sizes))):
        out.append(f.rem(row, f.index(sizes[d])) if d else row)
        row = f.div(row, f.index(sizes[d])) if d else row
    return out[::-1]


def merge_rows(epilogue: FusedEpilogue, shape: Sequence[int]) -> FusedEpilogue:
    """The epilogue for a kernel that runs over the axes but the last as one.

    Where every array runs through these axes as one, so do the expressions; else the row number is
    taken apart for each vector.
    """
    rows = tuple(shape[:-1])
    if len(rows) == 1:
        return epilogue
    indexed = [e.strides for e in topological([s.value for s in epilogue.stores]) if isinstance(e, Load | Iota)]
    indexed += [s.strides for s in epilogue.stores]
    live = [d for d in range(len(rows)) if rows[d] != 1]
    joint = all(
        s[a] == s[b] * _between(rows, a, b) for s in indexed for a, b in zip(live, live[1:], strict=False)
    )
    if not joint:
        return replace(epilogue, rows=rows)
    last = live[-1] if live else 0
    given = Given(epilogue.given.dtype, 2)

    def strides(s: tuple[int, ...]) -> tuple[int, ...]:
        return (s[last], s[-1])

    swap: dict[Expression, Expression] = {epilogue.given: given}
    new = rebuild([s.value for s in epilogue.stores], strides, lambda d: d, swap)
    stores = tuple(replace(s, strides=strides(s.strides), value=new[s.value]) for s in epilogue.stores)
    return FusedEpilogue(stores, given)


def _between(sizes: Sequence[int], a: int, b: int) -> int:
    total = 1
    for n in sizes[a + 1 : b + 1]:
        total *= n
    return total
