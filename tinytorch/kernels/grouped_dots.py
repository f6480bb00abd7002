"""Few rows of int8 times weights of few bits in groups, as dot products: weights are read once.

out[m, n] is the sum over all groups g of scale[n, g] times the sum over the k of the group of
x[m, k] w[n, k]. The inner sum is exact, in int32; a vector of weights is one or some groups (or a
part of one), so it is multiplied as bytes, and its sums become float32 where a group ends. Rows of
weights are read where they lie, from their first byte to their last. Knows pointers and strides,
never graphs.

Note [four bits as unsigned bytes]
A byte holds number i of the first half of a group in its low bits and number i of the second half
in its high ones (as ggml's q4_0 does), each with 8 added. x86 multiplies unsigned bytes by signed
ones: VPDPBUSD, or VPMADDUBSW, whose sums of two products are at most 2 x 15 x 128, so that those of
eight such instructions stay below 2^15. So the bits are used as they are, and what the 8 adds, 8
times the sum of x, is where the sums begin. Signed bytes get 128 more in the same way for VPDPBUSD;
by VPMADDUBSW they would saturate, so there both become int16 for VPMADDWD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    LEAST_TILES,
    LINE,
    Epilogue,
    Kernel,
    Operand,
    Pointers,
    Scratch,
    Shares,
    ceil_div,
    fetch,
    named_kernel,
)
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import muladd
from tinytorch.kernels.register_tile import (
    EpilogueWriter,
    Rectangle,
    Words,
    multiply_add,
    sums_of_lanes,
)

MOST_ROWS = 8  # more rows are a product of matrices: each weight is then used often
TILE_BYTES = 1 << 17  # of weights: 4 us at the speed of memory, against 0.1 us to take a tile
PANEL = 16  # columns whose sums wait for the epilogue
TOGETHER = 4  # columns whose lanes are added up together
AHEAD_BYTES = 1 << 11  # between asking for weights and reading them


@dataclass(frozen=True)
class GroupedSpec:
    """One product with weights in groups.

    Args:
        m, n, k: rows, columns, length of the sums; none is 0, m at most MOST_ROWS.
        bits: of a weight, 4 or 8.
        group: numbers of a group, 32, 64 or 128.
        x: int8, strides over (m, k); the last is 1.
        weight: uint8 for 4 bits, else int8, strides over (n, bytes); the last is 1.
        scale: floats, strides over (n, groups); the last is 1.
    """

    m: int
    n: int
    k: int
    bits: int
    group: int
    x: Operand
    weight: Operand
    scale: Operand

    @property
    def groups(self) -> int:
        """Groups of a row of weights."""
        return ceil_div(self.k, self.group)

    @property
    def group_bytes(self) -> int:
        """Bytes of a group."""
        return self.group * self.bits // 8


class GroupedProducts:
    """How a target multiplies bytes of activations by weights of few bits.

    Args:
        target: the machine.
        bits: of a weight.

    Attributes:
        bytes: how many a vector of weights in memory has.
        lanes: of a vector of int32 sums.
        x_type: of a vector of activations.
        offset: what is added to each weight (see the Note).
    """

    def __init__(self, target: Target, bits: int):
        self.architecture, self.bits, self.has_dot = target.architecture, bits, target.has_int8_dot
        x86 = self.architecture == "x86_64"
        self.pairs = x86 and not self.has_dot
        size = min(target.vector_bytes, 32) if self.pairs else target.vector_bytes
        self.lanes, self.prefix = size // 4, "avx2" if size == 32 else "ssse3"
        self.shorts = self.pairs and bits == 8
        self.bytes = size // 2 if self.shorts else size
        self.x_type = vector(self.bytes, "i16" if self.shorts else "i8")
        self.offset = 0
        if x86 and bits == 4:
            self.offset = 8
        elif x86 and self.has_dot:
            self.offset = 128

    @property
    def x_bytes(self) -> int:
        """Of a vector of activations."""
        return 2 * self.bytes if self.shorts else self.bytes

    @property
    def each(self) -> int:
        """Vectors of weights in a vector of memory."""
        return 8 // self.bits

    def weights(self, f: Function, raw: Value) -> list[Value]:
        """The vectors of weights that a vector of memory holds, `offset` added."""
        if self.shorts:
            return [f.convert(raw, self.x_type)]
        if self.bits == 8:
            return [f.op("xor", raw, f.const(raw.type, -128))] if self.offset else [raw]
        both = [f.op("and", raw, f.const(raw.type, 15)), f.op("lshr", raw, f.const(raw.type, 4))]
        return both if self.offset else [f.sub(v, f.const(v.type, 8)) for v in both]

    def sums(
        self, f: Function, weights: Sequence[Value], xs: Sequence[Value], first: Value | None
    ) -> Value:
        """`first` (or 0) + weights * xs, neighbours in each lane of int32."""
        total = f.const(vector(self.lanes, "i32"), 0) if first is None else first
        if self.pairs and not self.shorts:
            return f.add(total, self._by_pairs(f, weights, xs))
        for w, x in zip(weights, xs, strict=True):
            if self.has_dot or self.shorts:
                w, x = (f.bitcast(v, vector(self.lanes, "i32")) for v in (w, x))
                total = multiply_add(f, x, w, total, self._words)
            else:
                total = f.add(total, self._four(f, w, x))
        return total

    @property
    def _words(self) -> Words:
        if self.shorts:
            return Words("i16", 2, architecture=self.architecture)
        return Words("i8", 4, "b" if self.offset else "", self.architecture)

    def _by_pairs(self, f: Function, weights: Sequence[Value], xs: Sequence[Value]) -> Value:
        """Sums of up to eight vectors of weights of 4 bits: VPMADDUBSW, then VPMADDWD with ones."""
        short = vector(2 * self.lanes, "i16")
        width = ".128" if self.prefix == "ssse3" else ""
        products = [
            f.call(short, f"llvm.x86.{self.prefix}.pmadd.ub.sw{width}", w, x)
            for w, x in zip(weights, xs, strict=True)
        ]
        both = reduce(f.add, products)
        name = "avx2.pmadd.wd" if self.prefix == "avx2" else "sse2.pmadd.wd"
        return f.call(vector(self.lanes, "i32"), f"llvm.x86.{name}", both, f.const(short, 1))

    def _four(self, f: Function, w: Value, x: Value) -> Value:
        """Products of four neighbours, added up, in plain operations."""
        w, x = (f.convert(v, vector(self.bytes, "i16")) for v in (w, x))
        found = f.convert(f.mul(w, x), vector(self.bytes, "i32"))
        for size in (self.bytes, self.bytes // 2):
            even, odd = (f.shuffle(found, found, range(i, size, 2)) for i in (0, 1))
            found = f.add(even, odd)
        return found


def grouped_dots(target: Target, spec: GroupedSpec, epilogue: Epilogue) -> Kernel:
    """The kernel of one product; buffers "x", "weight", "scale" and the epilogue's.

    The epilogue is given each sum once, as vectors along n: `emit(f, value, (i, j), mask, ...)`.

    Cost: reads the weights once; 2 m n k operations.
    """
    return _GroupedDots(target, spec, epilogue).kernel()


class _GroupedDots:
    """Writes the kernel."""

    def __init__(self, target: Target, spec: GroupedSpec, epilogue: Epilogue):
        self.spec, self.products, self.epilogue = spec, GroupedProducts(target, spec.bits), epilogue
        size, lanes = self.products.bytes, self.products.lanes
        # a turn reads `parts` vectors of each row of weights, which hold `each` groups
        self.parts = max(1, spec.group_bytes // size)
        self.each = max(1, size // spec.group_bytes)
        self.turns = ceil_div(spec.groups, self.each)
        self.columns = min(TOGETHER, lanes)
        self.chains = 2 if spec.m <= 2 else 1  # a multiply-add waits for the one before: 4 cycles
        # vectors of x in a turn, in the order of the weights' bytes, and where the sums begin
        self.vectors = self.parts * self.products.each
        self.held = self.vectors + (1 if self.products.offset else 0)
        self.panel = max(PANEL, target.lanes(float32))
        sums = 4 * spec.m * self.panel
        self.scratch = Scratch(
            "i8", 1, 1, {"c": sums, "x": self.turns * spec.m * self.held * self.products.x_bytes}
        )
        self.results = EpilogueWriter(epilogue, "float", target.lanes(float32), spec.n)
        panels = ceil_div(spec.n, self.panel)
        held = self.panel * spec.groups * spec.group_bytes
        each = max(1, min(TILE_BYTES // held, ceil_div(panels, LEAST_TILES)))
        self.shares = Shares(panels, each)

    def kernel(self) -> Kernel:
        """A tile is some panels of columns."""
        spec = self.spec
        read = spec.n * spec.groups * (spec.group_bytes + spec.scale.dtype.itemsize)
        return named_kernel(
            "grouped", ("x", "weight", "scale", *self.epilogue.arguments), self._body,
            tiles=self.shares.tiles, scratch=self.scratch.bytes,
            flops=2 * spec.m * spec.n * spec.k, bytes=read + spec.m * (spec.k + 4 * spec.n),
            label=f"matmul {spec.m}x{spec.k}x{spec.n}, int{spec.bits} in groups of {spec.group}",
        )  # fmt: skip

    def _body(self, f: Function, pointers: Pointers) -> None:
        """One tile."""
        spec = self.spec
        self.scratch.begin(f)
        self._arrange(f, pointers["x"])
        last = f.index(spec.n - 1)
        with self.shares.loop(f, "panel") as panel:
            first = f.mul(panel.index, f.index(self.panel))
            width = f.minimum(f.sub(f.index(spec.n), first), f.index(self.panel))
            with f.loop("column", 0, width, self.columns) as j:
                column = f.add(first, j.index)
                some = [f.minimum(f.add(column, f.index(i)), last) for i in range(self.columns)]
                for i, total in enumerate(self._dots(f, pointers, some)):
                    place = f.add(f.index(i * self.panel), j.index)
                    f.store(total, f.at(self.scratch.start["c"], place, "float"))
            part = Rectangle((), f.index(0), f.index(spec.m), first, width)
            self.results.emit(f, pointers, part, self.scratch.start["c"], self.panel)

    # activations in the order of the weights' bytes

    def _arrange(self, f: Function, x: Value) -> None:
        """Write the turns of all rows to scratch."""
        spec, numbers = self.spec, self.each * self.spec.group
        whole = spec.k // numbers
        for row in range(spec.m):
            start = f.at(x, f.index(row * spec.x.strides[0]), "i8", "row")
            with f.loop("turn", 0, whole) as turn:
                self._arrange_turn(f, start, turn.index, row, numbers)
            if whole < self.turns:
                self._arrange_turn(f, start, f.index(whole), row, spec.k - whole * numbers)

    def _arrange_turn(self, f: Function, row: Value, turn: Value, i: int, count: int) -> None:
        """One turn of a row, of which so many numbers exist."""
        spec, size = self.spec, self.products.bytes
        start = f.at(row, f.mul(turn, f.index(self.each * spec.group)), "i8")
        natural = [
            self._bytes(f, start, j * size, min(size, count - j * size))
            for j in range(self.vectors)
        ]
        xs = natural
        if spec.bits == 4 and self.each > 1:
            own = spec.group_bytes
            inside = [b // own * spec.group + b % own for b in range(size)]
            first, second = natural
            xs = [f.shuffle(first, second, [b + half * own for b in inside]) for half in (0, 1)]
        xs = [f.convert(v, self.products.x_type) for v in xs]
        for j, value in enumerate(xs):
            f.store(value, self._place(f, turn, i, j))
        if self.products.offset:
            added = f.const(vector(size, "i8"), self.products.offset)
            total = self.products.sums(f, [added] * len(xs), xs, None)
            f.store(f.neg(total), self._place(f, turn, i, self.vectors))

    def _bytes(self, f: Function, start: Value, ahead: int, count: int) -> Value:
        """A vector of bytes of which the first `count` exist; the others are 0."""
        size = self.products.bytes
        if count <= 0:
            return f.const(vector(size, "i8"), 0)
        at = f.at(start, f.index(ahead), "i8")
        if count == size:
            return f.load(at, vector(size, "i8"))
        if count == 1:
            return f.insert(f.const(vector(size, "i8"), 0), f.load(at, "i8"), 0)
        some = f.load(at, vector(count, "i8"))
        zero = f.const(some.type, 0)
        return f.shuffle(some, zero, [min(i, count) for i in range(size)])

    def _place(self, f: Function, turn: Value, row: int, which: int) -> Value:
        """Where a vector of a turn of a row lies."""
        size, held = self.products.x_bytes, self.held
        start = f.mul(turn, f.index(self.spec.m * held * size))
        ahead = f.index((row * held + which) * size)
        return f.at(self.scratch.start["x"], f.add(start, ahead), "i8")

    # sums

    def _dots(self, f: Function, pointers: Pointers, columns: Sequence[Value]) -> list[Value]:
        """For each row the sums of some columns, which are read one after the other."""
        found = [self._column(f, pointers, column) for column in columns]
        return [sums_of_lanes(f, [totals[i] for totals in found]) for i in range(self.spec.m)]

    def _column(self, f: Function, pointers: Pointers, column: Value) -> list[Value]:
        """For each row a vector whose lanes add up to the sum of one column."""
        spec, lanes, narrow = self.spec, self.products.lanes, self.spec.scale.dtype.llvm
        row = f.mul(column, f.index(spec.weight.strides[0]))
        weights = f.at(pointers["weight"], row, "i8", "w.row")
        row = f.mul(column, f.index(spec.scale.strides[0]))
        scales = f.at(pointers["scale"], row, narrow, "s.row")
        totals = [f.const(vector(lanes, "float"), 0)] * (spec.m * self.chains)
        whole = spec.groups // lanes * lanes  # a vector of scales at a time
        if whole:
            with f.loop("group", 0, whole, lanes, carry=totals) as at:
                at.next(*self._groups(f, weights, scales, at.index, lanes, at.carried))
            totals = at.results
        if whole < spec.groups:
            rest = spec.groups - whole
            totals = self._groups(f, weights, scales, f.index(whole), rest, totals)
        return [
            reduce(f.add, totals[i * self.chains : (i + 1) * self.chains]) for i in range(spec.m)
        ]

    def _groups(
        self, f: Function, weights: Value, scales: Value, first: Value, count: int,
        totals: Sequence[Value],
    ) -> list[Value]:  # fmt: skip
        """The sums after some more groups."""
        spec, each, narrow = self.spec, self.each, self.spec.scale.dtype.llvm
        scale = f.load(f.at(scales, first, narrow), vector(count, narrow), stem="scale")
        scale = f.convert(scale, vector(count, "float"))
        start = f.at(weights, f.mul(first, f.index(spec.group_bytes)), "i8", "w")
        for line in range(0, count * spec.group_bytes, LINE) if AHEAD_BYTES else ():
            fetch(f, start, AHEAD_BYTES + line)
        turn = f.div(first, f.index(each))
        after = list(totals)
        for t in range(ceil_div(count, each)):
            there = min(each, count - t * each) * spec.group_bytes
            read = self._weights(f, start, t, there)
            spread = self._spread(f, scale, t, count)
            for i in range(spec.m):
                total = self._turn(f, read, self._place(f, f.add(turn, f.index(t)), i, 0))
                cell = i * self.chains + t % self.chains
                after[cell] = muladd(f, total, spread, after[cell])
        return after

    def _weights(self, f: Function, start: Value, turn: int, there: int) -> list[Value]:
        """The weights of a turn, in the order of x's vectors."""
        size = self.products.bytes
        begin = turn * self.parts * size
        read = [
            self.products.weights(f, self._bytes(f, start, begin + p * size, min(size, there)))
            for p in range(self.parts)
        ]
        return [part[half] for half in range(self.products.each) for part in read]

    def _turn(self, f: Function, weights: Sequence[Value], place: Value) -> Value:
        """The exact sums of a turn, as float32."""
        size, lanes = self.products.x_bytes, self.products.lanes
        xs = [
            f.load(f.at(place, f.index(j * size), "i8"), self.products.x_type, size, stem="x")
            for j in range(self.vectors)
        ]
        first = None
        if self.products.offset:
            at = f.at(place, f.index(self.vectors * size), "i8")
            first = f.load(at, vector(lanes, "i32"), size, stem="first")
        return f.convert(self.products.sums(f, weights, xs, first), vector(lanes, "float"))

    def _spread(self, f: Function, scales: Value, turn: int, count: int) -> Value:
        """The scale of each lane's group."""
        lanes, each = self.products.lanes, self.each
        own = [min(turn * each + lane * each // lanes, count - 1) for lane in range(lanes)]
        if count == 1:
            return f.splat(scales, lanes)
        return f.shuffle(scales, scales, own, "scales")
