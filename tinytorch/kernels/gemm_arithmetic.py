"""The arithmetic of a matrix product, block by block: how sums are computed and operands packed.

Four ways (gemm_plan says when each is chosen), every one with its packing and its micro-kernels.
Knows one block of rows and one panel of columns; not where they come from, nor what becomes of the
sums, which micro-kernels leave in scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    LINE,
    Prologue,
    fetch,
    round_up,
)
from tinytorch.codegen.target import Target
from tinytorch.kernels.gemm_plan import (
    DOT_COLUMNS,
    GemmSpec,
    Plan,
    dot_columns,
    of_bfloat16,
    plan_dot,
    plan_fma,
    suits_dot,
    word_plan,
    words_of,
)
from tinytorch.kernels.packing import Strip, StripCopy, pack_strip, pack_words
from tinytorch.kernels.register_tile import (
    AMX_ROWS,
    DEPTH_COUNT_REST,
    WORD,
    WORD_BYTES,
    Ahead,
    AmxOperand,
    RegisterTile,
    Turns,
    Words,
    amx_configure,
    amx_product,
    amx_sizes,
    begin_micro_kernel,
    multiply_add,
    sum_of_lanes,
    sums_of_lanes,
    write_micro_kernel,
)

# Packed panels stream from the second-level cache; 16 turns ahead gained 4 % over none at 1000^3.
FETCH_AHEAD = 2048
# With 16 registers few columns share what is read of a; one after the other they lie in one piece,
# which the processor asks for ahead, but not of narrow numbers, between which it does too much.
# 1, 2, 4 rows x 768 x 3072 from memory, which gives 37 GB/s, on two threads (Zen 3), four columns
# at a time / in order / in order and asked for: float32 35, 34, 26 / 37, 34, 30 / 31, 29, 26;
# int8 22, 19, 19 / 27, 25, 21 / 30, 31, 24; bfloat16, 1 and 2 rows, 25, 24 / 27, 23 / 30, 27;
# of 8 rows float32 26 / 22 / 24.
ROWS_IN_ORDER, AHEAD_IN_ORDER = 4, 2048
# Bytes of widened rows that are gone through for one column after the other: half of a first cache.
# 8 rows x 768 x 3072 and x 3072 x 768: 142 to 166 and 169 to 197 GOP/s where each column widened
# them, 165 to 220 and 162 to 186 widened once (float32 then at 150 to 190 GFLOP/s); a token each of
# eight sequences of GPT-2 124M: 12.6 to 15.1 -> 11.0 ms (Zen 3, 2026-11-28).
WIDENED_BYTES = 1 << 14
_AMX_LINE = WORD_BYTES * AMX_ROWS  # bytes of a row of a tile
_AMX_TILE = AMX_ROWS * _AMX_LINE  # bytes of a tile


@dataclass(frozen=True)
class Sums:
    """A block of sums in scratch: its size, the elements of a row, and whether they go on.

    Args:
        rows, vectors: size of the block.
        masked: the panel ends within a vector, and only existing columns may be read.
        row: elements from one row of sums to the next.
        add: start from the sums that are there.
    """

    rows: int
    vectors: int
    masked: bool
    row: int
    add: bool


@dataclass(frozen=True)
class MicroKernel:
    """A private function (a, b, c, depth, count, rest): the end of its name, and what writes it."""

    suffix: str
    write: Callable[[str], Function]


class Arithmetic:
    """How a block of sums is computed: the base of the four ways, which say `micro_kernel`.

    `packed` is the number type of packed operands, `granule` the number of k they are padded to,
    `shift` what was added to each number of a, or taken from it, modulo 256.
    """

    granule = 1
    shift = 0

    def __init__(self, spec: GemmSpec, plan: Plan, words: Words | None = None):
        self.spec, self.plan, self.words = spec, plan, words
        self.packed = words.type_of("b") if words else plan.compute

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Of a micro-kernel, behind a, b and c: also where it is and what a prologue reads."""
        if self.spec.prologue is None or self.plan.pack_b != "direct":
            return DEPTH_COUNT_REST
        buffers = ((name, "ptr") for name in self.spec.prologue.arguments)
        return (*DEPTH_COUNT_REST, ("k0", "i64"), ("column", "i64"), *buffers)

    def strip(self, side: str) -> Strip:
        """How an operand is read, "a" or "b"."""
        spec = self.spec
        if side == "a":
            x, lanes, (lane, depth) = spec.a, spec.m, spec.a.strides[-2:]
        else:
            x, lanes, (depth, lane) = spec.b, spec.n, spec.b.strides[-2:]
        if self.words:
            return Strip(x.dtype, lane, depth, lanes, self.words.type_of(side))
        prologue = spec.prologue if side == "b" else None
        return Strip(x.dtype, lane, depth, lanes, self.packed, spec.round_to, prologue)

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool | None) -> None:
        """Copy one strip; deep: whether its depth is at least a vector, None: as it runs."""
        raise NotImplementedError

    def pack_rest(self, f: Function, copy: StripCopy, rows: Value) -> None:
        """Copy what cannot be read in place of a block of a that is: nothing."""

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """What computes a block of sums."""
        raise NotImplementedError


def given_buffers(f: Function, prologue: Prologue) -> dict[str, Value]:
    """What a prologue reads, of a micro-kernel's parameters."""
    return {name: getattr(f, name) for name in prologue.arguments}


def arithmetic_of(target: Target, spec: GemmSpec) -> Arithmetic:
    """The way a product is computed on a target."""
    words = words_of(target, spec)
    if suits_dot(spec):
        words = None if of_bfloat16(spec) else words
        return Dot(spec, plan_dot(target, spec), words, target.registers)
    if words is None:
        return MultiplyAdd(spec, plan_fma(target, spec))
    way = AmxTiles if target.has_amx else WordDots
    return way(spec, word_plan(target, spec, words), words)


class MultiplyAdd(Arithmetic):
    """Blocks of vector sums; packed operands are `out[k][lane]` on both sides."""

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool | None) -> None:
        """Copy one strip."""
        pack_strip(f, copy, self.plan.lanes, deep)

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """The register tile whose columns are vectors of b."""
        plan, spec = self.plan, self.spec
        row, depth = spec.a.strides[-2:] if plan.pack_a == "direct" else (1, plan.stride_a)
        direct = plan.pack_b == "direct"
        prologue = spec.prologue if direct else None
        tile = RegisterTile(
            plan.compute.llvm, plan.lanes, sums.vectors, tuple(i * row for i in range(sums.rows)),
            (Turns(None, depth),), spec.b.strides[-2] if direct else sums.vectors * plan.lanes,
            () if direct else tuple(FETCH_AHEAD + j * 64 for j in range(sums.vectors)),
            read_b=self._computed(prologue) if prologue else None,
        )  # fmt: skip
        if plan.ahead:
            tile = replace(tile, **self._asked(sums))

        def write(name: str) -> Function:
            return write_micro_kernel(name, tile, sums.row, sums.add, sums.masked, self.parameters)

        masked = ".masked" if sums.masked else ""
        return MicroKernel(f"micro.{sums.rows}x{sums.vectors}{masked}", write)

    def _asked(self, sums: Sums) -> dict[str, tuple[int, ...]]:
        """The lines of later rows that a turn asks for, in bytes beyond a and b."""
        plan, item = self.plan, self.plan.compute.itemsize
        a, b = (
            plan.ahead * item * stride
            for stride in (self.spec.a.strides[-1], self.spec.b.strides[-2])
        )
        lines = range(0, sums.vectors * plan.lanes * item, LINE)
        found = {"fetches": tuple(b + x for x in lines)}
        if self.spec.a.strides[-2] == 1 and plan.pack_a == "direct":
            last = (sums.rows - 1) * item
            # of a short piece the next block asks for the line in which it begins
            found["a_fetches"] = (a + last,) if last < LINE // 2 else (a, a + last)
        return found

    def _computed(
        self, prologue: Prologue
    ) -> Callable[[Function, Value, int, Value | None], Value]:
        """How a register tile reads the numbers of b that a prologue makes."""
        lanes = self.plan.lanes

        def read(f: Function, turn: Value, number: int, mask: Value | None) -> Value:
            place = f.add(f.k0, turn), f.add(f.column, f.index(number * lanes))
            return prologue.emit(f, place, lanes, False, mask, given_buffers(f, prologue))

        return read


class Dot(Arithmetic):
    """Few rows times a matrix whose columns lie along k: dot products, nothing copied.

    The case of a weight (out, in) applied to one sample or some: each number of b is used a few
    times, so packing it would cost more than the product. A vector runs along k. Some columns are
    summed at a time, from their first number to their last, so that memory comes in the order in
    which it lies; at their end the lanes of each are added up.
    Bytes are multiplied as they lie in memory, in words; b's may get the other sign. Where words
    are pairs of int16, a tile widens its rows of a once, `out[k / numbers of a vector][row]`, each
    row filled up with zeros.
    """

    def __init__(self, spec: GemmSpec, plan: Plan, words: Words | None, registers: int):
        super().__init__(spec, plan, words)
        self.registers = registers
        self.step = plan.lanes * (words.each if words else 1)  # numbers of a vector
        held = spec.prologue.bytes if spec.prologue else spec.b.dtype.itemsize * spec.k * spec.n
        # vectors of a column in one turn: a line of memory
        self.parts = max(1, min(8, round(LINE * spec.k * spec.n / (self.step * held))))
        self.strips = {side: self.strip(side) for side in "ab"}
        self.widened = words is not None and words.number == "i16"
        if self.widened:
            depth = round_up(spec.k, self.step)
            self.granule, self.plan = self.step, replace(plan, pack_a="tile", depth=depth)
        few = spec.m <= ROWS_IN_ORDER or self.widened
        self.in_order = registers <= 16 and few and spec.prologue is None
        self.ahead = AHEAD_IN_ORDER if spec.b.dtype.itemsize < plan.compute.itemsize else 0

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool | None) -> None:
        """Widen the rows of a."""
        strip, k, step = copy.strip, self.spec.k, self.step
        source, wide = strip.dtype.llvm, strip.compute.llvm
        with f.loop("row", 0, self.spec.m) as row:
            line = f.at(copy.out, f.mul(row.index, f.index(step)), wide)

            def move(at: Value, mask: Value | None = None) -> None:
                place = strip.place(f, copy.source, row.index, at)
                x = f.load(place, vector(step, source), mask=mask)
                f.store(strip.bits(f, x), f.at(line, f.mul(at, f.index(self.spec.m)), wide))

            if k >= step:
                with f.loop("k", 0, k // step * step, step) as at:
                    move(at.index)
            if k % step:
                move(f.index(k // step * step), f.mask_below(step, f.index(k % step)))

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """Some rows times one panel."""
        return MicroKernel(f"dot.{sums.rows}", lambda name: self._write(name, sums))

    def _write(self, name: str, sums: Sums) -> Function:
        """The code."""
        f = begin_micro_kernel(name, self.parameters)
        if self.in_order:
            self._write_in_order(f, sums)
            return f
        rows, columns = sums.rows, dot_columns(sums.rows, self.registers, self.plan.lanes)
        added = self._added(f, rows) if self.strips["b"].shifted else []
        last = f.sub(f.count, f.index(1))
        with f.loop("column", 0, f.count, columns) as j:
            some = [f.minimum(f.add(j.index, f.index(i)), last) for i in range(columns)]

            def turn(k: Value, parts: int, mask: Value | None, totals: Sequence[Value]):
                return self._turn(f, rows, some, (k, parts, mask), totals)

            found = self._along(f, rows * columns, turn)
            for i in range(rows):
                total = sums_of_lanes(f, found[i * columns : (i + 1) * columns])
                if added:
                    total = f.sub(total, f.splat(added[i], columns))
                place = f.add(j.index, f.index(i * sums.row))
                f.store(total, f.at(f.c, place, self.plan.compute.llvm))
        return f

    def _write_in_order(self, f: Function, sums: Sums) -> None:
        """Columns one after the other, over so much of k that widened rows stay in a cache."""
        k, turn = self.spec.k, self.step * self.parts
        depth = max(1, WIDENED_BYTES // (2 * sums.rows * turn)) * turn
        if not self.widened or k <= depth:
            self._write_stretch(f, sums, (0, k))
            return
        zero, type = f.const(self.plan.compute.llvm, 0), self.plan.compute.llvm
        for row in range(sums.rows):
            with f.loop("clear", 0, f.count) as j:
                f.store(zero, f.at(f.c, f.add(j.index, f.index(row * sums.row)), type))
        whole, last = k // depth * depth, (k - 1) // depth * depth
        # each stretch asks for the next one, the last one for the first of the next columns
        across = f.mul(f.count, f.index(self.strips["b"].lane_stride))
        across = f.sub(across, f.index(last))
        with f.loop("stretch", 0, whole, depth) as at:
            ahead = f.index(depth)
            if last < whole:
                ahead = f.select(f.compare("eq", at.index, f.index(last)), across, ahead)
            self._write_stretch(f, sums, (0, depth), at.index, ahead)
        if whole < k:
            self._write_stretch(f, sums, (whole, k), ahead=across)

    def _write_stretch(
        self, f: Function, sums: Sums, part: tuple[int, int], base: Value | None = None,
        ahead: Value | None = None,
    ) -> None:  # fmt: skip
        """A part of k, counted from `base` on. Lanes are added up some columns at a time.

        Args:
            ahead: how far ahead, in numbers, b is asked for; default AHEAD_IN_ORDER.
        """
        rows, some = sums.rows, min(DOT_COLUMNS, self.plan.lanes)
        chains = max(1, min(self.parts, self.registers // 2 // rows))
        added = self._added(f, rows) if self.strips["b"].shifted else []
        last = f.sub(f.count, f.index(1))
        with f.loop("column", 0, f.count, some) as j:
            found: list[list[Value]] = []
            for i in range(some):
                column = f.minimum(f.add(j.index, f.index(i)), last)

                def turn(k: Value, parts: int, mask: Value | None, totals: Sequence[Value], column:
                         Value = column) -> list[Value]:  # fmt: skip
                    k = f.add(base, k) if base else k
                    return self._turn_of_one(f, rows, column, (k, parts, mask), totals, ahead)

                totals = self._along(f, rows * chains, turn, part)
                found.append(
                    [reduce(f.add, totals[r * chains : (r + 1) * chains]) for r in range(rows)]
                )
            for r in range(rows):
                total = sums_of_lanes(f, [totals[r] for totals in found])
                if added:
                    total = f.sub(total, f.splat(added[r], some))
                place = f.add(j.index, f.index(r * sums.row))
                place = f.at(f.c, place, self.plan.compute.llvm)
                if part != (0, self.spec.k):
                    total = f.add(total, f.load(place, total.type, stem="before"))
                f.store(total, place)

    def _turn_of_one(
        self, f: Function, rows: int, column: Value, at: tuple[Value, int, Value | None],
        totals: Sequence[Value], ahead: Value | None,
    ) -> list[Value]:  # fmt: skip
        """Vectors of products of one column added to the sums of each row, each sum by turns."""
        after, chains = list(totals), len(totals) // rows
        if self.ahead and at[2] is None:
            strip = self.strips["b"]
            start = f.at(f.b, f.mul(column, f.index(strip.lane_stride)), strip.dtype.llvm)
            start = f.at(start, at[0], strip.dtype.llvm)
            if ahead:
                fetch(f, f.at(start, ahead, strip.dtype.llvm))
            else:
                fetch(f, start, self.ahead)
        for part in range(at[1]):
            y = self._load(f, "b", column, at, part)
            for i in range(rows):
                x = self._load(f, "a", f.index(i), at, part)
                cell = i * chains + part % chains
                after[cell] = multiply_add(f, x, y, after[cell], self.words)
        return after

    def _along(
        self, f: Function, count: int,
        turn: Callable[[Value, int, Value | None, Sequence[Value]], list[Value]],
        part: tuple[int, int] | None = None,
    ) -> list[Value]:  # fmt: skip
        """`count` vectors of sums over a part of k: turns of many vectors, of one, and the rest."""
        begin, stop = part or (0, self.spec.k)
        totals = [f.const(vector(self.plan.lanes, self.plan.compute.llvm), 0)] * count
        for parts in dict.fromkeys((self.parts, 1)):
            end = begin + (stop - begin) // (self.step * parts) * self.step * parts
            if begin < end:
                with f.loop("k", begin, end, self.step * parts, carry=totals) as at:
                    at.next(*turn(at.index, parts, None, at.carried))
                totals, begin = at.results, end
        if begin < stop:
            mask = f.mask_below(self.step, f.index(stop - begin))
            totals = turn(f.index(begin), 1, mask, totals)
        return totals

    def _turn(
        self, f: Function, rows: int, columns: list[Value], at: tuple[Value, int, Value | None],
        totals: Sequence[Value],
    ) -> list[Value]:  # fmt: skip
        """Vectors of products added to the sums of each row and column.

        Args:
            at: the first number along k, how many vectors, and which lanes exist.
        """
        k, parts, mask = at
        after = list(totals)
        for column in columns if mask is None else ():
            self._fetch(f, f.add(column, f.index(len(columns))), k)
        for part in range(parts):
            ys = [self._load(f, "b", column, at, part) for column in columns]
            for i in range(rows):
                x = self._load(f, "a", f.index(i), at, part)
                for j, y in enumerate(ys):
                    cell = i * len(columns) + j
                    after[cell] = multiply_add(f, x, y, after[cell], self.words)
        return after

    def _added(self, f: Function, rows: int) -> list[Value]:
        """What the other sign of b's numbers adds to the sums of each row."""
        added = f.bitcast(f.const(vector(self.step, "i8"), -128), vector(self.plan.lanes, WORD))

        def turn(k: Value, parts: int, mask: Value | None, totals: Sequence[Value]) -> list[Value]:
            after = list(totals)
            for part in range(parts):
                for i, total in enumerate(after):
                    x = self._load(f, "a", f.index(i), (k, parts, mask), part)
                    after[i] = multiply_add(f, x, added, total, self.words)
            return after

        return [sum_of_lanes(f, total) for total in self._along(f, rows, turn)]

    def _fetch(self, f: Function, lane: Value, k: Value) -> None:
        """Ask for a number of a later column."""
        strip = self.strips["b"]
        if strip.prologue:
            place = k, f.add(f.column, lane)
            strip.prologue.prefetch(f, place, given_buffers(f, strip.prologue))
            return
        start = f.at(f.b, f.mul(lane, f.index(strip.lane_stride)), strip.dtype.llvm)
        fetch(f, f.at(start, k, strip.dtype.llvm))

    def _load(
        self, f: Function, side: str, lane: Value, at: tuple[Value, int, Value | None], part: int
    ) -> Value:
        """Vector `part` of a turn along k, of a row or of a column."""
        strip, (k, parts, mask) = self.strips[side], at
        ahead = part * self.step
        if strip.prologue:
            place, given = (k, f.add(f.column, lane)), given_buffers(f, strip.prologue)
            known = ahead, parts * self.step
            return strip.prologue.emit(f, place, self.step, True, mask, given, known)
        k = f.add(k, f.index(ahead))
        if side == "a" and self.widened:
            there = f.add(f.mul(lane, f.index(self.step)), f.mul(k, f.index(self.spec.m)))
            return f.load(f.at(f.a, there, "i16"), vector(self.plan.lanes, WORD))
        llvm, start = strip.dtype.llvm, f.a if side == "a" else f.b
        start = f.at(start, f.mul(lane, f.index(strip.lane_stride)), llvm, "lane")
        value = f.load(f.at(start, k, llvm), vector(self.step, llvm), mask=mask)
        if self.words is None:
            return strip.convert(f, value)
        return f.bitcast(strip.bits(f, value), vector(self.plan.lanes, WORD))


class WordArithmetic(Arithmetic):
    """Packed operands are words; the summed axis is filled up with zeros."""

    words: Words

    def __init__(self, spec: GemmSpec, plan: Plan, words: Words):
        super().__init__(spec, plan, words)
        self.granule = plan.lanes * words.each
        self.even = spec.k % self.granule == 0 and not spec.summed


class WordDots(WordArithmetic):
    """Blocks of vector sums; packed operands are `out[word][lane][number]` on both sides.

    Rows that lie along k are read in place, but for those to which 128 is added.
    """

    def __init__(self, spec: GemmSpec, plan: Plan, words: Words):
        super().__init__(spec, plan, words)
        if self.strip("a").shifted:
            self.shift = 128
            self.plan = replace(plan, pack_b="step")

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool | None) -> None:
        """Copy one strip."""
        pack_words(f, copy, self.plan.lanes, "lines", self.even)

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """The register tile whose columns are vectors of words of b."""
        plan, each = self.plan, self.words.each
        row, turn = each, each * plan.stride_a
        if plan.pack_a == "direct":
            row, turn = self.spec.a.strides[-2], each
        tile = self._tile(tuple(i * row for i in range(sums.rows)), turn, sums.vectors)

        def write(name: str) -> Function:
            return write_micro_kernel(name, tile, sums.row, sums.add, others=DEPTH_COUNT_REST)

        return MicroKernel(f"words.{sums.rows}x{sums.vectors}", write)

    def column_sums(self, vectors: int) -> MicroKernel:
        """`shift` times the sums of a packed panel's columns: a product with a row of that word."""
        tile = self._tile((0,), 0, vectors)

        def write(name: str) -> Function:
            return write_micro_kernel(name, tile, 0, False, others=DEPTH_COUNT_REST)

        return MicroKernel(f"columns.{vectors}", write)

    def _tile(self, offsets: tuple[int, ...], turn: int, vectors: int) -> RegisterTile:
        plan = self.plan
        return RegisterTile(
            plan.compute.llvm, plan.lanes, vectors, offsets, (Turns(None, turn),),
            vectors * plan.lanes, tuple(FETCH_AHEAD + j * 64 for j in range(vectors)), self.words,
        )  # fmt: skip


class AmxTiles(WordArithmetic):
    """Blocks of up to 32 x 32 sums in AMX tiles; packed operands are tiles, as they are loaded.

    The tiles of a block with few rows have few rows: what lies behind it is not read.
    """

    def pack(self, f: Function, side: str, copy: StripCopy, deep: bool | None) -> None:
        """Copy one strip into tiles."""
        pack_words(f, copy, AMX_ROWS, "paired tiles" if side == "b" else "tiles", self.even)

    def pack_rest(self, f: Function, copy: StripCopy, rows: Value) -> None:
        """Pack the last k of a block read in place as the tiles its micro-kernel reads."""
        if self.even:
            return
        whole = f.op("and", copy.depth, f.index(-self.granule))
        left, k = f.sub(copy.depth, whole), f.add(copy.k0, whole)
        with f.when(f.compare("lt", whole, copy.depth)):
            pack_words(f, replace(copy, k0=k, depth=left), AMX_ROWS, "tiles", False)

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Of a micro-kernel, behind a, b and c: also where the next panel of b lies."""
        return (*DEPTH_COUNT_REST, *((("ahead", "ptr"),) if self.asked else ()))

    @property
    def asked(self) -> int:
        """Lines of the next panel that are asked for each turn, so that the blocks of a tile ask
        for all of it: it comes from the last cache, or from memory."""
        plan = self.plan
        if plan.pack_b != "step" or plan.column_tiles.largest < 2 or plan.row_tiles.base < 2:
            return 0
        return ceil(plan.vectors * AMX_ROWS / plan.row_tiles.base)

    def micro_kernel(self, sums: Sums) -> MicroKernel:
        """Up to 2 x 2 tiles of sums."""
        suffix = f"tiles.{sums.rows}x{sums.vectors}"
        return MicroKernel(suffix, lambda name: self._write(name, sums))

    def _write(self, name: str, sums: Sums) -> Function:
        """The code."""
        plan, direct = self.plan, self.plan.pack_a == "direct"
        f = begin_micro_kernel(name, self.parameters)
        rows = [min(AMX_ROWS, sums.rows - down) for down in range(0, sums.rows, AMX_ROWS)]
        downs = range(0, len(rows) * AMX_ROWS, AMX_ROWS)
        tiles = tuple(i * _AMX_TILE for i in range(len(rows)))
        if direct:
            row = self.spec.a.dtype.itemsize * self.spec.a.strides[-2]
            a = AmxOperand(f.a, tuple(down * row for down in downs), row, _AMX_LINE)
        else:
            a = AmxOperand(f.a, tiles, _AMX_LINE, plan.stride_a * _AMX_LINE)
        across = range(sums.vectors)
        b = AmxOperand(
            f.b, tuple(j * _AMX_TILE for j in across), _AMX_LINE, sums.vectors * _AMX_TILE
        )
        cells = tuple(4 * (down * sums.row + j * AMX_ROWS) for down in downs for j in across)
        rest = AmxOperand(f.rest, tiles, _AMX_LINE) if direct and not self.even else None
        c = AmxOperand(f.c, cells, 4 * sums.row)
        ahead = Ahead(f.ahead, self.asked) if self.asked else None
        place = None
        if rows[-1] < AMX_ROWS:
            place = f.define("ptr", f"alloca [{_AMX_LINE} x i8], align {_AMX_LINE}", "shape")
            amx_configure(f, amx_sizes(rows), place)
        amx_product(f, a, b, c, f.depth, sums.add, rest, self.words, ahead)
        if place:
            amx_configure(f, place=place)
        return f
