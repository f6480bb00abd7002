"""What one attention is: sizes, layouts, and how a kernel finds a head's rows.

Knows sizes and strides; never register tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Operand

LOWEST = -3.0e38  # below every finite logit, and finite itself: lowest - lowest is 0, not NaN
PAGE = 4096  # bytes; rows this far apart fall into the same set of a first-level cache


@dataclass(frozen=True)
class AttentionSpec:
    """One attention: q (B, A, T, D), k and v (B, A, S, D) -> out (B, A, T, D), lse (B, A, T).

    Args:
        batch, heads, queries, keys, size: B, A, T, S, D.
        causal: query t sees keys s <= t + S - T.
        scale: factor of the logits.
        q, k, v, out, lse: where each lies; lse is the log of the sum of a row's exponentials.
    """

    batch: int
    heads: int
    queries: int
    keys: int
    size: int
    causal: bool
    scale: float
    q: Operand
    k: Operand
    v: Operand
    out: Operand
    lse: Operand

    @property
    def compute(self) -> DType:
        """The type of products, sums and statistics."""
        return float64 if self.q.dtype is float64 else float32

    @property
    def shift(self) -> int:
        """The last key that query 0 sees, when causal."""
        return self.keys - self.queries

    @property
    def pairs(self) -> int:
        """(query, key) pairs that count, over all heads."""
        seen = self.queries * self.keys
        if self.causal:
            seen = sum(min(max(t + self.shift + 1, 0), self.keys) for t in range(self.queries))
        return self.batch * self.heads * seen


@dataclass(frozen=True)
class AttentionGradientSpec:
    """The gradient of one attention.

    Args:
        forward: the attention.
        g: (B, A, T, D), the cotangent of its out.
        g_q, g_k, g_v: where the gradients go.
    """

    forward: AttentionSpec
    g: Operand
    g_q: Operand
    g_k: Operand
    g_v: Operand


def head_pointer(f: Function, pointer: Value, operand: Operand, b: Value, a: Value) -> Value:
    """Where the rows of head (b, a) begin."""
    offset = f.add(f.mul(b, f.index(operand.strides[0])), f.mul(a, f.index(operand.strides[1])))
    return f.at(pointer, f.add(offset, f.index(operand.offset)), operand.dtype.llvm, "head")


def rows_from(
    head: Value, operand: Operand, first: Value, count: int, ragged: bool
) -> Callable[[Function, Value], Value]:
    """Gives the address of row `first` + i; if ragged, rows beyond `count` are the last row."""

    def pointer(f: Function, i: Value) -> Value:
        row = f.add(first, i)
        if ragged:
            row = f.minimum(row, f.index(count - 1))
        return f.at(head, f.mul(row, f.index(operand.strides[2])), operand.dtype.llvm, "row")

    return pointer


def must_copy(operand: Operand, compute: DType) -> bool:
    """Whether rows cannot be read where they lie: another type, spread out, bad for the cache."""
    return (
        operand.dtype is not compute
        or operand.strides[3] != 1
        or operand.strides[2] * compute.itemsize % PAGE == 0
    )
