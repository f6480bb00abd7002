"""Which keys a block of queries sees: the walk over key blocks, and the mask along the diagonal.

Knows sizes and loop bounds; never products or softmax. Blocks that nobody sees are never visited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinytorch.codegen.builder import Function, Value
from tinytorch.kernels.attention_spec import AttentionSpec

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


def visible(f: Function, seen: Value, i: int) -> Value:
    """Lane by lane whether key s + i is seen; `seen` from `last_seen`."""
    return f.compare("ge", seen, f.const(seen.type, i), stem="visible")
