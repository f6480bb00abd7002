"""What attention's kernels share: sizes and layouts, the keys that queries see, a head's rows, exp.

Knows pointers, strides and loop bounds; never register tiles, tensors or graphs. Key blocks that
nobody sees are never visited.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.codegen.builder import Function, Value, element, lanes, vector
from tinytorch.codegen.kernel import (
    NeededRows,
    Operand,
    Pointers,
    Scratch,
    ceil_div,
    how_many_needed,
    store_at,
)
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import log, muladd, scale_avx512
from tinytorch.kernels.packing import Rows
from tinytorch.kernels.register_tile import sum_of_lanes

LOWEST = -3.0e38  # below every finite logit, and finite itself: lowest - lowest is 0, not NaN
FAR = 3.0e38  # lse of rows that do not exist or see nothing: their weights vanish
PAGE = 4096  # bytes; rows this far apart fall into the same set of a first-level cache


@dataclass(frozen=True)
class AttentionSpec:
    """One attention: q (B, A, T, D), k and v (B, A, S, D) -> out (B, A, T, D), lse (B, A, T).

    Args:
        batch, heads, queries, keys, size: B, A, T, S, D.
        causal: query t sees keys s <= t + S - T.
        scale: factor of the logits.
        q, k, v, out, lse: where each lies; lse is the log of the sum of a row's exponentials.
        needed: which queries are, those of all heads one after the other; default all. Others are
            left out, and so are, with `causal`, keys that only others see: they may be NaN. The
            gradient adds nothing of them up.
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
    needed: NeededRows = field(default=(), kw_only=True)

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


def must_copy(operand: Operand, compute: DType) -> bool:
    """Whether rows cannot be read where they lie: another type, spread out, bad for the cache."""
    return (
        operand.dtype is not compute
        or operand.strides[3] != 1
        or operand.strides[2] * compute.itemsize % PAGE == 0
    )


# ---- which keys a block of queries sees

# visit(s, count, masked): take the keys s .. s + count - 1; masked: some queries miss some of them
Visit = Callable[[Value, int, bool], None]


@dataclass(frozen=True)
class KeyWalk:
    """The walk over the key blocks of one attention.

    Args:
        spec: the attention.
        block: queries of a block.
        step: keys of a whole block.
        small: keys of a block on the diagonal; divides `step`.
        padded: whether keys behind the last can be read, so that blocks are whole, and masked.
    """

    spec: AttentionSpec
    block: int
    step: int
    small: int
    padded: bool = False

    @property
    def exact(self) -> bool:
        """Whether what is masked are squares on the diagonal alone: query i sees keys to i."""
        return self.spec.causal and self.small == self.block and self.spec.shift % self.small == 0

    @staticmethod
    def of(spec: AttentionSpec, block: int, keys: int) -> KeyWalk:
        """The walk whose whole blocks have about `keys` keys."""
        small = max(1, min(block, spec.keys))
        return KeyWalk(spec, block, max(small, min(keys, spec.keys) // small * small), small)

    def visit(self, f: Function, t: Value, first: Value, last: Value, visit: Visit) -> None:
        """Visit the keys in [first, last) that the queries t .. t + block - 1 see, in order.

        Args:
            first, last: multiples of `step`, or `last` the number of keys.
        """
        spec = self.spec
        if not spec.causal and not self.padded:
            rest = spec.keys % self.step
            stop = f.minimum(last, f.index(spec.keys - rest)) if rest else last
            with f.loop("keys", first, stop, self.step) as s:
                visit(s.index, self.step, False)
            if rest:
                with f.when(f.compare("eq", last, f.index(spec.keys))):
                    visit(f.index(spec.keys - rest), rest, False)
            return
        if self.exact:
            self._visit_to_diagonal(f, t, first, last, visit)
            return
        everyone = anyone = last
        if spec.causal:
            everyone = f.add(t, f.index(spec.shift + 1), "everyone")
            everyone = f.minimum(f.maximum(everyone, first), last)
            anyone = f.minimum(f.add(t, f.index(spec.shift + self.block), "anyone"), last)
        step = f.index(self.step)
        whole = f.add(f.mul(f.div(f.sub(everyone, first), step), step), first, "whole")
        with f.loop("keys", first, whole, self.step) as s:
            visit(s.index, self.step, False)
        if not spec.causal and spec.keys % self.step == 0:
            return
        rest = 0 if self.padded else spec.keys % self.small
        stop = f.minimum(anyone, f.index(spec.keys - rest)) if rest else anyone
        with f.loop("diagonal", whole, stop, self.small) as s:
            visit(s.index, self.small, True)
        if rest:
            with f.when(f.compare("gt", anyone, f.index(spec.keys - rest))):
                visit(f.index(spec.keys - rest), rest, True)

    def _visit_to_diagonal(
        self, f: Function, t: Value, first: Value, last: Value, visit: Visit
    ) -> None:
        """`visit` of an exact walk: all that is seen by everyone, then the square."""
        keys, small = self.spec.keys, self.small
        diagonal = f.add(t, f.index(self.spec.shift), "diagonal")
        stop = f.minimum(f.maximum(diagonal, first), last)
        step = f.index(self.step)
        whole = f.add(f.mul(f.div(f.sub(stop, first), step), step), first, "whole")
        with f.loop("keys", first, whole, self.step) as s:
            visit(s.index, self.step, False)
        if small < self.step:
            with f.loop("keys", whole, stop, small) as s:
                visit(s.index, small, False)
        there = f.op("and", f.compare("ge", diagonal, first), f.compare("lt", diagonal, last))
        rest = 0 if self.padded else keys % small
        end = f.index(keys - rest)
        if self.padded or keys >= small:
            with f.when(f.op("and", there, f.compare("lt", diagonal, end))):
                visit(diagonal, small, True)
        if rest:
            with f.when(f.op("and", there, f.compare("eq", diagonal, end))):
                visit(diagonal, rest, True)

    def squares(self, masked: bool, side: int) -> list[tuple[int, int]]:
        """A block's queries, as (first, how many), in runs that products take by themselves.

        Where an exact walk masks, the keys of a block are cut alike, and no query of a run sees
        those of a later one: half of the block, and half a square of `side`, is never multiplied.
        Everywhere else there is one run, which may see all keys.
        """
        if not (masked and self.exact):
            return [(0, self.block)]
        starts = range(0, self.block, side)
        return [(first, min(side, self.block - first)) for first in starts]

    def rows_of_square(self, square: tuple[int, int], count: int, masked: bool) -> int:
        """How many of a block's `count` keys one of its `squares` has from its first on."""
        first, queries = square
        return max(0, min(queries, count - first)) if masked and self.exact else count

    def seen_of_square(self, square: tuple[int, int], count: int, masked: bool) -> int:
        """How many of a block's `count` keys the queries of one of its `squares` may see."""
        return min(sum(square), count) if masked and self.exact else count

    def seen_from(self, f: Function, t: Value, count: int, masked: bool, side: int) -> Value:
        """The same for the square of the block's query t."""
        if not (masked and self.exact):
            return f.index(count)
        run = f.index(side)
        return f.minimum(f.index(count), f.mul(f.add(f.div(t, run), f.index(1)), run))

    def last_seen(self, f: Function, n: int, t: Value, s: Value) -> Value:
        """For the queries t .. t + n - 1, lane by lane, the last key seen, counted from key s."""
        last = f.convert(f.sub(f.add(t, f.index(self.spec.shift)), s), "i32")
        own = f.add(f.splat(last, n), f.step(n, "i32"), "seen") if self.spec.causal else None
        if own is not None and not self.padded:
            return own
        end = f.splat(f.convert(f.sub(f.index(self.spec.keys - 1), s), "i32"), n)
        return end if own is None else f.minimum(own, end)


def visible(f: Function, seen: Value, key: Value | int) -> Value:
    """Lane by lane whether a key is seen, counted as `seen`, which is from `last_seen`."""
    if isinstance(key, int):
        every = f.const(seen.type, key)
    else:
        every = f.splat(f.convert(key, "i32"), lanes(seen.type))
    return f.compare("ge", seen, every, stem="visible")


# ---- one head


class HeadWriter:
    """Writes code that works on one head of an attention at a time; its fields are the plan.

    Args:
        spec: the attention.
        lanes: elements of a vector.
        block: queries of a block.
        width: numbers of a row of D in scratch.
        operands: buffers whose heads are read, with strides over (B, A, ...).
    """

    scratch: Scratch

    def __init__(
        self, spec: AttentionSpec, lanes: int, block: int, width: int, operands: Mapping[str,
        Operand],
    ):  # fmt: skip
        self.spec, self.n, self.block, self.width = spec, lanes, block, width
        self.type, self.wide = spec.compute.llvm, vector(lanes, spec.compute.llvm)
        self.blocks = ceil_div(spec.queries, block)
        self.operands = operands

    def begin(self, f: Function, p: Pointers, head: Value) -> None:
        """Note where the head lies, and how many of its queries are needed; may be below 0."""
        self.f, self.p = f, p
        self.scratch.begin(f)
        self.queries, self.keys_seen = f.index(self.spec.queries), f.index(self.spec.keys)
        if self.spec.needed:
            first = f.mul(head, self.queries)
            self.queries = how_many_needed(f, p, self.spec.needed, first, self.queries)
            if self.spec.causal:
                seen = f.add(self.queries, f.index(self.spec.shift))
                self.keys_seen = f.minimum(f.maximum(seen, f.index(0)), self.keys_seen)
        a = f.index(self.spec.heads)
        self.b, self.a = f.div(head, a), f.rem(head, a)
        self.heads: dict[str, Value] = {}
        for name, operand in self.operands.items():
            b_stride, a_stride = operand.strides[:2]
            at = f.add(f.mul(self.b, f.index(b_stride)), f.mul(self.a, f.index(a_stride)))
            at = f.add(at, f.index(operand.offset))
            self.heads[name] = f.at(p[name], at, operand.dtype.llvm, "head")

    @property
    def may_end_early(self) -> bool:
        """Whether a block may have fewer queries than it has room for."""
        return bool(self.spec.queries % self.block or self.spec.needed)

    def each_query_block(
        self, group: Value, run: int, query_block: Callable[[Value], None]
    ) -> None:
        """`query_block(t)` for the run of blocks `group`, the last (for causal: longest) first."""
        f = self.f
        last = f.sub(f.index(self.blocks - 1), f.mul(group, f.index(run)))
        with f.loop("block", 0, run) as i:
            block = f.sub(last, i.index)
            there = f.compare("ge", block, f.index(0))
            first = f.mul(block, f.index(self.block), "t")
            if self.spec.needed:
                there = f.op("and", there, f.compare("lt", first, self.queries))
            with f.when(there):
                query_block(first)

    def rows(self, name: str, first: Value, end: int | None = None) -> Rows:
        """The rows first, first + 1, ... of the head; those from `end` on are the last row."""
        f, operand = self.f, self.operands[name]

        def at(i: Value) -> Value:
            row = f.add(first, i)
            if end is not None:
                row = f.minimum(row, f.index(end - 1))
            return f.at(
                self.heads[name], f.mul(row, f.index(operand.strides[2])), operand.dtype.llvm, "row"
            )

        return Rows(at, operand.dtype.llvm, operand.strides[3])

    def columns_mask(self, column: int) -> Value | None:
        """Which lanes of the vector at a column of D exist, or None for all."""
        count = self.spec.size - column
        return self.f.mask_below(self.n, self.f.index(count)) if count < self.n else None

    def put_rows(
        self, name: str, operand: Operand, pointer: Value, first: Value, rows: Value | int, factor:
        float | Callable[[Value], Value] = 1.0,
    ) -> None:  # fmt: skip
        """Store rows of a scratch array as the rows first, first + 1, ... of an operand.

        Args:
            factor: what all numbers are multiplied by, or what gives it, lane by lane, for a row.
        """
        f = self.f
        with f.loop("row", 0, rows) as row:
            by = factor(row.index) if callable(factor) else f.const(self.wide, factor)
            for column in range(0, self.spec.size, self.n):
                at = f.add(f.mul(row.index, f.index(self.width)), f.index(column))
                x = self.scratch.load(name, at)
                x = x if factor == 1.0 else f.mul(x, by)
                index = [self.b, self.a, f.add(first, row.index), f.index(column)]
                store_at(f, x, pointer, operand, index, self.columns_mask(column))

    def put_statistics(self, t0: Value, t: Value, rows: Value) -> Value:
        """Store `lse` of the queries t0 + t, ... from their maxima and totals in scratch.

        Gives what their weighted sums are multiplied by; a row that sees no key has 0 and -inf.
        """
        f, zero = self.f, self.f.const(self.wide, 0.0)
        total, largest = self.scratch.load("total", t), self.scratch.load("largest", t)
        empty = f.compare("eq", total, zero)
        lse = f.select(empty, f.const(self.wide, -math.inf), log_of_sum(f, largest, total))
        index = [self.b, self.a, f.add(t0, t)]
        mask = f.mask_below(self.n, f.sub(rows, t))
        store_at(f, lse, self.p["lse"], self.spec.lse, index, mask)
        return f.select(empty, zero, f.div(f.const(self.wide, 1.0), total))

    def take_statistics(self, t0: Value, rows: Value, g_type: str) -> None:
        """Scratch "lse" in units of log 2, and "delta" = rowsum(g * out), of rows t0, ...

        Args:
            rows: how many there are; those behind them have weights that vanish.
            g_type: LLVM type of the rows of g in scratch.
        """
        f, spec, type = self.f, self.spec, self.type
        out = self.rows("out", t0)
        if self.may_end_early:
            self.scratch.fill("lse", self.block, FAR)
            self.scratch.fill("delta", self.block, 0.0)
        with f.loop("t", 0, rows) as t:
            step = f.mul(f.add(t0, t.index), f.index(spec.lse.strides[2]))
            kind = spec.lse.dtype.llvm
            lse = f.convert(f.load(f.at(self.heads["lse"], step, kind), kind), type)
            # a row that saw no key has lse = -inf; its weights must vanish, not become NaN
            empty = f.compare("eq", lse, f.const(type, -math.inf))
            lse = f.select(empty, f.const(type, FAR), f.mul(lse, f.const(type, LOG2_E)))
            f.store(lse, self.scratch.at("lse", t.index))
            total = f.const(self.wide, 0.0)
            for column in range(0, spec.size, self.n):
                count = spec.size - column
                x = out.piece(f, t.index, f.index(column), self.n, count, type)
                at = f.add(f.mul(t.index, f.index(self.width)), f.index(column))
                g = f.load(self.scratch.at("g", at, g_type), vector(self.n, g_type), stem="g")
                total = muladd(f, x, f.convert(g, type), total)
            f.store(sum_of_lanes(f, total), self.scratch.at("delta", t.index))


# ---- the exponential
#
# Cheaper than `codegen.vector_math.exp` because the argument is never above zero, so overflow
# cannot happen; because the base is two (the change of base is in the scale of the logits); and
# because results below 2**-126 may be off by 2**-127: added to a sum that holds a 1, that vanishes.
# From 2**-127 down they are 0, whatever they are multiplied by.

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


# 2**r on [-1/2, 1/2], lowest power first: the polynomial of least relative error, 2.6e-6
_PAIRS = (
    0.9999992614457122,
    0.6931218147366892,
    0.2402474482786378,
    0.055917860319388245,
    0.009570101911165427,
)


def exp2_of_pairs(f: Function, target: Target, x: Value) -> Value:
    """2**x for x <= 0 where it is rounded to bfloat16: within 2**-18 of itself, NaN stays NaN.

    VREDUCEPS leaves what rounding to an integer takes off (0 of an infinity), VSCALEFPS multiplies
    by a power of two, down to the last subnormal number, which a dot product takes for 0. Where
    AMX tiles multiply, other instructions take subnormal numbers slowly: so not there.
    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
    """
    n = lanes(x.type)
    if target.has_amx or target.name != "avx512" or n != target.lanes(float32):
        return exp2_nonpositive(f, x)
    name = "llvm.x86.avx512.mask.reduce.ps.512"
    nearest, every, mode = f.const("i32", 8), f.const("i16", -1), f.const("i32", 4)
    r = f.call(x.type, name, x, nearest, x, every, mode, stem="r")
    p = f.const(x.type, _PAIRS[-1])
    for c in reversed(_PAIRS[:-1]):
        p = muladd(f, p, r, f.const(x.type, c))
    return scale_avx512(f, p, f.sub(x, r, "whole"))


def log_of_sum(f: Function, largest: Value, total: Value) -> Value:
    """ln(total * 2**largest): the natural log-sum-exp of logits kept in units of log 2."""
    return f.add(f.mul(largest, f.const(largest.type, _LN2)), log(f, total), "lse")
