"""The gradient of attention of bfloat16 inputs by AMX tiles, with float32 sums.

Knows tiles and scratch; the method is that of `attention_gradient.py`, with every operand of a
product copied once into the order tiles want. A tile of the kernel is one head. P and
dS = P * (dP - delta) are kept transposed (keys down, queries across): as rows for g_v and g_k, as
pairs of keys for g_q, which is summed with D down and turned at the end of each query block.
"""

from __future__ import annotations

import math

from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Kernel, Operand, store_at
from tinytorch.codegen.polynomial import muladd
from tinytorch.kernels.attention_spec import AttentionGradientSpec, head_pointer, rows_from
from tinytorch.kernels.attention_tiles import BLOCK, WIDE, TileBlocks
from tinytorch.kernels.block_product import sum_of_lanes
from tinytorch.kernels.block_transpose import load_row_piece
from tinytorch.kernels.exponential import LOG2_E, exp2_nonpositive
from tinytorch.kernels.naming import named_kernel
from tinytorch.kernels.scratch import Scratch
from tinytorch.kernels.tile_product import (
    ROWS,
    interleave_rows,
    paired,
    rounded,
    tile_product,
    turn_pairs,
)

FAR = 3.0e38  # lse of rows that do not exist or see nothing: their weights vanish
FEWEST_HEADS = 4  # with fewer, the other kernel, which splits heads by keys, keeps threads busy


class TileGradient(TileBlocks):
    """Writes the gradient kernel."""

    def __init__(self, spec: AttentionGradientSpec):
        super().__init__(spec.forward)
        self.all = spec
        rows, block = self.keys * self.width, BLOCK * self.width
        sizes = {
            **dict.fromkeys(("k", "v", "k_pairs"), 2 * rows),
            "k_turned": 2 * self.line * self.width,
            **dict.fromkeys(("g_k", "g_v"), 4 * rows),
            **dict.fromkeys(("q", "q_turned", "q_pairs", "g", "g_turned", "g_pairs"), 2 * block),
            "g_q": 4 * block,
            **dict.fromkeys(("logit", "slope"), 4 * BLOCK * BLOCK),
            **dict.fromkeys(("weight", "change", "change_pairs"), 2 * BLOCK * BLOCK),
            **dict.fromkeys(("lse", "delta"), 4 * BLOCK),
        }
        self.scratch = Scratch("i8", 1, ROWS, sizes)

    def kernel(self) -> Kernel:
        """The whole kernel."""
        spec = self.spec
        return named_kernel(
            "attention_gradient_tiles",
            ("g", "q", "k", "v", "out", "lse", "g_q", "g_k", "g_v"),
            self.tile,
            tiles=spec.batch * spec.heads,
            scratch=self.scratch.bytes,
            flops=10 * spec.size * spec.pairs,
            bytes=spec.batch * spec.heads * spec.size * 12 * (spec.queries + spec.keys),
            label=f"attention gradient {spec.queries}x{spec.keys}x{spec.size} (tiles)",
        )

    def tile(self, f: Function, p) -> None:
        """One head."""
        spec, scratch = self.spec, self.scratch
        self.begin(f, p, f.tile)
        start, keys = scratch.start, f.index(spec.keys)
        for name, operand in (("k", spec.k), ("v", spec.v)):
            self.take(name, operand, f.index(0), keys, self.keys)
        interleave_rows(f, start["k"], start["k_pairs"], (self.keys, self.width))
        sizes = (self.keys // 2, self.width)
        turn_pairs(f, start["k_pairs"], start["k_turned"], sizes, self.line // 2)
        for name in ("g_k", "g_v"):
            self.fill(name, self.keys * self.width, 0.0)
        with f.loop("t", 0, spec.queries, BLOCK) as t:
            self.query_block(t.index)
        self.put_rows("g_k", self.all.g_k, spec.scale)
        self.put_rows("g_v", self.all.g_v, 1.0)

    def query_block(self, t: Value) -> None:
        """Everything that the query rows t .. t + BLOCK - 1 add to the three gradients."""
        f, spec, start = self.f, self.spec, self.scratch.start
        self.t = t
        left = f.sub(f.index(spec.queries), t)
        for name, operand in (("q", spec.q), ("g", self.all.g)):
            self.take(name, operand, t, left, BLOCK)
            turn_pairs(f, start[name], start[name + "_turned"], (BLOCK, self.width // 2))
            interleave_rows(f, start[name], start[name + "_pairs"], (BLOCK, self.width))
        self.take_statistics(f.minimum(left, f.index(BLOCK)))
        self.fill("g_q", BLOCK * self.width, 0.0)
        self.each_key_block(t, self.key_block)
        scale = f.const(WIDE, spec.scale)
        self.put_turned("g_q", "g_q", self.all.g_q, t, lambda _: scale)

    def take_statistics(self, rows: Value) -> None:
        """lse in units of log 2, and delta = rowsum(g * out), of the block's rows."""
        f, spec = self.f, self.spec
        kind = spec.lse.dtype.llvm
        out = rows_from(
            head_pointer(f, self.p["out"], spec.out, self.b, self.a), spec.out, self.t, 0, False
        )
        lse_head = head_pointer(f, self.p["lse"], spec.lse, self.b, self.a)
        self.fill("lse", BLOCK, FAR)
        self.fill("delta", BLOCK, 0.0)
        with f.loop("t", 0, rows) as t:
            step = f.mul(f.add(self.t, t.index), f.index(spec.lse.strides[2]))
            lse = f.convert(f.load(f.at(lse_head, step, kind), kind), "float")
            empty = f.compare("eq", lse, f.const("float", -math.inf))
            lse = f.select(empty, f.const("float", FAR), f.mul(lse, f.const("float", LOG2_E)))
            f.store(lse, self.place("lse", t.index))
            f.store(self.row_product(out(f, t.index), t.index), self.place("delta", t.index))

    def row_product(self, out_row: Value, t: Value) -> Value:
        """The inner product of a row of out with the same row of g in scratch."""
        f, operand = self.f, self.spec.out
        total, stride = f.const(WIDE, 0.0), operand.strides[3]
        for column in range(0, self.spec.size, ROWS):
            at = f.at(out_row, f.index(column * stride), operand.dtype.llvm)
            count = self.spec.size - column
            x = load_row_piece(f, at, operand.dtype.llvm, stride, ROWS, count, float32.llvm)
            place = f.add(f.mul(t, f.index(self.width)), f.index(column))
            g = f.load(self.place("g", place, "bfloat"), f"<{ROWS} x bfloat>")
            total = muladd(f, x, f.convert(g, "float"), total)
        return sum_of_lanes(f, total)

    def key_block(self, s: Value, masked: bool) -> None:
        """What a block of keys gives to, and gets from, the block of queries."""
        f, start = self.f, self.scratch.start
        row, line = 2 * self.width, 4 * BLOCK
        offset = f.mul(s, f.index(row))
        across = (BLOCK, BLOCK, self.width)
        for name, turned, out in (("k", "q_turned", "logit"), ("v", "g_turned", "slope")):
            left = f.at(start[name], offset, "i8"), row
            tile_product(f, across, left, (start[turned], line), (start[out], line), False)
        with f.loop("t", 0, BLOCK, 2 * ROWS) as t:
            self.weights(t.index, s, masked)
        down = (BLOCK, self.width, BLOCK)
        for left, right, out in (("weight", "g_pairs", "g_v"), ("change", "q_pairs", "g_k")):
            sums = f.at(start[out], f.mul(s, f.index(2 * row)), "i8"), 2 * row
            tile_product(f, down, (start[left], 2 * BLOCK), (start[right], 2 * row), sums, True)
        k = f.at(start["k_turned"], f.mul(s, f.index(2)), "i8"), 2 * self.line
        sums = start["g_q"], line
        tile_product(f, (self.width, BLOCK, BLOCK), k, (start["change_pairs"], line), sums, True)

    def weights(self, t: Value, s: Value, masked: bool) -> None:
        """P and dS of 32 queries and the block's keys, as rows; dS as pairs of keys too."""
        f = self.f
        starts = [f.add(t, f.index(j * ROWS)) for j in range(2)]
        seen = [self.last_seen(f.add(self.t, x), s) for x in starts] if masked else None
        lse = [self.load("lse", x) for x in starts]
        delta = [self.load("delta", x) for x in starts]
        with f.loop("s", 0, BLOCK, 2) as i:
            changes: list[list[Value]] = [[], []]
            for k in range(2):
                key = f.add(i.index, f.index(k))
                row = f.mul(key, f.index(BLOCK))
                weights = []
                for j in range(2):
                    at = f.add(row, starts[j])
                    x = self.load("logit", at)
                    x = f.sub(f.mul(x, f.const(WIDE, self.spec.scale * LOG2_E)), lse[j])
                    weight = exp2_nonpositive(f, x)
                    if seen is not None:
                        visible = f.compare("ge", seen[j], f.splat(f.convert(key, "i32"), ROWS))
                        weight = f.select(visible, weight, f.const(WIDE, 0.0))
                    change = f.mul(weight, f.sub(self.load("slope", at), delta[j]))
                    weights.append(weight)
                    changes[j].append(change)
                place = f.add(row, t)
                f.store(rounded(f, *weights), self.place("weight", place, "i16"))
                change = rounded(f, changes[0][k], changes[1][k])
                f.store(change, self.place("change", place, "i16"))
            for j in range(2):
                at = f.add(f.mul(i.index, f.index(BLOCK // 2)), starts[j])
                f.store(paired(f, *changes[j]), self.place("change_pairs", at, "i32"))

    def put_rows(self, name: str, operand: Operand, scale: float) -> None:
        """Store the head's g_k or g_v, times `scale`."""
        f, size = self.f, self.spec.size
        with f.loop("row", 0, self.spec.keys) as row:
            for column in range(0, size, ROWS):
                at = f.add(f.mul(row.index, f.index(self.width)), f.index(column))
                x = f.mul(self.load(name, at), f.const(WIDE, scale))
                count = size - column
                mask = f.mask_below(ROWS, f.index(count)) if count < ROWS else None
                index = [self.b, self.a, row.index, f.index(column)]
                store_at(f, x, self.p[name], operand, index, mask)


def suits_heads(spec: AttentionGradientSpec) -> bool:
    """Whether there are enough heads for one tile each."""
    return spec.forward.batch * spec.forward.heads >= FEWEST_HEADS
