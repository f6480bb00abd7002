"""Arithmetic that makes an operand of a matrix product while it is read.

Knows expressions and the prologue protocol of the kernels, never graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import unravel
from tinytorch.codegen.target import Target
from tinytorch.compiler.loops.expression import (
    Emitter,
    Expression,
    Load,
    Store,
    describe,
    topological,
)
from tinytorch.kernels.register_tile import fetch


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
        None, pointers: Mapping[str, Value],
    ) -> Value:  # fmt: skip
        """Write the code for n elements from (row, column) on, along one of the two."""
        f.target = self.target
        lane = self._innermost(self.rows if along_rows else self.columns) if n > 1 else None
        em = self._at(f, place, lane, n, pointers)
        em.mask = mask
        return em.as_vector(self.value, n)

    def prefetch(
        self, f: Function, place: tuple[Value, Value], pointers: Mapping[str, Value]
    ) -> None:
        """Ask for the line of what it reads most of; a hint that never fails."""
        e, em = self._largest, self._at(f, place, None, 1, pointers)
        fetch(f, f.at(pointers[e.argument], em.offset(e.strides, e.offset), e.dtype.llvm), 0)

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
