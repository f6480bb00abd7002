"""What one attention is: sizes, layouts, and how a kernel finds a head's rows.

Knows sizes and strides; never register tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.codegen.builder import Function, Value, element, lanes, vector
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.vector_math import log, muladd
from tinytorch.kernels.packing import load_row_piece
from tinytorch.kernels.register_tile import sum_of_lanes

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


# MERGED tinytorch.kernels.attention_spec: Which keys a block of queries sees: the walk over key
# blocks, and the mask along the diagonal.
#
# Knows sizes and loop bounds, and the sum over the keys that are seen; never softmax. Blocks that
# nobody sees are never visited.

# visit(s, count, masked): take the keys s .. s + count - 1; masked: some queries miss some of them
Visit = Callable[[Value, int, bool], None]


@dataclass(frozen=True)
class KeyWalk:
    """The key blocks of one attention.

    Args:
        spec: the attention.
        block: queries of a block.
        step: keys of a whole block.
        small: keys of a block on the diagonal; divides `step`.
    """

    spec: AttentionSpec
    block: int
    step: int
    small: int

    @classmethod
    def of(cls, spec: AttentionSpec, block: int, keys: int) -> KeyWalk:
        """The walk whose whole blocks have about `keys` keys."""
        small = max(1, min(block, spec.keys))
        return cls(spec, block, max(small, min(keys, spec.keys) // small * small), small)

    def visit(self, f: Function, t: Value, first: Value, last: Value, visit: Visit) -> None:
        """Visit the keys in [first, last) that the queries t .. t + block - 1 see, in order.

        Args:
            first, last: multiples of `step`, or `last` the number of keys.
        """
        spec = self.spec
        if spec.causal:
            self._visit_causal(f, t, first, last, visit)
            return
        rest = spec.keys % self.step
        stop = f.minimum(last, f.index(spec.keys - rest)) if rest else last
        with f.loop("keys", first, stop, self.step) as s:
            visit(s.index, self.step, False)
        if rest:
            with f.when(f.compare("eq", last, f.index(spec.keys))):
                visit(f.index(spec.keys - rest), rest, False)

    def _visit_causal(self, f, t, first, last, visit) -> None:
        spec, step = self.spec, f.index(self.step)
        everyone = f.add(t, f.index(spec.shift + 1), "everyone")
        everyone = f.minimum(f.maximum(everyone, first), last)
        whole = f.add(f.mul(f.div(f.sub(everyone, first), step), step), first, "whole")
        with f.loop("keys", first, whole, self.step) as s:
            visit(s.index, self.step, False)
        anyone = f.minimum(f.add(t, f.index(spec.shift + self.block), "anyone"), last)
        rest = spec.keys % self.small
        stop = f.minimum(anyone, f.index(spec.keys - rest)) if rest else anyone
        with f.loop("diagonal", whole, stop, self.small) as s:
            visit(s.index, self.small, True)
        if rest:
            with f.when(f.compare("gt", anyone, f.index(spec.keys - rest))):
                visit(f.index(spec.keys - rest), rest, True)

    def last_seen(self, f: Function, n: int, t: Value, s: Value) -> Value:
        """For the queries t .. t + n - 1, lane by lane, the last key seen, counted from key s."""
        last = f.convert(f.sub(f.add(t, f.index(self.spec.shift)), s), "i32")
        return f.add(f.splat(last, n), f.step(n, "i32"), "seen")


@dataclass(frozen=True)
class KeyRows:
    """Rows of k or v, as a product reads them: `size` numbers side by side."""

    pointer: Value
    stride: int
    size: int
    type: str

    def piece(self, f: Function, n: int, s: Value, column: int) -> Value:
        """n numbers of row s from a column on; 0 behind the end."""
        at = f.at(self.pointer, f.add(f.mul(s, f.index(self.stride)), f.index(column)), self.type)
        return load_row_piece(f, at, self.type, 1, n, self.size - column, self.type)

    def finite(self, f: Function, n: int, count: int) -> Value:
        """Whether the first `count` rows hold no infinity and no NaN: then x - x is 0 everywhere.

        A key that a query does not see has the weight 0, and 0 times infinity is no number: where
        some queries miss some keys, a product is the sum over the seen ones only if this holds.
        """
        columns = range(0, self.size, n)
        zero = f.const(vector(n, self.type), 0.0)
        with f.loop("s", 0, count, carry=[zero] * len(columns)) as s:  # chains side by side
            pieces = [self.piece(f, n, s.index, column) for column in columns]
            s.next(*(f.add(t, f.sub(x, x)) for t, x in zip(s.carried, pieces, strict=True)))
        total = sum_of_lanes(f, reduce(f.add, s.results, zero))
        return f.compare("eq", total, f.const(self.type, 0.0), stem="finite")

    def add_seen(self, f: Function, n: int, walk: KeyWalk, first, count: int, factor, out) -> None:
        """out row t += sum over the keys s that query t sees of factor(t, s) * row s, key by key.

        Args:
            first: the query and the key that t = 0 and s = 0 stand for.
            count: keys.
            factor: gives the address of a number.
            out: gives the address of `n` numbers of a row, from a column on.
        """
        t0, s0 = first
        with f.loop("t", 0, walk.block) as t:
            seen = f.sub(f.add(f.add(t0, t.index), f.index(walk.spec.shift + 1)), s0)
            stop = f.minimum(f.index(count), f.maximum(f.index(0), seen))
            with f.loop("s", 0, stop) as s:
                by = f.splat(f.load(factor(t.index, s.index), self.type), n)
                for column in range(0, self.size, n):
                    at = out(t.index, column)
                    x = f.mul(by, self.piece(f, n, s.index, column))
                    f.store(f.add(f.load(at, vector(n, self.type)), x), at)


def visible(f: Function, seen: Value, i: int) -> Value:
    """Lane by lane whether key s + i is seen; `seen` from `last_seen`."""
    return f.compare("ge", seen, f.const(seen.type, i), stem="visible")


# MERGED tinytorch.kernels.attention_spec: The exponential inside attention, where the argument
# is never above zero.
#
# Knows vectors, never what they stand for. Cheaper than `codegen.vector_math.exp` because overflow
# cannot happen, the base is two (the change of base is in the scale of the logits) and results
# below
# 2**-126 may be off by 2**-127: added to a sum that holds a 1, that vanishes. From 2**-127 down
# they
# are 0, whatever they are multiplied by.

# 2**r on [-1/2, 1/2], lowest power first. float: the polynomial of least relative error, 7.5e-8
# (Remez exchange); double: Taylor's terms ln(2)**k / k!, whose 14th is 4e-18 at r = 1/2.
_FLOAT = (
    1.0,
    0.6931469670647609,
    0.24022119723839974,
    0.055507132734978495,
    0.009675541334453752,
    0.0013276471992533978,
)
_LN2 = 0.6931471805599453
LOG2_E = 1.4426950408889634  # factor from units of 1 to units of log 2


def _taylor(terms: int) -> tuple[float, ...]:
    out = [1.0]
    for k in range(1, terms):
        out.append(out[-1] * _LN2 / k)
    return tuple(out)


_DOUBLE = _taylor(14)


def exp2_nonpositive(f: Function, x: Value) -> Value:
    """2**x for x <= 0 (a little above is fine), within 2 units in the last place; NaN stays NaN.

    Adding 1.5 * 2**(mantissa bits) rounds x to an integer that stands in the low bits of the sum:
    shifted into the exponent's place and added as an integer, it multiplies by that power of two.
    -127 leaves nothing of the exponent of 1: that is 0.
    """
    type, n = element(x.type), lanes(x.type)
    wide = type == "double"
    bits, mantissa, lowest = ("i64", 52, -1023.0) if wide else ("i32", 23, -127.0)
    whole = vector(n, bits)
    floor = f.const(x.type, lowest)
    x = f.select(f.compare("lt", x, floor), floor, x, "bounded")  # NaN compares false: kept
    magic = f.const(x.type, 1.5 * 2.0**mantissa)
    shifted = f.add(x, magic, "shifted")
    r = f.sub(x, f.sub(shifted, magic), "r")
    series = _DOUBLE if wide else _FLOAT
    p = f.const(x.type, series[-1])
    for c in reversed(series[:-1]):
        p = muladd(f, p, r, f.const(x.type, c))
    power = f.op("shl", f.bitcast(shifted, whole), f.const(whole, mantissa), "power")
    return f.bitcast(f.add(f.bitcast(p, whole), power), x.type, "exp2")


def log_of_sum(f: Function, largest: Value, total: Value) -> Value:
    """ln(total * 2**largest): the natural log-sum-exp of logits kept in units of log 2."""
    return f.add(f.mul(largest, f.const(largest.type, _LN2)), log(f, total), "lse")
