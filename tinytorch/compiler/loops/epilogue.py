"""Arithmetic on the result of a matrix product while it is in registers.

Knows expressions and the epilogue protocol of the kernels, never graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tinytorch.codegen.builder import Function, Value, lanes
from tinytorch.codegen.kernel import Lowered, NeededRows
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops.elementwise import round_to
from tinytorch.compiler.loops.expression import (
    Emitter,
    InRegisters,
    Iota,
    Load,
    Store,
    describe,
    flops_per_point,
    topological,
)
from tinytorch.compiler.loops.lower_nest import LOWERED
from tinytorch.compiler.loops.nest import arguments_of, rebuild
from tinytorch.kernels.gemm import lower_gemm
from tinytorch.kernels.gemm_plan import GemmSpec


@dataclass(frozen=True, eq=False)
class FusedEpilogue:
    """Stores of expressions over the logical axes of a result that a kernel holds in registers.

    Args:
        stores: what is written; the result is the `given` expression.
        given: that expression.
        shape: the logical sizes.
        rows: the logical axes that the kernel's row index runs over, outermost first.
        column: the logical axis along the lanes.
        target: the machine, for the choice of instructions.
        batch: leading kernel indices that are logical axes of their own, in order.
        shift: added to the kernel's column index.
        begins: bytes at which its buffers begin in their memory; no part of the code.
    """

    stores: tuple[Store, ...]
    given: InRegisters
    shape: tuple[int, ...]
    rows: tuple[int, ...]
    column: int
    target: Target
    batch: tuple[int, ...] = ()
    shift: int = 0
    begins: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        place = f"{self.shape} {self.rows} {self.column} {self.batch} {self.shift}"
        return f"{place}\n{describe(self.stores)}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the buffers read and written."""
        return arguments_of(self.stores)

    def flops(self) -> int:
        """Operations on each element."""
        return flops_per_point(self.stores)

    def emit(
        self, f: Function, value: Value, index: Sequence[Value], mask: Value | None,
        pointers: Mapping[str, Value],
    ) -> None:  # fmt: skip
        """Write the code for one vector of results."""
        f.target = self.target
        em = Emitter(f, pointers, self.column, lanes(value.type))
        em.mask, em.index = mask, self._logical(f, index)
        if not self.given.dtype.is_float:  # sums of narrow integers are wider
            value = f.convert(value, self.given.dtype.llvm)
        em.know(self.given, round_to(f, value, self.given.dtype))
        em.store_all(self.stores)

    def prefetch(self, f: Function, index: Sequence[Value], pointers: Mapping[str, Value]) -> None:
        """Ask for the lines that the loads along the columns will read."""
        loads = [
            e for e in topological(s.value for s in self.stores)
            if isinstance(e, Load) and e.strides[self.column] == 1 and not e.lookup
            and any(e.strides[d] for d in self.rows)
        ]  # fmt: skip
        em = Emitter(f, pointers, self.column, 1)
        em.index = self._logical(f, index) if loads else {}
        for e in loads:
            place = f.at(pointers[e.argument], em.offset(e.strides, e.offset), e.dtype.llvm)
            # read, keep in all caches, data
            f.call(
                "void",
                "llvm.prefetch.p0",
                place,
                f.const("i32", 0),
                f.const("i32", 3),
                f.const("i32", 1),
            )

    def _logical(self, f: Function, index: Sequence[Value]) -> dict[int, Value]:
        """The index of each logical axis from the kernel's (batch..., row, column)."""
        found = dict(zip(self.batch, index, strict=False))
        found[self.column] = f.add(index[-1], f.index(self.shift))
        row = index[-2]
        for place, d in reversed(list(enumerate(self.rows))):
            found[d] = f.rem(row, f.index(self.shape[d])) if place else row
            row = f.div(row, f.index(self.shape[d])) if place else row
        return found


def joined(epilogue: FusedEpilogue) -> FusedEpilogue:
    """The epilogue with its row axes as one, where every array runs through them as one.

    Without this the row number is taken apart for each vector.
    """
    indexed = [
        e.strides
        for e in topological([s.value for s in epilogue.stores])
        if isinstance(e, Load | Iota)
    ]
    indexed += [s.strides for s in epilogue.stores]
    live = [d for d in epilogue.rows if epilogue.shape[d] != 1]
    pairs = list(zip(live, live[1:], strict=False))
    if not pairs or not all(s[a] == s[b] * epilogue.shape[b] for s in indexed for a, b in pairs):
        return epilogue
    last = live[-1]
    rank = len(epilogue.shape)
    given = InRegisters(epilogue.given.dtype, rank)
    gone = set(epilogue.rows) - {last}

    def strides(s: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(0 if d in gone else x for d, x in enumerate(s))

    new = rebuild([s.value for s in epilogue.stores], strides, lambda d: d, {epilogue.given: given})
    stores = tuple(
        replace(s, strides=strides(s.strides), value=new[s.value]) for s in epilogue.stores
    )
    return replace(epilogue, stores=stores, given=given, rows=(last,))


def lower_product(
    target: Target, spec: GemmSpec, epilogue: FusedEpilogue, needed: NeededRows = ()
) -> Lowered:
    """The kernels of a matrix product with its epilogue; equal ones are written once."""
    key = ("gemm", target.key, spec, epilogue.arguments, epilogue.key, needed)
    return LOWERED.get(key, lambda: lower_gemm(target, spec, epilogue, needed))
