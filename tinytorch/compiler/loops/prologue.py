"""Arithmetic that makes an operand of a matrix product while it is read.

Knows expressions and the prologue protocol of the kernels, never graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from tinytorch.base.dtypes import uint32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import fetch, unravel
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops import elementwise
from tinytorch.compiler.loops.expression import (
    Constant,
    Emitter,
    Expression,
    Load,
    Op,
    Store,
    describe,
    topological,
)

TABLE_LANES = 16  # of AVX-512, and numbers of four bits


@dataclass(frozen=True, eq=False)
class FusedPrologue:
    """Elements of a matrix as an expression; equal ones are the same code.

    Args:
        value: the expression, float32.
        shape: the logical sizes it runs over.
        rows, columns: the logical axes of the matrix's two indices, outermost first.
        target: the machine, for the choice of instructions.
        bytes: of what it reads.
    """

    value: Expression
    shape: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    target: Target
    bytes: int

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        text = describe([Store("", self.value.dtype, (), self.value)])
        return f"{self.shape} {self.rows} {self.columns}\n{text}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FusedPrologue) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def loads(self) -> list[Load]:
        """What is read."""
        return [e for e in topological([self.value]) if isinstance(e, Load)]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the buffers read."""
        return tuple(dict.fromkeys(e.argument for e in self.loads))

    @property
    def along_rows(self) -> bool:
        """Whether the numbers it reads most of lie side by side along the row index."""
        return self._largest.strides[self._innermost(self.rows)] == 1

    @property
    def _largest(self) -> Load:
        """What it reads most numbers of."""
        return max(self.loads, key=lambda e: prod(self.shape[d] for d in e.dims))

    def _innermost(self, axes: tuple[int, ...]) -> int:
        """The last of some axes that is not of size 1."""
        return next((a for a in reversed(axes) if self.shape[a] != 1), axes[-1])

    def emit(
        self, f: Function, place: tuple[Value, Value], n: int, along_rows: bool, mask: Value |
        None, pointers: Mapping[str, Value], known: tuple[int, int] = (0, 1),
    ) -> Value:  # fmt: skip
        """Write the code for n elements from (row, column) on, along one of the two."""
        f.target = self.target
        axes = self.rows if along_rows else self.columns
        lane = self._innermost(axes) if n > 1 else None
        em = self._at(f, place, lane, n, pointers)
        em.index.update(self._ahead(f, axes, place[0 if along_rows else 1], known))
        em.mask = mask
        looked_up = (self.target.name, n) == ("avx512", TABLE_LANES)
        number = self._of_four_bits(lane) if looked_up else None
        if number is None:
            return em.as_vector(self.value, n)
        em.know(number, f.step(n, number.dtype.llvm))
        table = em.as_vector(self.value, n)  # of a group: what depends on no lane is in it
        which = _low_bits(f, em, number.operands[0], n)
        return f.call(table.type, "llvm.x86.avx512.permvar.sf.512", table, which)

    def _of_four_bits(self, lane: int | None) -> Op | None:
        """A number below 16, if the value depends on the lane by it alone: it has 16 values."""
        for number in topological([self.value]):
            if not (isinstance(number, Op) and number.name in elementwise.MASKS):
                continue
            mask = number.operands[1]
            if not (isinstance(mask, Constant) and mask.number == TABLE_LANES - 1):
                continue
            others = topological([self.value], lambda e, number=number: e is number)
            if not any(lane in e.dims for e in others if not e.inputs):
                return number
        return None

    def prefetch(
        self, f: Function, place: tuple[Value, Value], pointers: Mapping[str, Value]
    ) -> None:
        """Ask for the line of what it reads most of; a hint that never fails."""
        e, em = self._largest, self._at(f, place, None, 1, pointers)
        fetch(f, f.at(pointers[e.argument], em.offset(e.strides, e.offset), e.dtype.llvm))

    def _ahead(
        self, f: Function, axes: tuple[int, ...], at: Value, known: tuple[int, int]
    ) -> dict[int, Value]:
        """The index along some axes; along those that a turn runs over whole, a constant."""
        ahead, turn = known
        sizes = [self.shape[a] for a in axes]
        cut = next(i for i in range(1, len(sizes) + 1) if turn % prod(sizes[i:]) == 0)
        run = prod(sizes[cut:])  # numbers of the axes that are run over whole
        first = f.add(f.div(at, f.index(run), signed=False), f.index(ahead // run))
        inside = (f.index(int(i)) for i in np.unravel_index(ahead % run, sizes[cut:]))
        return dict(zip(axes, (*unravel(f, first, sizes[:cut]), *inside), strict=True))

    def _at(
        self, f: Function, place: tuple[Value, Value], lane: int | None, n: int, pointers:
        Mapping[str, Value],
    ) -> Emitter:  # fmt: skip
        """What writes expressions at a place of the matrix."""
        em = Emitter(f, pointers, lane, n)
        for axes, at in zip((self.rows, self.columns), place, strict=True):
            index = unravel(f, at, [self.shape[a] for a in axes])
            em.index.update(zip(axes, index, strict=True))
        return em


def _low_bits(f: Function, em: Emitter, e: Expression, n: int) -> Value:
    """An integer in words of 32 bits, right in its four lowest: a shift needs no mask there."""
    if isinstance(e, Op) and e.name in elementwise.SHIFTS and e.dtype.kind == "u":
        x, by = (_words(f, em, v, n) for v in e.operands)
        return elementwise.emit(f, "shift_right", [x, by], [uint32, uint32], uint32)
    return _words(f, em, e, n)


def _words(f: Function, em: Emitter, e: Expression, n: int) -> Value:
    """An integer, widened before all else: LLVM would shift bytes, which takes three instructions
    each time, and widen what it gets; it does not look through a fence of floats."""
    wide = f.convert(em.as_vector(e, n), vector(n, "i32"), signed=False)
    if em.lane not in e.dims:
        return wide
    floats = f.bitcast(wide, vector(n, "float"))
    return f.bitcast(f.intrinsic("arithmetic.fence", floats.type, floats), wide.type)
