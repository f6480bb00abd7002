"""Attention with a streaming softmax: out = softmax(scale * q k^T) v, never T x S in memory.

Knows pointers, strides and register tiles; never tensors or graphs. A tile of the kernel is a run
of query blocks of one head. For each block of keys the logits are made transposed, keys down and
queries across, so that the maxima and sums of the softmax are lane by lane and q is the only
operand that is ever transposed: k and v are read where they lie.

Source: Milakov and Gimelshein 2018 (arXiv 1805.02867) for the running softmax, Dao et al. 2022
(arXiv 2205.14135) for its blocks.
"""

from __future__ import annotations

import math

from tinytorch.base.dtypes import bfloat16
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Kernel, Lowered, Operand, Step, store_at
from tinytorch.kernels.attention_spec import (
    LOG2_E,
    LOWEST,
    PAGE,
    AttentionSpec,
    KeyRows,
    KeyWalk,
    exp2_nonpositive,
    head_pointer,
    log_of_sum,
    must_copy,
    rows_from,
    visible,
)
from tinytorch.kernels.blocking import Scratch, named_kernel, round_up
from tinytorch.kernels.packing import pack_rows, pack_transposed, transpose
from tinytorch.kernels.register_tile import (
    GRAIN,
    ROWS,
    Left,
    Machine,
    Right,
    block_product,
    copy_rows,
    interleave_rows,
    machine_of,
    paired,
    tile_product,
    turn_pairs,
)

QUERIES = 32  # query rows of a block; 48 and 64 are 2 to 15 % slower at (8, 8, 256, 64)
KEYS = 64  # key rows of a block; 128 is no faster
TILES = 256  # tiles to aim for, so that any number of threads ends together


def lower_attention(target, spec: AttentionSpec) -> Lowered:
    """The kernel of one attention.

    Args:
        target: the CPU to write for.
        spec: sizes and layouts.

    Returns:
        One step with buffers "q", "k", "v", "out", "lse".

    Cost: 4 D operations a (query, key) pair and one exponential.
    """
    if suits_tiles(target, spec.q, spec.k, spec.v):
        kernel = TileForward(spec).kernel()
    else:
        kernel = AttentionForward(machine_of(target, spec.compute), spec).kernel()
    return Lowered((Step(kernel, kernel.arguments),))


class AttentionForward:
    """Writes the forward kernel; its fields are the plan, its methods its parts."""

    def __init__(self, machine: Machine, spec: AttentionSpec):
        self.machine, self.spec, self.n = machine, spec, machine.lanes
        self.type = spec.compute.llvm
        self.block = min(QUERIES, round_up(max(spec.queries, 1), self.n))
        self.walk = KeyWalk.of(spec, self.block, KEYS)
        self.width = round_up(spec.size, self.n)
        self.blocks = -(-spec.queries // self.block)
        self.run = max(1, -(-self.blocks * spec.batch * spec.heads // TILES))
        self.groups = -(-self.blocks // self.run)
        self.copied = {
            "k": must_copy(spec.k, spec.compute),
            "v": must_copy(spec.v, spec.compute),
        }
        sizes = {
            "query": spec.size * self.block,  # transposed: (D, block)
            "weight": self.walk.step * self.block,  # (keys, block)
            "sum": self.block * self.width,  # (block, D)
            "largest": self.block,
            "total": self.block,
            "change": self.block,
            **{name: self.walk.step * self.width for name, copied in self.copied.items() if copied},
        }
        self.scratch = Scratch(self.type, spec.compute.itemsize, self.n, sizes)

    def kernel(self) -> Kernel:
        """The whole kernel."""
        spec = self.spec
        traffic = spec.batch * spec.heads * spec.size * 2 * (spec.queries + spec.keys)
        return named_kernel(
            "attention",
            ("q", "k", "v", "out", "lse"),
            self.tile,
            tiles=spec.batch * spec.heads * self.groups,
            scratch=self.scratch.bytes,
            flops=4 * spec.size * spec.pairs,
            bytes=traffic * spec.q.dtype.itemsize,
            label=f"attention {spec.queries}x{spec.keys}x{spec.size}",
        )

    def tile(self, f: Function, p) -> None:
        """One run of query blocks of one head, the last block (for causal: the longest) first."""
        spec = self.spec
        self.f, self.p = f, p
        self.scratch.begin(f, f.scratch)
        head, group = f.div(f.tile, f.index(self.groups)), f.rem(f.tile, f.index(self.groups))
        self.b, self.a = f.div(head, f.index(spec.heads)), f.rem(head, f.index(spec.heads))
        self.heads = {
            name: head_pointer(f, p[name], getattr(spec, name), self.b, self.a) for name in "qkv"
        }
        last = f.sub(f.index(self.blocks - 1), f.mul(group, f.index(self.run)))
        with f.loop("block", 0, self.run) as i:
            block = f.sub(last, i.index)
            with f.when(f.compare("ge", block, f.index(0))):
                self.query_block(f.mul(block, f.index(self.block), "t"))

    def query_block(self, t: Value) -> None:
        """Attention of the query rows t, t + 1, ... t + block - 1."""
        f, spec = self.f, self.spec
        self.t = t
        pack_transposed(
            f, self.n,
            rows_from(self.heads["q"], spec.q, t, spec.queries, spec.queries % self.block != 0),
            (spec.q.dtype.llvm, spec.q.strides[3]), self.scratch.at("query"), self.type,
            (self.block, spec.size), spec.scale * LOG2_E,
        )  # fmt: skip
        self.scratch.fill("largest", self.block, LOWEST)
        self.scratch.fill("total", self.block, 0.0)
        self.scratch.fill("sum", self.block * self.width, 0.0)
        self.walk.visit(f, t, f.index(0), f.index(spec.keys), self.key_block)
        self.finish()

    def key_block(self, s: Value, count: int, masked: bool) -> None:
        """Take the keys s .. s + count - 1 into the running maximum, total and weighted sum."""
        f, spec = self.f, self.spec
        k, k_stride = self.rows("k", s, count)
        v, v_stride = self.rows("v", s, count)
        with f.loop("t", 0, self.block, self.n) as i:  # the maximum so far, to see the change
            f.store(self.scratch.load("largest", i.index), self.scratch.at("change", i.index))
        block_product(
            f, self.machine, self.type, (count, self.block, spec.size),
            Left(k, k_stride, 1), Right(self.scratch.at("query"), self.block),
            self.keep_logits(s, masked),
        )  # fmt: skip
        self.weights(count, masked)

        def add_product() -> None:
            block_product(
                f, self.machine, self.type, (self.block, self.width, count),
                Left(self.scratch.at("weight"), 1, self.block), Right(v, v_stride),
                self.keep_sums, self.changed_sums,
                column_limit=None if self.copied["v"] else spec.size,
            )  # fmt: skip

        if not masked:
            add_product()
            return
        rows = KeyRows(v, v_stride, spec.size, self.type)
        finite = rows.finite(f, self.n, count)
        with f.when(finite):
            add_product()
        with f.when(f.op("xor", finite, f.const("i1", 1))):
            self.add_seen(rows, s, count)

    def add_seen(self, rows: KeyRows, s: Value, count: int) -> None:
        """The weighted sum over the keys that each query sees: what it does not see may be NaN."""
        f = self.f
        with f.loop("t", 0, self.block) as t:
            for column in range(0, self.width, self.n):
                at = f.add(f.mul(t.index, f.index(self.width)), f.index(column))
                changed = self.changed_sums(f, t.index, f.index(column))
                f.store(changed, self.scratch.at("sum", at))

        def weight(t: Value, key: Value) -> Value:
            return self.scratch.at("weight", f.add(f.mul(key, f.index(self.block)), t))

        def place(t: Value, column: int) -> Value:
            return self.scratch.at("sum", f.add(f.mul(t, f.index(self.width)), f.index(column)))

        rows.add_seen(f, self.n, self.walk, (self.t, s), count, weight, place)

    def keep_logits(self, s: Value, masked: bool):
        """Store finished logits (keys down, queries across) and the maxima of their columns."""

        def end(f: Function, values, row: Value, column: Value) -> None:
            for j in range(len(values[0])):
                across = f.add(column, f.index(j * self.n))
                largest = self.scratch.load("largest", across)
                seen = None
                if masked:
                    seen = self.walk.last_seen(f, self.n, f.add(self.t, across), f.add(s, row))
                for i in range(len(values)):
                    x = values[i][j]
                    if seen is not None:
                        x = f.select(visible(f, seen, i), x, f.const(self.scratch.wide, LOWEST))
                    largest = f.select(f.compare("gt", x, largest), x, largest, "largest")
                    at = f.add(f.mul(f.add(row, f.index(i)), f.index(self.block)), across)
                    f.store(x, self.scratch.at("weight", at))
                f.store(largest, self.scratch.at("largest", across))

        return end

    def weights(self, count: int, masked: bool) -> None:
        """Logits become exp2(logit - maximum); `change` becomes the factor of the old sums."""
        f = self.f
        with f.loop("t", 0, self.block, self.n) as i:
            largest = self.scratch.load("largest", i.index)
            change = self.exp2(f.sub(self.scratch.load("change", i.index), largest))
            f.store(change, self.scratch.at("change", i.index))
            total = f.mul(self.scratch.load("total", i.index), change)
            with f.loop("s", 0, count, carry=[total]) as s:
                at = self.scratch.at("weight", f.add(f.mul(s.index, f.index(self.block)), i.index))
                x = f.load(at, self.scratch.wide)
                weight = self.exp2(f.sub(x, largest))
                if masked:
                    hidden = f.compare("le", x, f.const(self.scratch.wide, LOWEST))
                    weight = f.select(hidden, f.const(self.scratch.wide, 0.0), weight)
                f.store(weight, at)
                s.next(f.add(s.carried[0], weight))
            f.store(s.results[0], self.scratch.at("total", i.index))

    def changed_sums(self, f: Function, row: Value, column: Value) -> Value:
        """The sum so far in the scale of the new maximum."""
        change = f.splat(f.load(self.scratch.at("change", row), self.type), self.n)
        at = f.add(f.mul(row, f.index(self.width)), column)
        return f.mul(self.scratch.load("sum", at), change)

    def keep_sums(self, f: Function, values, row: Value, column: Value) -> None:
        """Store a register tile of weighted sums."""
        for i, line in enumerate(values):
            for j, x in enumerate(line):
                at = f.add(f.mul(f.add(row, f.index(i)), f.index(self.width)), column)
                f.store(x, self.scratch.at("sum", f.add(at, f.index(j * self.n))))

    def finish(self) -> None:
        """Divide by the totals and store the rows that exist; one that sees no key is 0, -inf."""
        f, spec = self.f, self.spec
        rows = f.minimum(f.index(self.block), f.sub(f.index(spec.queries), self.t))
        with f.loop("t", 0, self.block, self.n) as i:
            total = self.scratch.load("total", i.index)
            largest = self.scratch.load("largest", i.index)
            empty = f.compare("eq", total, f.const(self.scratch.wide, 0.0))
            lse = log_of_sum(f, largest, total)
            lse = f.select(empty, f.const(self.scratch.wide, -math.inf), lse)
            index = [self.b, self.a, f.add(self.t, i.index)]
            mask = f.mask_below(self.n, f.sub(rows, i.index))
            store_at(f, lse, self.p["lse"], spec.lse, index, mask)
            inverse = f.div(f.const(self.scratch.wide, 1.0), total)
            inverse = f.select(empty, f.const(self.scratch.wide, 0.0), inverse)
            f.store(inverse, self.scratch.at("change", i.index))
        with f.loop("t", 0, rows) as i:
            factor = f.splat(f.load(self.scratch.at("change", i.index), self.type), self.n)
            for column in range(0, spec.size, self.n):
                at = f.add(f.mul(i.index, f.index(self.width)), f.index(column))
                x = f.mul(self.scratch.load("sum", at), factor)
                index = [self.b, self.a, f.add(self.t, i.index), f.index(column)]
                short = spec.size - column < self.n
                mask = f.mask_below(self.n, f.index(spec.size - column)) if short else None
                store_at(f, x, self.p["out"], spec.out, index, mask)

    def exp2(self, x: Value) -> Value:
        """2**x for x <= 0."""
        return exp2_nonpositive(self.f, x)

    def rows(self, name: str, s: Value, count: int) -> tuple[Value, int]:
        """Address and row stride of rows s .. s + count - 1 of k or v, copied if they must be."""
        f, operand = self.f, getattr(self.spec, name)
        pointer = rows_from(self.heads[name], operand, s, self.spec.keys, False)
        if not self.copied[name]:
            return pointer(f, f.index(0)), operand.strides[2]
        source = (operand.dtype.llvm, operand.strides[3])
        place, sizes = self.scratch.at(name), (f.index(count), self.spec.size)
        pack_rows(f, self.n, pointer, source, place, self.type, sizes, self.width)
        return place, self.width


# MERGED tinytorch.kernels.attention: Attention of bfloat16 inputs by AMX tiles, with float32
# sums and softmax.
#
# Knows tiles and scratch; the method is that of `attention.py`, with every operand of a product
# copied once into the order tiles want. A tile of the kernel is a run of query blocks of one head.
# The logits are transposed (keys down, queries across), so is the weighted sum (D down) to its end.

BLOCK = 64  # queries of a block, and keys of a block: 16 tiles of sums
AMX_TILES = 64  # tiles of the kernel to aim for; each copies its head's k and v anew
WIDE = vector(ROWS, "float")


def suits_tiles(target, *operands: Operand) -> bool:
    """Whether the target has tiles and the operands are bfloat16 rows without gaps."""
    return target.has_amx and all(o.dtype is bfloat16 and o.strides[3] == 1 for o in operands)


class TileBlocks:
    """What both directions of attention by tiles share: sizes, scratch, the walk over key blocks.

    Args:
        spec: the attention.
    """

    scratch: Scratch

    def __init__(self, spec: AttentionSpec):
        self.spec = spec
        self.width = round_up(spec.size, GRAIN)
        self.keys = round_up(spec.keys, BLOCK)
        # numbers in a row of turned k or v: rows a page apart would share a set of the cache
        self.line = self.keys + (GRAIN if 2 * self.keys % PAGE == 0 else 0)
        self.blocks = -(-spec.queries // BLOCK)

    def begin(self, f: Function, p, head: Value) -> None:
        """Note where the head lies."""
        self.f, self.p = f, p
        self.scratch.begin(f, f.scratch)
        self.b, self.a = (
            f.div(head, f.index(self.spec.heads)),
            f.rem(head, f.index(self.spec.heads)),
        )

    def take(self, name: str, operand: Operand, first: Value, exist: Value, rows: int) -> None:
        """Copy rows first .. first + rows - 1 of a head to the scratch array `name`."""
        f = self.f
        head = head_pointer(f, self.p[name], operand, self.b, self.a)
        pointer = rows_from(head, operand, first, 0, False)
        place = self.scratch.start[name]
        copy_rows(f, pointer, (exist, self.spec.size), place, (rows, self.width))

    def each_key_block(self, t: Value, visit) -> None:
        """visit(s, masked) for the key blocks that the queries t .. t + BLOCK - 1 see, in order."""
        f, spec = self.f, self.spec
        everyone, anyone = f.index(spec.keys), f.index(spec.keys)
        if spec.causal:
            zero = f.index(0)
            everyone = f.add(t, f.index(spec.shift + 1))
            everyone = f.minimum(f.maximum(everyone, zero), f.index(spec.keys))
            anyone = f.maximum(f.add(t, f.index(spec.shift + BLOCK)), zero)
            anyone = f.minimum(anyone, f.index(spec.keys))
        whole = f.mul(f.div(everyone, f.index(BLOCK)), f.index(BLOCK), "whole")
        with f.loop("keys", 0, whole, BLOCK) as s:
            visit(s.index, False)
        if spec.causal or spec.keys % BLOCK:
            with f.loop("edge", whole, anyone, BLOCK) as s:
                visit(s.index, True)

    def last_seen(self, t: Value, s: Value) -> Value:
        """Lane by lane the last key that query t + lane sees, counted from key s."""
        f, spec = self.f, self.spec
        last = f.splat(f.convert(f.sub(f.index(spec.keys - 1), s), "i32"), ROWS)
        if not spec.causal:
            return last
        own = f.convert(f.sub(f.add(t, f.index(spec.shift)), s), "i32")
        return f.minimum(f.add(f.splat(own, ROWS), f.step(ROWS, "i32")), last)

    def place(self, name: str, index: Value, type: str = "float") -> Value:
        """The address of one element of a scratch array."""
        return self.f.at(self.scratch.start[name], index, type)

    def load(self, name: str, index: Value) -> Value:
        """16 float32 numbers of a scratch array."""
        return self.f.load(self.place(name, index), WIDE, stem=name)

    def fill(self, name: str, count: int, number: float) -> None:
        """Set float32 numbers of a scratch array."""
        with self.f.loop("fill", 0, count, ROWS) as i:
            self.f.store(self.f.const(WIDE, number), self.place(name, i.index))

    def put_turned(self, name: str, out: str, operand: Operand, t: Value, factor) -> None:
        """Store a (D, BLOCK) scratch array as the rows t, t + 1, ... of an operand.

        Args:
            factor: gives, for the first of 16 queries of the block, what their numbers are
                multiplied by, lane by lane.
        """
        f, size = self.f, self.spec.size
        rows = f.minimum(f.index(BLOCK), f.sub(f.index(self.spec.queries), t))
        with f.loop("t", 0, rows, ROWS) as i:
            by = factor(i.index)
            for column in range(0, size, ROWS):
                lines = [
                    f.mul(self.load(name, f.add(f.index((column + d) * BLOCK), i.index)), by)
                    for d in range(ROWS)
                ]
                count = size - column
                mask = f.mask_below(ROWS, f.index(count)) if count < ROWS else None
                for lane, line in enumerate(transpose(f, lines)):
                    own = f.add(i.index, f.index(lane))
                    with f.when(f.compare("lt", own, rows)):
                        index = [self.b, self.a, f.add(t, own), f.index(column)]
                        store_at(f, line, self.p[out], operand, index, mask)


class TileForward(TileBlocks):
    """Writes the forward kernel."""

    def __init__(self, spec: AttentionSpec):
        super().__init__(spec)
        heads = spec.batch * spec.heads
        self.run = max(1, -(-self.blocks * heads // AMX_TILES))
        self.groups = -(-self.blocks // self.run)
        rows, block = 2 * self.keys * self.width, 2 * BLOCK * self.width
        sizes = {
            **dict.fromkeys(("k", "v", "v_pairs"), rows),
            "v_turned": 2 * self.line * self.width,
            **dict.fromkeys(("q", "q_turned"), block),
            "logit": 4 * BLOCK * BLOCK,
            "weight": 2 * BLOCK * BLOCK,
            "sum": 4 * BLOCK * self.width,
            **dict.fromkeys(("largest", "total", "change"), 4 * BLOCK),
        }
        self.scratch = Scratch("i8", 1, ROWS, sizes)

    def kernel(self) -> Kernel:
        """The whole kernel."""
        spec = self.spec
        return named_kernel(
            "attention_tiles",
            ("q", "k", "v", "out", "lse"),
            self.tile,
            tiles=spec.batch * spec.heads * self.groups,
            scratch=self.scratch.bytes,
            flops=4 * spec.size * spec.pairs,
            bytes=spec.batch * spec.heads * spec.size * 4 * (spec.queries + spec.keys),
            label=f"attention {spec.queries}x{spec.keys}x{spec.size} (tiles)",
        )

    def tile(self, f: Function, p) -> None:
        """One run of query blocks of one head, the last block (for causal: the longest) first."""
        spec = self.spec
        self.begin(f, p, f.div(f.tile, f.index(self.groups)))
        group = f.rem(f.tile, f.index(self.groups))
        start = self.scratch.start
        for name, operand in (("k", spec.k), ("v", spec.v)):
            self.take(name, operand, f.index(0), f.index(spec.keys), self.keys)
        interleave_rows(f, start["v"], start["v_pairs"], (self.keys, self.width))
        sizes = (self.keys // 2, self.width)
        turn_pairs(f, start["v_pairs"], start["v_turned"], sizes, self.line // 2)
        last = f.sub(f.index(self.blocks - 1), f.mul(group, f.index(self.run)))
        with f.loop("block", 0, self.run) as i:
            block = f.sub(last, i.index)
            with f.when(f.compare("ge", block, f.index(0))):
                self.query_block(f.mul(block, f.index(BLOCK), "t"))

    def query_block(self, t: Value) -> None:
        """Attention of the query rows t .. t + BLOCK - 1."""
        f, spec, start = self.f, self.spec, self.scratch.start
        self.t = t
        self.take("q", spec.q, t, f.sub(f.index(spec.queries), t), BLOCK)
        turn_pairs(f, start["q"], start["q_turned"], (BLOCK, self.width // 2))
        self.fill("largest", BLOCK, LOWEST)
        self.fill("total", BLOCK, 0.0)
        self.fill("sum", BLOCK * self.width, 0.0)
        self.each_key_block(t, self.key_block)
        self.finish()

    def key_block(self, s: Value, masked: bool) -> None:
        """Take a block of keys into the running maximum, total and weighted sum."""
        f, start = self.f, self.scratch.start
        row = 2 * self.width
        k = f.at(start["k"], f.mul(s, f.index(row)), "i8")
        turned = start["q_turned"], 4 * BLOCK
        sizes = (BLOCK, BLOCK, self.width)
        tile_product(f, sizes, (k, row), turned, (start["logit"], 4 * BLOCK), False)
        with f.loop("t", 0, BLOCK, ROWS) as i:
            self.weights(i.index, s, masked)
        v = f.at(start["v_turned"], f.mul(s, f.index(2)), "i8"), 2 * self.line
        weight, sums = (start["weight"], 4 * BLOCK), (start["sum"], 4 * BLOCK)
        tile_product(f, (self.width, BLOCK, BLOCK), v, weight, sums, True)

    def weights(self, t: Value, s: Value, masked: bool) -> None:
        """Logits of 16 queries become weights in pairs; their maximum, total and sums follow."""
        f = self.f
        seen = self.last_seen(f.add(self.t, t), s) if masked else None
        before = self.load("largest", t)
        with f.loop("s", 0, BLOCK, 4, carry=[before] * 4) as i:
            found = []
            for j in range(4):
                x = self.logit(f.add(i.index, f.index(j)), t, seen)
                found.append(f.select(f.compare("gt", x, i.carried[j]), x, i.carried[j]))
            i.next(*found)
        largest = i.results[0]
        for x in i.results[1:]:
            largest = f.select(f.compare("gt", x, largest), x, largest, "largest")
        change = exp2_nonpositive(f, f.sub(before, largest))
        total = f.mul(self.load("total", t), change)
        with f.loop("s", 0, BLOCK, 2, carry=[total]) as i:
            total, halves = i.carried[0], []
            for j in range(2):
                x = self.logit(f.add(i.index, f.index(j)), t, seen)
                weight = exp2_nonpositive(f, f.sub(x, largest))
                if masked:
                    hidden = f.compare("le", x, f.const(WIDE, LOWEST))
                    weight = f.select(hidden, f.const(WIDE, 0.0), weight)
                total = f.add(total, weight)
                halves.append(weight)
            at = f.add(f.mul(i.index, f.index(BLOCK // 2)), t)
            f.store(paired(f, *halves), self.place("weight", at, "i32"))
            i.next(total)
        f.store(i.results[0], self.place("total", t))
        f.store(largest, self.place("largest", t))
        with f.loop("d", 0, self.width) as d:
            at = f.add(f.mul(d.index, f.index(BLOCK)), t)
            f.store(f.mul(self.load("sum", at), change), self.place("sum", at))

    def logit(self, s: Value, t: Value, seen: Value | None) -> Value:
        """The logits of one key of the block and 16 queries, in units of log 2."""
        f = self.f
        x = self.load("logit", f.add(f.mul(s, f.index(BLOCK)), t))
        x = f.mul(x, f.const(WIDE, self.spec.scale * LOG2_E))
        if seen is None:
            return x
        visible = f.compare("ge", seen, f.splat(f.convert(s, "i32"), ROWS))
        return f.select(visible, x, f.const(WIDE, LOWEST))

    def finish(self) -> None:
        """Divide by the totals and store the rows that exist; one that sees no key is 0, -inf."""
        f, spec = self.f, self.spec
        rows = f.minimum(f.index(BLOCK), f.sub(f.index(spec.queries), self.t))

        def inverse(t: Value) -> Value:
            total = self.load("total", t)
            empty = f.compare("eq", total, f.const(WIDE, 0.0))
            lse = log_of_sum(f, self.load("largest", t), total)
            lse = f.select(empty, f.const(WIDE, -math.inf), lse)
            index = [self.b, self.a, f.add(self.t, t)]
            store_at(f, lse, self.p["lse"], spec.lse, index, f.mask_below(ROWS, f.sub(rows, t)))
            by = f.div(f.const(WIDE, 1.0), total)
            return f.select(empty, f.const(WIDE, 0.0), by)

        self.put_turned("sum", "out", spec.out, self.t, inverse)
