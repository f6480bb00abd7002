"""The gradient of attention with respect to q, k and v, recomputing the weights from `lse`.

Knows pointers, strides and register tiles; never tensors or graphs.
With P = exp(scale q k^T - lse):

    delta = rowsum(g * out)        dP = g v^T        dS = P * (dP - delta)
    g_v = P^T g        g_k = scale * dS^T q        g_q = scale * dS k

    VectorGradient   a tile is one head, or a run of its keys where there are few heads. It walks
                     query blocks, and for each the key blocks: P and dS are kept transposed, keys
                     down and queries across, in which form all five products read k, v, q and g by
                     rows. g_k and g_v of the run stay in scratch until its end. Several runs of one
                     head each give a part of g_q; a second step adds the parts.
    PairGradient     bfloat16 inputs by AMX tiles or dot products of pairs; a tile is one head. P
                     and dS are kept transposed too: as rows for g_v and g_k, as pairs of keys for
                     g_q, which tiles sum with D down and turn at the end of each query block.

Source: Dao et al. 2022 (arXiv 2205.14135), appendix B.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial, reduce

from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import (
    Kernel,
    Lowered,
    Operand,
    Pointers,
    Scratch,
    Step,
    address,
    ceil_div,
    how_many_needed,
    lengths_of,
    named_kernel,
    store_at,
)
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import muladd
from tinytorch.kernels.attention import PAIR_BLOCK, PairWriter, VectorWriter, suits_pairs
from tinytorch.kernels.attention_spec import (
    LOG2_E,
    AttentionGradientSpec,
    exp2_nonpositive,
    exp2_of_pairs,
    visible,
)
from tinytorch.kernels.packing import (
    Rows,
    amx_paired,
    amx_pairs,
    amx_rounded,
    pack_rows,
    pack_transposed,
)
from tinytorch.kernels.register_tile import (
    AMX_ROWS,
    End,
    Left,
    Right,
    Start,
    pair_block_product,
)

# Query rows of a block, the depth of the products that give g_k and g_v, and key rows of a block.
# At (8, 8, 256, 64): 64 and 64 take 10.5 ms, 32 and 64 12.1, 32 and 32 10.9; causal 6.5, 6.4, 10.1.
QUERIES = 64
KEYS = 64
TILES = 32  # tiles to aim for where there are few heads
SUM_ROWS = 64  # query rows of a tile of the kernel that adds parts of g_q
FEWEST_HEADS = 4  # with fewer, tiles of one head each keep fewer threads busy than runs of keys


def lower_attention_gradient(target: Target, spec: AttentionGradientSpec) -> Lowered:
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
    many = forward.batch * forward.heads >= FEWEST_HEADS
    if many and suits_pairs(target, spec.g, forward.q, forward.k, forward.v):
        kernel = PairGradient(target, spec).kernel()
        return Lowered.of(kernel)
    writer = VectorGradient(target, spec)
    kernels = [writer.kernel()] if writer.runs == 1 else [writer.kernel(), writer.sum_kernel()]
    temporaries = {} if writer.runs == 1 else {"temporary.g_q": writer.parts_bytes}
    return Lowered(tuple(Step(k, k.arguments) for k in kernels), temporaries)


def _operands(spec: AttentionGradientSpec) -> dict[str, Operand]:
    x = spec.forward
    return {"g": spec.g, "q": x.q, "k": x.k, "v": x.v, "out": x.out, "lse": x.lse}


def _named(
    kind: str, label: str, spec: AttentionGradientSpec, body: Callable[[Function, Pointers], None],
    g_q: str, tiles: int, scratch: int, itemsize: int,
) -> Kernel:  # fmt: skip
    """The gradient kernel."""
    x = spec.forward
    arguments = (*_operands(spec), g_q, "g_k", "g_v", *lengths_of(x.needed))
    return named_kernel(
        kind, arguments, body, tiles=tiles, scratch=scratch,
        flops=10 * x.size * x.pairs,
        bytes=x.batch * x.heads * x.size * 4 * (x.queries + x.keys) * itemsize,
        label=f"attention gradient {x.queries}x{x.keys}x{x.size}{label}",
    )  # fmt: skip


class VectorGradient(VectorWriter):
    """Writes the gradient kernel of float32 and float64 products."""

    def __init__(self, target: Target, spec: AttentionGradientSpec):
        forward = spec.forward
        super().__init__(target, forward, QUERIES, KEYS, _operands(spec))
        self.all, block = spec, self.block
        blocks = ceil_div(forward.keys, self.walk.step)
        heads = max(forward.batch * forward.heads, 1)
        runs = max(1, min(blocks, ceil_div(TILES, heads)))
        self.run = max(1, ceil_div(blocks, runs)) * self.walk.step  # keys of a run
        self.runs = max(1, ceil_div(forward.keys, self.run))
        held = min(self.run, forward.keys) * self.width
        sizes = {
            **dict.fromkeys(("q", "g", "g_q"), block * self.width),
            **dict.fromkeys(("q_turned", "g_turned"), block * forward.size),
            **dict.fromkeys(("lse", "delta"), block),
            **dict.fromkeys(("weight", "change"), self.walk.step * block),
            **dict.fromkeys(("g_k", "g_v", *self.copied), held),
        }
        self.scratch = Scratch(self.type, forward.compute.itemsize, self.n, sizes)
        # a part of g_q: (B * A, runs, T, D), dense
        part = forward.queries * forward.size
        head = self.runs * part
        self.part = Operand(forward.compute, (forward.heads * head, head, forward.size, 1))
        self.parts_bytes = forward.batch * forward.heads * head * forward.compute.itemsize
        self.g_q = "g_q" if self.runs == 1 else "temporary.g_q"

    def kernel(self) -> Kernel:
        """The kernel that does everything but adding parts of g_q."""
        tiles = self.spec.batch * self.spec.heads * self.runs
        return _named(
            "attention_gradient", "", self.all, self.tile, self.g_q, tiles, self.scratch.bytes,
            self.spec.q.dtype.itemsize,
        )  # fmt: skip

    def tile(self, f: Function, p: Pointers) -> None:
        """One run of keys of one head; the first (for causal: the longest) run first."""
        per_run = f.index(self.spec.batch * self.spec.heads)
        self.this_run = f.div(f.tile, per_run)
        self.begin(f, p, f.rem(f.tile, per_run))
        with (
            f.when(f.compare("gt", self.queries, f.index(0))) if self.spec.needed else nullcontext()
        ):
            self.key_run(f, p)

    def key_run(self, f: Function, p: Pointers) -> None:
        """The keys of a tile."""
        spec = self.spec
        self.first, self.last = f.index(0), f.index(spec.keys)
        if self.runs > 1:
            self.first = f.mul(self.this_run, f.index(self.run), "first")
            self.last = f.minimum(f.add(self.first, f.index(self.run)), self.last)
        if spec.needed and spec.causal:
            self.last = f.minimum(self.last, self.keys_seen)
        count = f.sub(self.last, self.first)
        self.held = {name: self.take_rows(name, self.first, count) for name in "kv"}
        for name in ("g_k", "g_v"):
            with f.loop("row", 0, count) as row:
                for column in range(0, self.width, self.n):
                    place = self.place(name, row.index, f.index(column))
                    f.store(f.const(self.wide, 0.0), place)
        with f.loop("t", 0, self.queries, self.block) as t:
            self.query_block(t.index)
        self.put_rows("g_k", self.all.g_k, p["g_k"], self.first, count, spec.scale)
        self.put_rows("g_v", self.all.g_v, p["g_v"], self.first, count)

    def query_block(self, t: Value) -> None:
        """Everything that the query rows t .. t + block - 1 add to the three gradients."""
        f, spec = self.f, self.spec
        self.t = t
        rows = f.minimum(f.index(self.block), f.sub(self.queries, t))
        self.take_queries("q", rows)
        self.take_queries("g", rows)
        for name, scale in (("q", spec.scale * LOG2_E), ("g", 1.0)):
            place, sizes = self.scratch.at(name + "_turned"), (self.block, spec.size)
            own = Rows(partial(self.own_row, name), self.type, 1)
            pack_transposed(f, self.n, own, place, self.type, sizes, scale)
        self.take_statistics(t, rows, self.type)
        self.scratch.fill("g_q", self.block * self.width, 0.0)
        self.walk.visit(f, t, self.first, self.last, self.key_block)
        if self.runs == 1:
            self.put_rows("g_q", self.all.g_q, self.p["g_q"], t, rows, spec.scale)
            return
        skip = f.mul(self.this_run, f.index(spec.queries * spec.size))
        self.put_rows("g_q", self.part, f.at(self.p[self.g_q], skip, self.type), t, rows)

    def take_queries(self, name: str, rows: Value) -> None:
        """Copy the block's rows of q or g into scratch; rows that do not exist are 0."""
        f, source = self.f, self.rows(name, self.t)
        sizes, place = (rows, self.spec.size), self.scratch.at(name)
        pack_rows(f, self.n, source, place, self.type, sizes, self.width)
        if self.may_end_early:
            start, stop = (f.mul(x, f.index(self.width)) for x in (rows, f.index(self.block)))
            with f.loop("fill", start, stop, self.n) as i:
                self.scratch.store(name, i.index, f.const(self.wide, 0.0))

    def own_row(self, name: str, i: Value) -> Value:
        """Where a row of a scratch array begins."""
        return self.place(name, i, self.f.index(0))

    def key_block(self, s: Value, count: int, masked: bool) -> None:
        """What the keys s .. s + count - 1 give to, and get from, the block of queries."""
        f, scratch = self.f, self.scratch
        own = f.sub(s, self.first)  # counted from the run's first key
        k, v = self.key_rows("k", own), self.key_rows("v", own)
        for name, rows, keep in (("q", k, self.keep_weights), ("g", v, self.keep_changes)):
            end = partial(keep, s, masked)
            self.across_product(rows, name + "_turned", (count, masked), end)
        for name, left, right in (("g_v", "weight", "g"), ("g_k", "change", "q")):
            for square in self.walk.squares(masked, self.side):
                first, rows = square[0], self.walk.rows_of_square(square, count, masked)
                if not rows:
                    continue
                factors = scratch.at(left, f.index(first * (self.block + 1)))
                seeing = scratch.at(right, f.index(first * self.width))
                key = f.add(own, f.index(first))
                self.product.emit(
                    f, (rows, self.width, self.block - first), Left(factors, self.block, 1),
                    Right(seeing, self.width), self.keep(name, key), self.so_far(name, key),
                )  # fmt: skip
        start = self.so_far("g_q", f.index(0))
        self.add_weighted("g_q", start, "change", "k", k, (self.t, s, count), masked)

    def so_far(self, name: str, first: Value) -> Start:
        """Start of a product that adds to rows first, ... of a scratch array."""

        def start(row: Value, column: Value) -> Value:
            place = self.place(name, self.f.add(first, row), column)
            return self.f.load(place, self.wide, stem=name)

        return start

    def keep_weights(self, s: Value, masked: bool, first: int) -> End:
        """Logits (keys down, queries across) become exp2(logit - lse), 0 where not seen."""
        f = self.f

        def weight(logit: Value, lse: Value, at: Value) -> Value:
            return exp2_nonpositive(f, f.sub(logit, lse))

        return self._keep("weight", "lse", weight, s, masked, first)

    def keep_changes(self, s: Value, masked: bool, first: int) -> End:
        """dP becomes dS = P * (dP - delta), 0 where not seen, whatever dP is there."""
        f = self.f

        def change(slope: Value, delta: Value, at: Value) -> Value:
            return f.mul(self.scratch.load("weight", at), f.sub(slope, delta))

        return self._keep("change", "delta", change, s, masked, first)

    def _keep(
        self, name: str, statistic: str, number: Callable[[Value, Value, Value], Value], s: Value,
        masked: bool, first: int,
    ) -> End:  # fmt: skip
        """Store what `number` makes of finished sums and their query's statistic."""
        f = self.f

        def end(values: Sequence[Sequence[Value]], row: Value, column: Value) -> None:
            row, column = f.add(row, f.index(first)), f.add(column, f.index(first))
            for j in range(len(values[0])):
                across = f.add(column, f.index(j * self.n))
                of_query = self.scratch.load(statistic, across)
                seen = None
                if masked:
                    seen = self.walk.last_seen(f, self.n, f.add(self.t, across), f.add(s, row))
                for i, line in enumerate(values):
                    at = self.across(f.add(row, f.index(i)), across)
                    x = number(line[j], of_query, at)
                    if seen is not None:
                        x = f.select(visible(f, seen, i), x, f.const(x.type, 0.0))
                    self.scratch.store(name, at, x)

        return end

    def key_rows(self, name: str, own: Value) -> tuple[Value, int]:
        """Address and row stride of the rows from a key on."""
        pointer, stride = self.held[name]
        return self.f.at(pointer, self.f.mul(own, self.f.index(stride)), self.type), stride

    def sum_kernel(self) -> Kernel:
        """g_q = scale * the sum of its parts, in the order of the runs."""
        spec = self.spec
        blocks = ceil_div(spec.queries, SUM_ROWS)

        def tile(f: Function, p: Pointers) -> None:
            head, block = f.div(f.tile, f.index(blocks)), f.rem(f.tile, f.index(blocks))
            b, a = f.div(head, f.index(spec.heads)), f.rem(head, f.index(spec.heads))
            self.f = f
            start = f.mul(block, f.index(SUM_ROWS))
            stop = f.minimum(f.add(start, f.index(SUM_ROWS)), f.index(spec.queries))
            first = f.mul(head, f.index(spec.queries))
            stop = how_many_needed(f, p, spec.needed, first, stop)
            with f.loop("t", start, stop) as t:
                for column in range(0, spec.size, self.n):
                    mask = self.columns_mask(column)
                    index = [b, a, t.index, f.index(column)]
                    parts: list[Value] = []
                    for run in range(self.runs):
                        part = Operand(
                            self.part.dtype, self.part.strides, run * spec.queries * spec.size
                        )
                        place = address(f, p["temporary.g_q"], part, index)
                        parts.append(f.load(place, self.wide, mask=mask))
                    total = reduce(f.add, parts)
                    total = f.mul(total, f.const(total.type, spec.scale))
                    store_at(f, total, p["g_q"], self.all.g_q, index, mask)

        elements = spec.batch * spec.heads * spec.queries * spec.size
        return named_kernel(
            "attention_gradient_sum", ("temporary.g_q", "g_q", *lengths_of(spec.needed)), tile,
            tiles=spec.batch * spec.heads * blocks, flops=elements * self.runs,
            bytes=elements * spec.compute.itemsize * (self.runs + 1),
            label="attention gradient, parts",
        )  # fmt: skip


class PairGradient(PairWriter):
    """Writes the gradient kernel of bfloat16 inputs."""

    def __init__(self, target: Target, spec: AttentionGradientSpec):
        super().__init__(target, spec.forward, _operands(spec))
        self.all = spec
        rows, block = self.keys * self.width, PAIR_BLOCK * self.width
        sizes = {
            **dict.fromkeys(("k", "v", "k_pairs"), rows // 2),
            **self.of_turned("k"),
            **dict.fromkeys(("g_k", "g_v"), rows),
            **dict.fromkeys(("q", "q_turned", "q_pairs", "g", "g_turned", "g_pairs"), block // 2),
            "g_q": block,
            **dict.fromkeys(("logit", "slope"), PAIR_BLOCK * PAIR_BLOCK),
            **dict.fromkeys(("weight", "change", "change_pairs"), PAIR_BLOCK * PAIR_BLOCK // 2),
            **dict.fromkeys(("lse", "delta"), PAIR_BLOCK),
        }
        self.scratch = Scratch("float", 4, AMX_ROWS, sizes)

    def kernel(self) -> Kernel:
        """The whole kernel."""
        tiles = self.spec.batch * self.spec.heads
        return _named(
            "attention_gradient_pairs", " (pairs)", self.all, self.tile, "g_q", tiles,
            self.scratch.bytes, 3,
        )  # fmt: skip

    def tile(self, f: Function, p: Pointers) -> None:
        """One head."""
        spec = self.spec
        self.begin(f, p, f.tile)
        with f.when(f.compare("gt", self.queries, f.index(0))) if spec.needed else nullcontext():
            self.all_keys(f, p)

    def all_keys(self, f: Function, p: Pointers) -> None:
        """The keys of a head."""
        spec = self.spec
        self.take_keys("kv", "k")
        for name in ("g_k", "g_v"):
            self.scratch.fill(name, self.keys * self.width, 0.0)
        with f.loop("t", 0, self.queries, PAIR_BLOCK) as t:
            self.query_block(t.index)
        self.put_rows("g_k", self.all.g_k, p["g_k"], f.index(0), spec.keys, spec.scale)
        self.put_rows("g_v", self.all.g_v, p["g_v"], f.index(0), spec.keys)

    def query_block(self, t: Value) -> None:
        """Everything that the query rows t .. t + PAIR_BLOCK - 1 add to the three gradients."""
        f, spec, start = self.f, self.spec, self.scratch.start
        self.t = t
        for name in "qg":
            self.take_queries(name, t)
            amx_pairs(f, start[name], start[name + "_pairs"], (PAIR_BLOCK, self.width))
        rows = f.minimum(f.sub(self.queries, t), f.index(PAIR_BLOCK))
        self.take_statistics(t, rows, "bfloat")
        self.scratch.fill("g_q", PAIR_BLOCK * self.width, 0.0)
        self.walk.visit(f, t, f.index(0), f.index(spec.keys), self.key_block)
        if not self.target.has_amx:
            self.put_rows("g_q", self.all.g_q, self.p["g_q"], t, rows, spec.scale)
            return
        scale = f.const(self.wide, spec.scale)
        self.put_turned("g_q", self.all.g_q, self.p["g_q"], t, lambda _: scale)

    def key_block(self, s: Value, count: int, masked: bool) -> None:
        """What a block of keys gives to, and gets from, the block of queries."""
        f, start = self.f, self.scratch.start
        row = 2 * self.width
        offset = f.mul(s, f.index(row))
        for name, turned, out in (("k", "q_turned", "logit"), ("v", "g_turned", "slope")):
            self.across_product(f.at(start[name], offset, "i8"), turned, out, masked)
        with f.loop("t", 0, PAIR_BLOCK, 2 * AMX_ROWS) as t:
            self.weights(t.index, s, masked)
        for left, right, out in (("weight", "g_pairs", "g_v"), ("change", "q_pairs", "g_k")):
            for square in self.walk.squares(masked, self.side):
                first, keys = square[0], self.walk.rows_of_square(square, PAIR_BLOCK, masked)
                at = f.mul(f.add(s, f.index(first)), f.index(2 * row))
                factors = f.at(start[left], f.index(2 * first * (PAIR_BLOCK + 1)), "i8")
                pair_block_product(
                    f, self.target, (keys, self.width, PAIR_BLOCK - first),
                    (factors, 2 * PAIR_BLOCK), (f.at(start[right], f.index(first * row), "i8"),
                    2 * row), (f.at(start[out], at, "i8"), 2 * row), True,
                )  # fmt: skip
        self.add_weighted("k", s, "change_pairs", "g_q", masked, partial(self.sum_so_far, "g_q"))

    def weights(self, t: Value, s: Value, masked: bool) -> None:
        """P and dS of 32 queries and the block's keys, as rows; dS as pairs of keys too."""
        f, scratch = self.f, self.scratch
        starts = [f.add(t, f.index(j * AMX_ROWS)) for j in range(2)]
        seen = [
            self.walk.last_seen(f, self.n, f.add(self.t, x), s) if masked else None for x in starts
        ]
        lse = [scratch.load("lse", x) for x in starts]
        delta = [scratch.load("delta", x) for x in starts]
        seen_keys = self.walk.seen_from(f, t, PAIR_BLOCK, masked, 2 * AMX_ROWS)
        with f.loop("s", 0, seen_keys, 2) as i:
            changes: list[list[Value]] = [[], []]
            for k in range(2):
                key = f.add(i.index, f.index(k))
                row = f.mul(key, f.index(PAIR_BLOCK))
                weights: list[Value] = []
                for j in range(2):
                    at = f.add(row, starts[j])
                    units = f.const(self.wide, self.spec.scale * LOG2_E)
                    logit = muladd(f, scratch.load("logit", at), units, f.neg(lse[j]))
                    weight = exp2_of_pairs(f, self.target, logit)
                    if (last := seen[j]) is not None:
                        there = visible(f, last, key)
                        weight = f.select(there, weight, f.const(self.wide, 0.0))
                    weights.append(weight)
                    slope = f.sub(scratch.load("slope", at), delta[j])
                    changes[j].append(f.mul(weight, slope))
                place = f.add(row, t)
                f.store(amx_rounded(f, *weights), scratch.at("weight", place, "i16"))
                change = amx_rounded(f, changes[0][k], changes[1][k])
                f.store(change, scratch.at("change", place, "i16"))
            for j in range(2):
                at = f.add(f.mul(i.index, f.index(PAIR_BLOCK // 2)), starts[j])
                f.store(amx_paired(f, *changes[j]), scratch.at("change_pairs", at, "i32"))
