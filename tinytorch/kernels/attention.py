"""Attention with a streaming softmax: out = softmax(scale q k^T) v, never T x S in memory.

Knows pointers, strides and register tiles; never tensors or graphs. A tile of the kernel is a run
of query blocks of one head. For each block of keys the logits are made transposed, keys down and
queries across, so that the maxima and sums of the softmax are lane by lane.

    VectorForward   q is the only operand that is ever transposed: k and v are read where they lie
    PairForward     bfloat16 inputs by AMX tiles, or dot products of pairs: every operand of a
                    product is copied once into the order they want; for tiles the weighted sum is
                    transposed (D down) to its end, dot products sum it as it is stored

Source: Milakov and Gimelshein 2018 (arXiv 1805.02867) for the running softmax, Dao et al. 2022
(arXiv 2205.14135) for its blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce

from tinytorch.base.dtypes import bfloat16, float32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    Kernel,
    Lowered,
    Operand,
    Pointers,
    Scratch,
    ceil_div,
    lengths_of,
    named_kernel,
    round_up,
    store_at,
)
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import muladd
from tinytorch.kernels.attention_spec import (
    LOG2_E,
    LOWEST,
    PAGE,
    AttentionSpec,
    HeadWriter,
    KeyWalk,
    exp2_nonpositive,
    exp2_of_pairs,
    must_copy,
    visible,
)
from tinytorch.kernels.packing import (
    amx_paired,
    amx_turned,
    load_row_piece,
    pack_amx_pairs,
    pack_amx_rows,
    pack_rows,
    pack_transposed,
    transpose,
)
from tinytorch.kernels.register_tile import (
    AMX_DEPTH,
    AMX_ROWS,
    BlockProduct,
    End,
    Left,
    Right,
    Start,
    all_finite,
    pair_block_product,
    words_of_pairs,
)

QUERIES = 32  # query rows of a block; 48 and 64 are 2 to 15 % slower at (8, 8, 256, 64)
KEYS = 64  # key rows of a block; 128 is no faster
TILES = 256  # tiles to aim for, so that any number of threads ends together
PAIR_BLOCK = 64  # queries of a block, and keys of a block: 16 AMX tiles of sums
SQUARE = 16  # queries that see the same squares of keys on the diagonal, at least a vector
PAIR_TILES = 64  # the same as TILES: each copies its head's k and v anew


def lower_attention(target: Target, spec: AttentionSpec) -> Lowered:
    """The kernel of one attention.

    Args:
        target: the CPU to write for.
        spec: sizes and layouts.

    Returns:
        One step with buffers "q", "k", "v", "out", "lse".

    Cost: 4 D operations a (query, key) pair and one exponential.
    """
    if suits_pairs(target, spec.q, spec.k, spec.v):
        kernel = PairForward(target, spec).kernel()
    else:
        kernel = VectorForward(target, spec).kernel()
    return Lowered.of(kernel)


def suits_pairs(target: Target, *operands: Operand) -> bool:
    """Whether the target multiplies bfloat16, and the operands are such rows without gaps."""
    multiplies = target.has_amx or target.has_bf16_dot
    return multiplies and all(o.dtype is bfloat16 and o.strides[3] == 1 for o in operands)


def _operands(spec: AttentionSpec) -> dict[str, Operand]:
    return {"q": spec.q, "k": spec.k, "v": spec.v}


def _named(
    kind: str, label: str, spec: AttentionSpec, body: Callable[[Function, Pointers], None],
    groups: int, scratch: int, itemsize: int,
) -> Kernel:  # fmt: skip
    """The forward kernel, whose tiles are (head, run of query blocks)."""
    heads = spec.batch * spec.heads
    arguments = ("q", "k", "v", "out", "lse", *lengths_of(spec.needed))
    return named_kernel(
        kind, arguments, body, tiles=heads * groups, scratch=scratch,
        flops=4 * spec.size * spec.pairs,
        bytes=heads * spec.size * 2 * (spec.queries + spec.keys) * itemsize,
        label=f"attention {spec.queries}x{spec.keys}x{spec.size}{label}",
    )  # fmt: skip


class VectorWriter(HeadWriter):
    """What both directions share where products are of float32 or float64 vectors.

    Args:
        queries, keys: of a block.
    """

    def __init__(
        self, target: Target, spec: AttentionSpec, queries: int, keys: int,
        operands: Mapping[str, Operand],
    ):  # fmt: skip
        n = target.lanes(spec.compute)
        block = min(queries, round_up(max(spec.queries, 1), n))
        super().__init__(spec, n, block, round_up(spec.size, n), operands)
        self.side = max(n, SQUARE)
        self.product = BlockProduct(self.type, n, target.registers)
        self.walk = KeyWalk.of(spec, block, keys)
        self.copied = [name for name in "kv" if must_copy(operands[name], spec.compute)]

    def place(self, name: str, row: Value, column: Value) -> Value:
        """Where a row of a (rows, D) scratch array lies, from a column on."""
        f = self.f
        return self.scratch.at(name, f.add(f.mul(row, f.index(self.width)), column))

    def across(self, row: Value, column: Value) -> Value:
        """The index in a (keys, queries) scratch array."""
        return self.f.add(self.f.mul(row, self.f.index(self.block)), column)

    def across_product(
        self, rows: tuple[Value, int], name: str, keys: tuple[int, bool], end: Callable[[int], End]
    ) -> None:
        """A block's keys times its turned queries, where some query of a square may see some key.

        Args:
            rows: address and row stride of the keys' rows.
            name: of the turned queries, a scratch array (D, block).
            keys: how many there are, and whether some queries miss some of them.
            end: gives what takes the sums whose rows and columns are counted from an index.
        """
        f, (pointer, stride) = self.f, rows
        for square in self.walk.squares(keys[1], self.side):
            first, count = square[0], self.walk.rows_of_square(square, *keys)
            if count:
                at = f.at(pointer, f.index(first * stride), self.type)
                self.product.emit(
                    f, (count, self.block - first, self.spec.size), Left(at, stride, 1),
                    Right(self.scratch.at(name, f.index(first)), self.block), end(first),
                )  # fmt: skip

    def keep(self, name: str, first: Value) -> End:
        """Store a register tile as rows first, ... of a (rows, D) scratch array."""
        f = self.f

        def end(values: Sequence[Sequence[Value]], row: Value, column: Value) -> None:
            for i, line in enumerate(values):
                for j, x in enumerate(line):
                    own = f.add(first, f.add(row, f.index(i)))
                    f.store(x, self.place(name, own, f.add(column, f.index(j * self.n))))

        return end

    def take_rows(self, name: str, first: Value, count: Value) -> tuple[Value, int]:
        """Address and row stride of rows first, ... of k or v, copied if they must be."""
        f, rows = self.f, self.rows(name, first)
        if name not in self.copied:
            return rows.at(f.index(0)), self.operands[name].strides[2]
        place, sizes = self.scratch.at(name), (count, self.spec.size)
        pack_rows(f, self.n, rows, place, self.type, sizes, self.width)
        return place, self.width

    def add_weighted(
        self, out: str, start: Start, factors: str, name: str, rows: tuple[Value, int],
        keys: tuple[Value, Value, int], masked: bool,
    ) -> None:  # fmt: skip
        """Rows of scratch array `out` = start + the sum over keys of their factor times their row.

        Args:
            factors: scratch array (keys, queries).
            name, rows: "k" or "v", and address and row stride of the keys' rows.
            keys: the first query of the block, the first key, and how many keys.
            masked: some queries miss some keys; what a query does not see may be no number.
        """
        f, count = self.f, keys[2]
        limit = None if name in self.copied else self.spec.size

        def add_product() -> None:
            for square in self.walk.squares(masked, self.side):
                first = f.index(square[0])

                def begin(row: Value, column: Value, first: Value = first) -> Value:
                    return start(f.add(row, first), column)

                seen = self.walk.seen_of_square(square, count, masked)
                self.product.emit(
                    f, (square[1], self.width, seen),
                    Left(self.scratch.at(factors, first), 1, self.block), Right(*rows, limit),
                    self.keep(out, first), begin,
                )  # fmt: skip

        if not masked:
            add_product()
            return
        finite = self.all_finite(rows, count)
        with f.when(finite):
            add_product()
        with f.when(f.opposite(finite)):
            self.add_seen(out, start, factors, rows, keys)

    def key_piece(self, rows: tuple[Value, int], key: Value, column: int) -> Value:
        """A vector of a key's row from a column on; 0 behind the end."""
        f, (pointer, stride) = self.f, rows
        at = f.at(pointer, f.add(f.mul(key, f.index(stride)), f.index(column)), self.type)
        return load_row_piece(f, at, self.type, 1, self.n, self.spec.size - column, self.type)

    def all_finite(self, rows: tuple[Value, int], count: int) -> Value:
        """Whether the first `count` rows hold no infinity and no NaN: then x - x is 0 everywhere.

        A key that a query does not see has the weight 0, and 0 times infinity is no number: where
        some queries miss some keys, a product is the sum over the seen ones only if this holds.
        """
        f, columns = self.f, range(0, self.spec.size, self.n)
        zero = f.const(self.wide, 0.0)
        with f.loop("s", 0, count, carry=[zero] * len(columns)) as s:  # chains side by side
            pieces = [self.key_piece(rows, s.index, column) for column in columns]
            s.next(*(f.add(t, f.sub(x, x)) for t, x in zip(s.carried, pieces, strict=True)))
        return all_finite(f, reduce(f.add, s.results, zero))

    def add_seen(
        self, out: str, start: Start, factors: str, rows: tuple[Value, int],
        keys: tuple[Value, Value, int],
    ) -> None:  # fmt: skip
        """`add_weighted` key by key, over those that each query sees."""
        f, (first_query, first_key, count) = self.f, keys
        with f.loop("t", 0, self.block) as t:
            for column in map(f.index, range(0, self.width, self.n)):
                f.store(start(t.index, column), self.place(out, t.index, column))
            seen = f.add(f.add(first_query, t.index), f.index(self.spec.shift + 1))
            stop = f.minimum(f.index(count), f.maximum(f.index(0), f.sub(seen, first_key)))
            with f.loop("s", 0, stop) as s:
                factor = self.scratch.at(factors, self.across(s.index, t.index))
                by = f.splat(f.load(factor, self.type), self.n)
                for column in range(0, self.spec.size, self.n):
                    at = self.place(out, t.index, f.index(column))
                    x = f.mul(by, self.key_piece(rows, s.index, column))
                    f.store(f.add(f.load(at, self.wide), x), at)


class VectorForward(VectorWriter):
    """Writes the forward kernel of float32 and float64 products."""

    def __init__(self, target: Target, spec: AttentionSpec):
        super().__init__(target, spec, QUERIES, KEYS, _operands(spec))
        self.run = max(1, ceil_div(self.blocks * spec.batch * spec.heads, TILES))
        self.groups = ceil_div(self.blocks, self.run)
        sizes = {
            "query": spec.size * self.block,  # transposed: (D, block)
            "weight": self.walk.step * self.block,  # (keys, block)
            "sum": self.block * self.width,  # (block, D)
            **dict.fromkeys(("largest", "total", "change"), self.block),
            **dict.fromkeys(self.copied, self.walk.step * self.width),
        }
        self.scratch = Scratch(self.type, spec.compute.itemsize, self.n, sizes)

    def kernel(self) -> Kernel:
        """The whole kernel."""
        itemsize = self.spec.q.dtype.itemsize
        return _named(
            "attention", "", self.spec, self.tile, self.groups, self.scratch.bytes, itemsize
        )

    def tile(self, f: Function, p: Pointers) -> None:
        """One run of query blocks of one head."""
        groups = f.index(self.groups)
        self.begin(f, p, f.div(f.tile, groups))
        self.each_query_block(f.rem(f.tile, groups), self.run, self.query_block)

    def query_block(self, t: Value) -> None:
        """Attention of the query rows t, t + 1, ... t + block - 1."""
        f, spec = self.f, self.spec
        self.t = t
        ragged = spec.queries if spec.queries % self.block else None
        pack_transposed(
            f, self.n, self.rows("q", t, ragged), self.scratch.at("query"), self.type,
            (self.block, spec.size), spec.scale * LOG2_E,
        )  # fmt: skip
        self.scratch.fill("largest", self.block, LOWEST)
        self.scratch.fill("total", self.block, 0.0)
        self.scratch.fill("sum", self.block * self.width, 0.0)
        self.walk.visit(f, t, f.index(0), f.index(spec.keys), self.key_block)
        rows = f.minimum(f.index(self.block), f.sub(self.queries, t))
        with f.loop("t", 0, self.block, self.n) as i:
            self.scratch.store("change", i.index, self.put_statistics(t, i.index, rows))
        self.put_rows("sum", spec.out, self.p["out"], t, rows, self.change)

    def key_block(self, s: Value, count: int, masked: bool) -> None:
        """Take the keys s .. s + count - 1 into the running maximum, total and weighted sum."""
        f, keys = self.f, self.f.index(count)
        k, v = self.take_rows("k", s, keys), self.take_rows("v", s, keys)
        with f.loop("t", 0, self.block, self.n) as i:  # the maximum so far, to see the change
            self.scratch.store("change", i.index, self.scratch.load("largest", i.index))
        end = partial(self.keep_logits, s, masked)
        self.across_product(k, "query", (count, masked), end)
        self.weights(count, masked)
        self.add_weighted("sum", self.changed_sums, "weight", "v", v, (self.t, s, count), masked)

    def keep_logits(self, s: Value, masked: bool, first: int) -> End:
        """Store finished logits (keys down, queries across) and the maxima of their columns.

        Args:
            first: rows and columns are counted from there.
        """
        f, scratch = self.f, self.scratch

        def end(values: Sequence[Sequence[Value]], row: Value, column: Value) -> None:
            row, column = f.add(row, f.index(first)), f.add(column, f.index(first))
            for j in range(len(values[0])):
                across = f.add(column, f.index(j * self.n))
                largest = scratch.load("largest", across)
                seen = None
                if masked:
                    seen = self.walk.last_seen(f, self.n, f.add(self.t, across), f.add(s, row))
                for i, line in enumerate(values):
                    x = line[j]
                    if seen is not None:
                        x = f.select(visible(f, seen, i), x, f.const(self.wide, LOWEST))
                    largest = f.select(f.compare("gt", x, largest), x, largest, "largest")
                    scratch.store("weight", self.across(f.add(row, f.index(i)), across), x)
                scratch.store("largest", across, largest)

        return end

    def weights(self, count: int, masked: bool) -> None:
        """Logits become exp2(logit - maximum); `change` becomes the factor of the old sums."""
        f, scratch = self.f, self.scratch
        with f.loop("t", 0, self.block, self.n) as i:
            largest = scratch.load("largest", i.index)
            change = exp2_nonpositive(f, f.sub(scratch.load("change", i.index), largest))
            scratch.store("change", i.index, change)
            total = f.mul(scratch.load("total", i.index), change)
            seen = self.walk.seen_from(f, i.index, count, masked, self.side)
            with f.loop("s", 0, seen, carry=[total]) as s:
                at = self.across(s.index, i.index)
                weight = _weight(f, scratch.load("weight", at), largest, masked)
                scratch.store("weight", at, weight)
                s.next(f.add(s.carried[0], weight))
            scratch.store("total", i.index, s.results[0])

    def change(self, row: Value) -> Value:
        """A row's factor in every lane."""
        return self.f.splat(self.f.load(self.scratch.at("change", row), self.type), self.n)

    def changed_sums(self, row: Value, column: Value) -> Value:
        """The sum so far in the scale of the new maximum."""
        f, change = self.f, self.change(row)
        return f.mul(f.load(self.place("sum", row, column), self.wide, stem="sum"), change)


def _weight(f: Function, x: Value, largest: Value, masked: bool) -> Value:
    """exp2(logit - maximum), 0 where it is not seen."""
    weight = exp2_nonpositive(f, f.sub(x, largest))
    if not masked:
        return weight
    hidden = f.compare("le", x, f.const(x.type, LOWEST))
    return f.select(hidden, f.const(x.type, 0.0), weight)


class PairWriter(HeadWriter):
    """What both directions of attention of bfloat16 share. Sizes in scratch are of float32."""

    def __init__(self, target: Target, spec: AttentionSpec, operands: Mapping[str, Operand]):
        self.target = target
        super().__init__(spec, AMX_ROWS, PAIR_BLOCK, round_up(spec.size, AMX_DEPTH), operands)
        self.walk = KeyWalk(spec, PAIR_BLOCK, PAIR_BLOCK, PAIR_BLOCK, padded=True)
        self.side = 2 * AMX_ROWS if target.has_amx else SQUARE
        self.keys = round_up(spec.keys, PAIR_BLOCK)
        # numbers in a row of turned k or v: rows a page apart would share a set of the cache
        self.line = self.keys + (AMX_DEPTH if 2 * self.keys % PAGE == 0 else 0)

    def across_product(self, rows: Value, name: str, out: str, masked: bool) -> None:
        """Scratch array `out` (keys, queries) = rows of keys times turned queries, where seen."""
        f, start = self.f, self.scratch.start
        row, line = 2 * self.width, 4 * PAIR_BLOCK
        for square in self.walk.squares(masked, self.side):
            first, keys = square[0], self.walk.rows_of_square(square, PAIR_BLOCK, masked)
            pair_block_product(
                f, self.target, (keys, PAIR_BLOCK - first, self.width),
                (f.at(rows, f.index(first * row), "i8"), row),
                (f.at(start[name], f.index(4 * first), "i8"), line),
                (f.at(start[out], f.index(first * (line + 4)), "i8"), line), False,
            )  # fmt: skip

    def add_weighted(
        self, name: str, s: Value, factors: str, out: str, masked: bool, start: Start | None
    ) -> None:
        """Scratch array `out` += the sum over a block's keys of pairs of factors times their rows.

        By dot products `out` is (queries, D), and a pair of factors is a word that is read as it
        lies; AMX tiles need such words side by side, so there the keys are turned, and `out` too.

        Args:
            name: "k" or "v"; s: the block's first key.
            start: gives the first value of each sum of dot products; None: zero.
        """
        f, at, line = self.f, self.scratch.start, 4 * PAIR_BLOCK
        for square in self.walk.squares(masked, self.side):
            seen = self.walk.seen_of_square(square, PAIR_BLOCK, masked)
            factor = f.at(at[factors], f.index(4 * square[0]), "i8")
            if self.target.has_amx:
                turned = f.at(at[name + "_turned"], f.mul(s, f.index(2)), "i8")
                sums = f.at(at[out], f.index(4 * square[0]), "i8")
                pair_block_product(
                    f, self.target, (self.width, square[1], seen), (turned, 2 * self.line),
                    (factor, line), (sums, line), True,
                )  # fmt: skip
                continue
            pairs = f.at(at[name + "_pairs"], f.mul(s, f.index(2 * self.width)), "i8")
            self.add_rows(out, square, seen, factor, pairs, start)

    def sum_at(self, name: str, row: Value, column: Value) -> Value:
        """Where a sum of a (queries, D) scratch array lies."""
        f = self.f
        return self.scratch.at(name, f.add(f.mul(row, f.index(self.width)), column))

    def sum_so_far(self, name: str, row: Value, column: Value) -> Value:
        """A vector of such sums, as wide as those of dot products."""
        wide = vector(self.target.lanes(float32), "float")
        return self.f.load(self.sum_at(name, row, column), wide, stem=name)

    def add_rows(
        self, out: str, square: tuple[int, int], seen: int, factor: Value, pairs: Value,
        start: Start | None,
    ) -> None:  # fmt: skip
        """`add_weighted` by dot products for one of the squares of a block's queries."""
        f, n, first = self.f, self.target.lanes(float32), self.f.index(square[0])

        def end(values: Sequence[Sequence[Value]], row: Value, column: Value) -> None:
            for i, line in enumerate(values):
                own = f.add(row, f.index(square[0] + i))
                for j, x in enumerate(line):
                    f.store(x, self.sum_at(out, own, f.add(column, f.index(j * n))))

        def begin(row: Value, column: Value) -> Value:
            zero = f.const(vector(n, "float"), 0.0)
            return start(f.add(row, first), column) if start else zero

        BlockProduct("float", n, self.target.registers, words=words_of_pairs(self.target)).emit(
            f, (square[1], round_up(self.spec.size, n), seen // 2),
            Left(factor, 2, 2 * PAIR_BLOCK), Right(pairs, self.width), end, begin,
        )  # fmt: skip

    def take(self, name: str, first: Value, exist: Value, rows: int) -> None:
        """Copy rows first .. first + rows - 1 of a head to the scratch array of its name."""
        sizes, place = (rows, self.width), self.scratch.at(name)
        pack_amx_rows(self.f, self.rows(name, first), (exist, self.spec.size), place, sizes)

    def take_keys(self, rows: str, weighted: str) -> None:
        """Copy the rows of k, v or both, and of one of them what `add_weighted` reads."""
        f, start = self.f, self.scratch.start
        exist, sizes = f.maximum(self.keys_seen, f.index(1)), (self.keys, self.width)
        for name in rows:
            self.take(name, f.index(0), exist, self.keys)
        pairs, source = start[weighted + "_pairs"], self.rows(weighted, f.index(0))
        pack_amx_pairs(f, source, (exist, self.spec.size), pairs, sizes)
        if self.target.has_amx:
            sizes = (self.keys // 2, self.width)
            amx_turned(f, pairs, start[weighted + "_turned"], sizes, self.line // 2)

    def of_turned(self, name: str) -> dict[str, int]:
        """The size of the scratch array of turned pairs of k or v, if there is one."""
        return {name + "_turned": self.line * self.width // 2} if self.target.has_amx else {}

    def take_queries(self, name: str, t: Value) -> None:
        """Copy the block's rows of q or g, and their turned pairs."""
        f, start = self.f, self.scratch.start
        self.take(name, t, f.sub(self.queries, t), PAIR_BLOCK)
        amx_turned(f, start[name], start[name + "_turned"], (PAIR_BLOCK, self.width // 2))

    def put_turned(
        self, name: str, operand: Operand, pointer: Value, t: Value,
        factor: Callable[[Value], Value],
    ) -> None:  # fmt: skip
        """Store a (D, PAIR_BLOCK) scratch array as the rows t, t + 1, ... of an operand.

        Args:
            factor: gives, for the first of 16 queries of the block, what their numbers are
                multiplied by, lane by lane.
        """
        f = self.f
        rows = f.minimum(f.index(PAIR_BLOCK), f.sub(self.queries, t))
        with f.loop("t", 0, rows, AMX_ROWS) as i:
            by = factor(i.index)
            for column in range(0, self.spec.size, AMX_ROWS):
                lines: list[Value] = []
                for d in range(AMX_ROWS):
                    at = f.add(f.index((column + d) * PAIR_BLOCK), i.index)
                    lines.append(f.mul(self.scratch.load(name, at), by))
                mask = self.columns_mask(column)
                for lane, line in enumerate(transpose(f, lines)):
                    own = f.add(i.index, f.index(lane))
                    with f.when(f.compare("lt", own, rows)):
                        index = [self.b, self.a, f.add(t, own), f.index(column)]
                        store_at(f, line, pointer, operand, index, mask)


class PairForward(PairWriter):
    """Writes the forward kernel of bfloat16 inputs."""

    def __init__(self, target: Target, spec: AttentionSpec):
        super().__init__(target, spec, _operands(spec))
        self.run = max(1, ceil_div(self.blocks * spec.batch * spec.heads, PAIR_TILES))
        self.groups = ceil_div(self.blocks, self.run)
        rows, block = self.keys * self.width // 2, PAIR_BLOCK * self.width // 2
        sizes = {
            **dict.fromkeys(("k", "v_pairs"), rows),
            **self.of_turned("v"),
            **dict.fromkeys(("q", "q_turned"), block),
            "logit": PAIR_BLOCK * PAIR_BLOCK,
            "weight": PAIR_BLOCK * PAIR_BLOCK // 2,
            "sum": PAIR_BLOCK * self.width,
            **dict.fromkeys(("largest", "total", "change"), PAIR_BLOCK),
        }
        self.scratch = Scratch("float", 4, AMX_ROWS, sizes)
        # whether the first block of keys is the only one: then no sums come before it
        self.alone = not (spec.causal or target.has_amx) and 0 < spec.keys <= PAIR_BLOCK

    def kernel(self) -> Kernel:
        """The whole kernel."""
        bytes, itemsize = self.scratch.bytes, 2
        return _named(
            "attention_pairs", " (pairs)", self.spec, self.tile, self.groups, bytes, itemsize
        )

    def tile(self, f: Function, p: Pointers) -> None:
        """One run of query blocks of one head."""
        groups = f.index(self.groups)
        self.begin(f, p, f.div(f.tile, groups))
        self.take_keys("k", "v")
        self.each_query_block(f.rem(f.tile, groups), self.run, self.query_block)

    def query_block(self, t: Value) -> None:
        """Attention of the query rows t .. t + PAIR_BLOCK - 1."""
        f, spec = self.f, self.spec
        self.t = t
        self.take_queries("q", t)
        self.scratch.fill("largest", PAIR_BLOCK, LOWEST)
        self.scratch.fill("total", PAIR_BLOCK, 0.0)
        if not self.alone:
            self.scratch.fill("sum", PAIR_BLOCK * self.width, 0.0)
        self.walk.visit(f, t, f.index(0), f.index(spec.keys), self.key_block)
        rows = f.minimum(f.index(PAIR_BLOCK), f.sub(self.queries, t))
        if self.target.has_amx:
            self.put_turned(
                "sum", spec.out, self.p["out"], t, lambda i: self.put_statistics(t, i, rows)
            )
            return
        with f.loop("t", 0, PAIR_BLOCK, AMX_ROWS) as i:
            self.scratch.store("change", i.index, self.put_statistics(t, i.index, rows))
        self.put_rows("sum", spec.out, self.p["out"], t, rows, partial(self.change, AMX_ROWS))

    def change(self, n: int, row: Value) -> Value:
        """A query's factor in n lanes."""
        return self.f.splat(self.f.load(self.scratch.at("change", row), "float"), n)

    def changed_sums(self, row: Value, column: Value) -> Value:
        """The sum so far in the scale of the new maximum."""
        change = self.change(self.target.lanes(float32), row)
        return self.f.mul(self.sum_so_far("sum", row, column), change)

    def key_block(self, s: Value, count: int, masked: bool) -> None:
        """Take a block of keys into the running maximum, total and weighted sum."""
        f, start = self.f, self.scratch.start
        row = 2 * self.width
        k = f.at(start["k"], f.mul(s, f.index(row)), "i8")
        self.across_product(k, "q_turned", "logit", masked)
        with f.loop("t", 0, PAIR_BLOCK, AMX_ROWS) as i:
            self.weights(i.index, s, masked)
        start = None if self.alone else self.changed_sums
        self.add_weighted("v", s, "weight", "sum", masked, start)

    def weights(self, t: Value, s: Value, masked: bool) -> None:
        """Logits of 16 queries become weights in pairs; their maximum, total and sums follow."""
        f, scratch = self.f, self.scratch
        seen = self.walk.last_seen(f, self.n, f.add(self.t, t), s) if masked else None
        before = scratch.load("largest", t)
        keys = self.walk.seen_from(f, t, PAIR_BLOCK, masked, self.side)
        lowest = f.const(self.wide, LOWEST)
        with f.loop("s", 0, keys, 4, carry=[lowest] * 4) as i:
            found: list[Value] = []
            for j in range(4):
                x = self.logit(f.add(i.index, f.index(j)), t, seen)
                found.append(f.select(f.compare("gt", x, i.carried[j]), x, i.carried[j]))
            i.next(*found)
        largest = reduce(lambda x, y: f.select(f.compare("gt", x, y), x, y), i.results)
        largest = f.mul(largest, self.units)
        largest = f.select(f.compare("gt", largest, before), largest, before, "largest")
        change = exp2_nonpositive(f, f.sub(before, largest))
        total = f.mul(scratch.load("total", t), change)
        with f.loop("s", 0, keys, 2, carry=[total]) as i:
            total = i.carried[0]
            halves: list[Value] = []
            for j in range(2):
                key = f.add(i.index, f.index(j))
                x = muladd(f, self.logit(key, t, None), self.units, f.neg(largest))
                halves.append(self.seen_weight(exp2_of_pairs(f, self.target, x), key, seen))
                total = f.add(total, halves[j])
            at = f.add(f.mul(i.index, f.index(PAIR_BLOCK // 2)), t)
            f.store(amx_paired(f, *halves), scratch.at("weight", at, "i32"))
            i.next(total)
        scratch.store("total", t, i.results[0])
        scratch.store("largest", t, largest)
        scratch.store("change", t, change)
        if self.target.has_amx:
            with f.loop("d", 0, self.width) as d:
                at = f.add(f.mul(d.index, f.index(PAIR_BLOCK)), t)
                scratch.store("sum", at, f.mul(scratch.load("sum", at), change))

    def seen_weight(self, weight: Value, key: Value, seen: Value | None) -> Value:
        """0 where a key of the block is not seen."""
        f = self.f
        zero = f.const(self.wide, 0.0)
        return weight if seen is None else f.select(visible(f, seen, key), weight, zero)

    def logit(self, s: Value, t: Value, seen: Value | None) -> Value:
        """Of one key of the block and 16 queries q k, times the sign of the scale."""
        f = self.f
        x = self.scratch.load("logit", f.add(f.mul(s, f.index(PAIR_BLOCK)), t))
        x = f.neg(x) if self.spec.scale < 0 else x
        return x if seen is None else f.select(visible(f, seen, s), x, f.const(self.wide, LOWEST))

    @property
    def units(self) -> Value:
        """What makes of such a logit one in units of log 2."""
        return self.f.const(self.wide, abs(self.spec.scale) * LOG2_E)
