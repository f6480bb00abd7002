"""The gradient of attention with respect to q, k and v, recomputing the weights from `lse`.

Knows pointers, strides and register tiles; never tensors or graphs.
With P = exp(scale q k^T - lse):

    delta = rowsum(g * out)        dP = g v^T        dS = P * (dP - delta)
    g_v = P^T g        g_k = scale * dS^T q        g_q = scale * dS k

A tile of the kernel is one head, or a run of its keys where there are few heads. It walks query
blocks, and for each the key blocks: P and dS are kept transposed, keys down and queries across,
in which form all five products read k, v, q and g by rows. g_k and g_v of the run stay in scratch
until its end. Several runs of one head each give a part of g_q; a second step adds the parts.

Source: Dao et al. 2022 (arXiv 2205.14135), appendix B.4.
"""

from __future__ import annotations

import math
from functools import reduce

from tinytorch.base.dtypes import DType, float32
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Kernel, Lowered, Operand, Step, store_at
from tinytorch.codegen.vector_math import muladd
from tinytorch.kernels.attention import BLOCK, WIDE, TileBlocks, suits_tiles
from tinytorch.kernels.attention_spec import (
    LOG2_E,
    AttentionGradientSpec,
    KeyRows,
    KeyWalk,
    exp2_nonpositive,
    head_pointer,
    must_copy,
    rows_from,
    visible,
)
from tinytorch.kernels.blocking import Scratch, named_kernel, round_up
from tinytorch.kernels.packing import load_row_piece, pack_rows, pack_transposed
from tinytorch.kernels.register_tile import (
    ROWS,
    Left,
    Machine,
    Right,
    block_product,
    interleave_rows,
    machine_of,
    paired,
    rounded,
    sum_of_lanes,
    tile_product,
    turn_pairs,
)

# Query rows of a block, the depth of the products that give g_k and g_v, and key rows of a block.
# At (8, 8, 256, 64): 64 and 64 take 10.5 ms, 32 and 64 12.1, 32 and 32 10.9; causal 6.5, 6.4, 10.1.
QUERIES = 64
KEYS = 64
TILES = 32  # tiles to aim for where there are few heads
FAR = 3.0e38  # lse of rows that do not exist: their weights vanish


def lower_attention_gradient(target, spec: AttentionGradientSpec) -> Lowered:
    """The kernels of one attention's gradient.

    Args:
        target: the CPU to write for.
        spec: sizes and layouts.

    Returns:
        Steps with buffers "g", "q", "k", "v", "out", "lse" -> "g_q", "g_k", "g_v", and
        "temporary.g_q" where the keys of a head are split.

    Cost: 10 D operations a (query, key) pair and one exponential.
    """
    forward = spec.forward
    if suits_tiles(target, spec.g, forward.q, forward.k, forward.v) and suits_heads(spec):
        kernel = TileGradient(spec).kernel()
        return Lowered((Step(kernel, kernel.arguments),))
    whole = AttentionGradient(machine_of(target, spec.forward.compute), spec)
    kernel = whole.kernel()
    steps = [Step(kernel, kernel.arguments)]
    if whole.runs == 1:
        return Lowered(tuple(steps))
    add = whole.add_kernel()
    steps.append(Step(add, add.arguments))
    return Lowered(tuple(steps), {"temporary.g_q": whole.parts_bytes})


class AttentionGradient:
    """Writes the gradient kernel; its fields are the plan, its methods the parts of one tile."""

    def __init__(self, machine: Machine, spec: AttentionGradientSpec):
        self.machine, self.all, self.n = machine, spec, machine.lanes
        self.spec = forward = spec.forward
        self.compute: DType = forward.compute
        self.block = min(QUERIES, round_up(max(forward.queries, 1), self.n))
        self.walk = KeyWalk.of(forward, self.block, KEYS)
        self.width = round_up(forward.size, self.n)
        blocks = -(-forward.keys // self.walk.step)
        heads = max(forward.batch * forward.heads, 1)
        runs = max(1, min(blocks, -(-TILES // heads)))
        self.run = max(1, -(-blocks // runs)) * self.walk.step  # keys of a run
        self.runs = max(1, -(-forward.keys // self.run))
        held = min(self.run, forward.keys) * self.width
        self.copied = {name: must_copy(getattr(forward, name), self.compute) for name in "kv"}
        sizes = {
            **dict.fromkeys(("q", "g", "g_q"), self.block * self.width),
            **dict.fromkeys(("q_turned", "g_turned"), self.block * forward.size),
            **dict.fromkeys(("lse", "delta"), self.block),
            **dict.fromkeys(("weight", "change"), self.walk.step * self.block),
            **dict.fromkeys(("g_k", "g_v"), held),
            **{name: held for name, copied in self.copied.items() if copied},
        }
        self.scratch = Scratch(self.compute.llvm, self.compute.itemsize, self.n, sizes)
        # a part of g_q: (B * A, runs, T, D), dense
        part = forward.queries * forward.size
        head = self.runs * part
        self.part = Operand(self.compute, (forward.heads * head, head, forward.size, 1))
        self.parts_bytes = forward.batch * forward.heads * head * self.compute.itemsize

    def kernel(self) -> Kernel:
        """The kernel that does everything but adding parts of g_q."""
        spec = self.spec
        elements = spec.batch * spec.heads * spec.size * 4 * (spec.queries + spec.keys)
        return named_kernel(
            "attention_gradient",
            ("g", "q", "k", "v", "out", "lse", self.g_q_name, "g_k", "g_v"),
            self.tile,
            tiles=spec.batch * spec.heads * self.runs,
            scratch=self.scratch.bytes,
            flops=10 * spec.size * spec.pairs,
            bytes=elements * spec.q.dtype.itemsize,
            label=f"attention gradient {spec.queries}x{spec.keys}x{spec.size}",
        )

    @property
    def g_q_name(self) -> str:
        """The buffer that the query gradient goes to."""
        return "g_q" if self.runs == 1 else "temporary.g_q"

    def tile(self, f: Function, p) -> None:
        """One run of keys of one head; the first (for causal: the longest) run first."""
        spec = self.spec
        self.f, self.p = f, p
        self.scratch.begin(f, f.scratch)
        per_run = f.index(spec.batch * spec.heads)
        run, head = f.div(f.tile, per_run), f.rem(f.tile, per_run)
        self.b, self.a = f.div(head, f.index(spec.heads)), f.rem(head, f.index(spec.heads))
        self.this_run = run
        self.first = f.mul(run, f.index(self.run), "first") if self.runs > 1 else f.index(0)
        self.last = f.index(spec.keys)
        if self.runs > 1:
            self.last = f.minimum(f.add(self.first, f.index(self.run)), self.last)
        count = f.sub(self.last, self.first)
        self.held = {name: self.held_rows(name, count) for name in "kv"}
        for name in ("g_k", "g_v"):
            with f.loop("row", 0, count) as row:
                for column in range(0, self.width, self.n):
                    at = f.add(f.mul(row.index, f.index(self.width)), f.index(column))
                    self.scratch.store(name, at, f.const(self.scratch.wide, 0.0))
        with f.loop("t", 0, spec.queries, self.block) as t:
            self.query_block(t.index)
        self.put_rows("g_k", self.all.g_k, "g_k", self.first, count, spec.scale)
        self.put_rows("g_v", self.all.g_v, "g_v", self.first, count, 1.0)

    def query_block(self, t: Value) -> None:
        """Everything that the query rows t .. t + block - 1 add to the three gradients."""
        f, spec = self.f, self.spec
        self.t = t
        rows = f.minimum(f.index(self.block), f.sub(f.index(spec.queries), t))
        self.take_rows("q", spec.q, rows)
        self.take_rows("g", self.all.g, rows)
        dense = (self.compute.llvm, 1)
        for name, scale in (("q", spec.scale * LOG2_E), ("g", 1.0)):
            pointer = self.row_of(name)
            place = self.scratch.at(name + "_turned")
            sizes = (self.block, spec.size)
            pack_transposed(f, self.n, pointer, dense, place, self.compute.llvm, sizes, scale)
        self.take_statistics(rows)
        self.scratch.fill("g_q", self.block * self.width, 0.0)
        self.walk.visit(f, t, self.first, self.last, self.key_block)
        operand = self.all.g_q if self.runs == 1 else self.part
        pointer = self.p[self.g_q_name]
        if self.runs > 1:
            skip = f.mul(self.this_run, f.index(spec.queries * spec.size))
            pointer = f.at(pointer, skip, self.compute.llvm)
        self.put_rows("g_q", operand, pointer, t, rows, spec.scale if self.runs == 1 else 1.0)

    def take_rows(self, name: str, operand: Operand, rows: Value) -> None:
        """Copy the block's rows of q or g into scratch; rows that do not exist are 0."""
        f = self.f
        head = head_pointer(f, self.p[name], operand, self.b, self.a)
        pointer = rows_from(head, operand, self.t, self.spec.queries, False)
        source = (operand.dtype.llvm, operand.strides[3])
        sizes = (rows, self.spec.size)
        pack_rows(
            f, self.n, pointer, source, self.scratch.at(name), self.compute.llvm, sizes, self.width
        )
        if self.spec.queries % self.block:
            start, stop = (f.mul(x, f.index(self.width)) for x in (rows, f.index(self.block)))
            with f.loop("fill", start, stop, self.n) as i:
                self.scratch.store(name, i.index, f.const(self.scratch.wide, 0.0))

    def take_statistics(self, rows: Value) -> None:
        """lse in units of log 2, and delta = rowsum(g * out), of the block's rows."""
        f, spec = self.f, self.spec
        type = self.compute.llvm
        head = head_pointer(f, self.p["out"], spec.out, self.b, self.a)
        pointer = rows_from(head, spec.out, self.t, spec.queries, False)
        if spec.queries % self.block:
            self.scratch.fill("lse", self.block, FAR)
            self.scratch.fill("delta", self.block, 0.0)
        lse_at = head_pointer(f, self.p["lse"], spec.lse, self.b, self.a)
        with f.loop("t", 0, rows) as t:
            step = f.mul(f.add(self.t, t.index), f.index(spec.lse.strides[2]))
            kind = spec.lse.dtype.llvm
            lse = f.convert(f.load(f.at(lse_at, step, kind), kind), type)
            # a row that saw no key has lse = -inf; its weights must vanish, not become NaN
            empty = f.compare("eq", lse, f.const(type, -math.inf))
            lse = f.select(empty, f.const(type, FAR), f.mul(lse, f.const(type, LOG2_E)))
            f.store(lse, self.scratch.at("lse", t.index))
            delta = self.row_product(pointer(f, t.index), t.index)
            f.store(delta, self.scratch.at("delta", t.index))

    def row_product(self, out_row: Value, t: Value) -> Value:
        """The inner product of a row of out with the same row of g in scratch."""
        f, spec = self.f, self.spec
        type, stride = self.compute.llvm, spec.out.strides[3]
        total = f.const(self.scratch.wide, 0.0)
        for column in range(0, spec.size, self.n):
            at = f.at(out_row, f.index(column * stride), spec.out.dtype.llvm)
            count = spec.size - column
            x = load_row_piece(f, at, spec.out.dtype.llvm, stride, self.n, count, type)
            g = self.scratch.load("g", f.add(f.mul(t, f.index(self.width)), f.index(column)))
            total = muladd(f, x, g, total)
        return sum_of_lanes(f, total)

    def key_block(self, s: Value, count: int, masked: bool) -> None:
        """What the keys s .. s + count - 1 give to, and get from, the block of queries."""
        f, size = self.f, self.spec.size
        own = f.sub(s, self.first)  # counted from the run's first key
        k, k_stride = self.rows("k", s, own)
        v, v_stride = self.rows("v", s, own)
        across = (count, self.block, size)
        turned = {x: Right(self.scratch.at(x + "_turned"), self.block) for x in "qg"}
        self.product(across, Left(k, k_stride, 1), turned["q"], self.keep_weights(s, masked))
        self.product(across, Left(v, v_stride, 1), turned["g"], self.keep_changes(s, masked))
        down = (count, self.width, self.block)
        for name, left, right in (("g_v", "weight", "g"), ("g_k", "change", "q")):
            start, end = self.adding(name, own)
            turned_left = Left(self.scratch.at(left), self.block, 1)
            right_rows = Right(self.scratch.at(right), self.width)
            self.product(down, turned_left, right_rows, end, start)
        start, end = self.adding("g_q", f.index(0))
        limit = None if self.copied["k"] else size
        left = Left(self.scratch.at("change"), 1, self.block)
        sizes = (self.block, self.width, count)
        if not masked:
            self.product(sizes, left, Right(k, k_stride), end, start, limit)
            return
        rows = KeyRows(k, k_stride, size, self.compute.llvm)
        finite = rows.finite(f, self.n, count)
        with f.when(finite):
            self.product(sizes, left, Right(k, k_stride), end, start, limit)
        with f.when(f.op("xor", finite, f.const("i1", 1))):

            def change(t: Value, key: Value) -> Value:
                return self.scratch.at("change", f.add(f.mul(key, f.index(self.block)), t))

            def place(t: Value, column: int) -> Value:
                return self.scratch.at("g_q", f.add(f.mul(t, f.index(self.width)), f.index(column)))

            rows.add_seen(f, self.n, self.walk, (self.t, s), count, change, place)

    def product(self, sizes, left: Left, right: Right, end, start=None, limit=None) -> None:
        """One of the five products."""
        type = self.compute.llvm
        block_product(self.f, self.machine, type, sizes, left, right, end, start, limit)

    def keep_weights(self, s: Value, masked: bool):
        """Logits (keys down, queries across) become exp2(logit - lse), 0 where not seen."""

        def end(f: Function, values, row: Value, column: Value) -> None:
            for j in range(len(values[0])):
                across = f.add(column, f.index(j * self.n))
                lse = self.scratch.load("lse", across)
                seen = None
                if masked:
                    seen = self.walk.last_seen(f, self.n, f.add(self.t, across), f.add(s, row))
                for i, line in enumerate(values):
                    x = exp2_nonpositive(f, f.sub(line[j], lse))
                    if seen is not None:
                        x = f.select(visible(f, seen, i), x, f.const(x.type, 0.0))
                    at = f.add(f.mul(f.add(row, f.index(i)), f.index(self.block)), across)
                    self.scratch.store("weight", at, x)

        return end

    def keep_changes(self, s: Value, masked: bool):
        """dP becomes dS = P * (dP - delta), 0 where not seen, whatever dP is there."""

        def end(f: Function, values, row: Value, column: Value) -> None:
            for j in range(len(values[0])):
                across = f.add(column, f.index(j * self.n))
                delta = self.scratch.load("delta", across)
                seen = None
                if masked:
                    seen = self.walk.last_seen(f, self.n, f.add(self.t, across), f.add(s, row))
                for i, line in enumerate(values):
                    at = f.add(f.mul(f.add(row, f.index(i)), f.index(self.block)), across)
                    x = f.mul(self.scratch.load("weight", at), f.sub(line[j], delta))
                    if seen is not None:
                        x = f.select(visible(f, seen, i), x, f.const(x.type, 0.0))
                    self.scratch.store("change", at, x)

        return end

    def adding(self, name: str, first: Value):
        """Start and end of a product that adds to rows of a scratch array, from row `first` on."""

        def place(f: Function, row: Value, column: Value) -> Value:
            return f.add(f.mul(f.add(first, row), f.index(self.width)), column)

        def start(f: Function, row: Value, column: Value) -> Value:
            return self.scratch.load(name, place(f, row, column))

        def end(f: Function, values, row: Value, column: Value) -> None:
            for i, line in enumerate(values):
                for j, x in enumerate(line):
                    at = place(f, f.add(row, f.index(i)), f.add(column, f.index(j * self.n)))
                    self.scratch.store(name, at, x)

        return start, end

    def put_rows(self, name: str, operand: Operand, pointer, first, rows, scale: float) -> None:
        """Store rows of a scratch array, times `scale`, as rows first, ... of an operand."""
        f, size = self.f, self.spec.size
        pointer = self.p[pointer] if isinstance(pointer, str) else pointer
        with f.loop("row", 0, rows) as row:
            for column in range(0, size, self.n):
                at = f.add(f.mul(row.index, f.index(self.width)), f.index(column))
                x = self.scratch.load(name, at)
                x = x if scale == 1.0 else f.mul(x, f.const(x.type, scale))
                count = size - column
                mask = f.mask_below(self.n, f.index(count)) if count < self.n else None
                index = [self.b, self.a, f.add(first, row.index), f.index(column)]
                store_at(f, x, pointer, operand, index, mask)

    def row_of(self, name: str):
        """Gives the address of a row of a scratch array."""
        return lambda f, i: self.scratch.at(name, f.mul(i, f.index(self.width)))

    def held_rows(self, name: str, count: Value) -> tuple[Value, int]:
        """Address and row stride of the run's rows of k or v, copied once if they must be."""
        f, operand = self.f, getattr(self.spec, name)
        head = head_pointer(f, self.p[name], operand, self.b, self.a)
        pointer = rows_from(head, operand, self.first, self.spec.keys, False)
        if not self.copied[name]:
            return pointer(f, f.index(0)), operand.strides[2]
        source, sizes = (operand.dtype.llvm, operand.strides[3]), (count, self.spec.size)
        place = self.scratch.at(name)
        pack_rows(f, self.n, pointer, source, place, self.compute.llvm, sizes, self.width)
        return place, self.width

    def rows(self, name: str, s: Value, own: Value) -> tuple[Value, int]:
        """Address and row stride of the rows from key s on."""
        pointer, stride = self.held[name]
        return self.f.at(pointer, self.f.mul(own, self.f.index(stride)), self.compute.llvm), stride

    def add_kernel(self) -> Kernel:
        """g_q = scale * the sum of its parts, in the order of the runs."""
        spec, n = self.spec, self.n
        rows = 64  # query rows of a tile
        blocks = -(-spec.queries // rows)

        def tile(f: Function, p) -> None:
            head, block = f.div(f.tile, f.index(blocks)), f.rem(f.tile, f.index(blocks))
            b, a = f.div(head, f.index(spec.heads)), f.rem(head, f.index(spec.heads))
            start = f.mul(block, f.index(rows))
            stop = f.minimum(f.add(start, f.index(rows)), f.index(spec.queries))
            base = head_pointer(f, p["temporary.g_q"], self.part, b, a)
            with f.loop("t", start, stop) as t:
                for column in range(0, spec.size, n):
                    count = spec.size - column
                    mask = f.mask_below(n, f.index(count)) if count < n else None
                    at = f.add(f.mul(t.index, f.index(spec.size)), f.index(column))
                    parts = []
                    for run in range(self.runs):
                        place = f.add(at, f.index(run * spec.queries * spec.size))
                        place = f.at(base, place, self.compute.llvm)
                        parts.append(f.load(place, self.scratch.wide, mask=mask))
                    total = reduce(f.add, parts)
                    total = f.mul(total, f.const(total.type, spec.scale))
                    index = [b, a, t.index, f.index(column)]
                    store_at(f, total, p["g_q"], self.all.g_q, index, mask)

        elements = spec.batch * spec.heads * spec.queries * spec.size
        return named_kernel(
            "attention_gradient_sum", ("temporary.g_q", "g_q"), tile,
            tiles=spec.batch * spec.heads * blocks, flops=elements * self.runs,
            bytes=elements * self.compute.itemsize * (self.runs + 1),
            label="attention gradient, parts",
        )  # fmt: skip


# MERGED tinytorch.kernels.attention_gradient: The gradient of attention of bfloat16 inputs by
# AMX tiles, with float32 sums.
#
# Knows tiles and scratch; the method is that of `attention_gradient.py`, with every operand of a
# product copied once into the order tiles want. A tile of the kernel is one head. P and
# dS = P * (dP - delta) are kept transposed (keys down, queries across): as rows for g_v and g_k, as
# pairs of keys for g_q, which is summed with D down and turned at the end of each query block.

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
