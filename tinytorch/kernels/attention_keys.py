"""Which keys a block of queries sees: the walk over key blocks, and the mask along the diagonal.

Knows sizes and loop bounds, and the sum over the keys that are seen; never softmax. Blocks that
nobody sees are never visited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.kernels.attention_spec import AttentionSpec
from tinytorch.kernels.block_product import sum_of_lanes
from tinytorch.kernels.block_transpose import load_row_piece

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
