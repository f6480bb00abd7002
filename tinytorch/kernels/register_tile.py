"""How a tile multiplies: a block of sums that stays in registers while the summed axis runs.

The one place that knows multiplying instructions. There are two writers:

    RegisterTile   vectors of sums; a number (or pair) of `a` in every lane times a vector of `b`
    amx_product    up to 2 x 2 AMX tiles of 16 x 16 sums; an instruction adds 32 products to each

Matrix products and convolutions call them as private functions (micro-kernels), which leave their
sums in scratch for `emit_epilogue`; attention writes them into its own code, where the blocks lie
in the first caches. Knows pointers, steps and sizes; never what the product is for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tinytorch.base.dtypes import DType, bfloat16, float32, int8, int16, uint8
from tinytorch.codegen.builder import (
    FLOATS,
    Function,
    Value,
    element,
    lanes,
    mangle,
    size_of,
    vector,
)
from tinytorch.codegen.kernel import LINE, Epilogue, Pointers, ceil_div, fetch
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import muladd

WORD = "i32"  # some neighbours along the summed axis as one lane of a vector: see Words
WORD_BYTES = 4
AHEAD = 4  # rows between asking for memory and reading it, where sums lie in scratch for long
# The parameters of a matrix product's micro-kernel behind a, b and c.
DEPTH_COUNT_REST = (("depth", "i64"), ("count", "i64"), ("rest", "ptr"))


@dataclass(frozen=True)
class Words:
    """Words of 4 bytes: neighbours along the summed axis, whose products are added up together.

    Args:
        number: LLVM type of one number.
        each: how many a word holds.
        unsigned: which operands' bytes are unsigned: "", "a", "b" or "ab".
        architecture: whose instructions multiply them.
    """

    number: str
    each: int
    unsigned: str = ""
    architecture: str = "x86_64"

    def type_of(self, side: str) -> DType:
        """The type of the numbers of operand "a" or "b"."""
        if self.each == 4:
            return uint8 if side in self.unsigned else int8
        return bfloat16 if self.number == "bfloat" else int16

    @property
    def sums(self) -> str:
        """The LLVM type of what their products are added up in."""
        return "float" if self.number == "bfloat" else "i32"


PAIRS = Words("bfloat", 2)


def words_of_pairs(target: Target) -> Words | None:
    """How a target multiplies bfloat16, two at a time; None: not at once."""
    if target.has_amx or target.has_bf16_dot:
        return replace(PAIRS, architecture=target.architecture)
    return None


def words_of_bytes(target: Target, unsigned: str, turned: str = "a") -> Words:
    """How vectors of a target multiply bytes: four at a time where it has an instruction.

    Where that takes other signs, the numbers of one operand get the other sign: 128 is added to
    signed ones, or taken from unsigned ones. Who asks undoes what that adds to the sums.

    Args:
        unsigned: which operands are: "", "a", "b" or "ab".
        turned: the operand that may get the other sign.
    """
    architecture = target.architecture
    x86 = architecture == "x86_64"
    if not target.has_int8_dot or (x86 and unsigned == "ab"):
        return Words("i16", 2, architecture=architecture)
    if x86:
        unsigned = unsigned or turned
    elif len(unsigned) == 1 and not target.has_mixed_dot:
        unsigned = "" if unsigned == turned else "ab"
    return Words("i8", 4, unsigned, architecture)


def multiply_add(
    f: Function, x: Value, y: Value, total: Value, words: Words | None = None
) -> Value:
    """total + x * y, lane by lane: how vectors multiply, in every register tile; integers wrap.

    Where a lane of x and y is not a number as in `total` but a word, it is
    total + x[0] * y[0] + x[1] * y[1] + ...: VDPBF16PS or BFDOT, which take subnormal numbers for 0;
    VPDPBUSD, which multiplies unsigned bytes by signed ones and wraps (VPDPBUSDS would saturate);
    SDOT, UDOT, USDOT; or of pairs of int16 VPMADDWD and an addition, on other processors what LLVM
    makes of the expression (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2;
    Arm Architecture Reference Manual for A-profile, C7.2).
    """
    if words is None:
        floats = element(total.type) in FLOATS
        return muladd(f, x, y, total) if floats else f.add(total, f.mul(x, y))
    n = lanes(total.type)
    if words.number == "i16":
        return f.add(total, _products_of_shorts(f, x, y, n, words.architecture))
    if words.each == 2:
        x, y = (f.bitcast(v, vector(2 * n, "bfloat")) for v in (x, y))
    elif words.architecture == "aarch64":
        x, y = (f.bitcast(v, vector(4 * n, "i8")) for v in (x, y))
    # Instructions take the unsigned bytes first. LLVM lets one read a word from memory into all
    # lanes where that is the second factor: alone, that read takes 1.3 cycles on Zen 4.
    if words.unsigned == "b" or words.each == 2:
        x, y = y, x
    if words.architecture == "aarch64":
        kind = {"": "sdot", "ab": "udot"}.get(words.unsigned, "usdot")
        kind = "bfdot" if words.each == 2 else kind
        name = f"llvm.aarch64.neon.{kind}.{mangle(total.type)}.{mangle(x.type)}"
    else:
        kind = "avx512bf16.dpbf16ps" if words.each == 2 else "avx512.vpdpbusd"
        name = f"llvm.x86.{kind}.{32 * n}"
    return f.call(total.type, name, total, x, y)


def _products_of_shorts(f: Function, x: Value, y: Value, n: int, architecture: str) -> Value:
    """x[0] * y[0] + x[1] * y[1] in n lanes of pairs of int16."""
    both = [f.bitcast(v, vector(2 * n, "i16")) for v in (x, y)]
    if architecture == "x86_64":
        name = {16: "avx512.pmaddw.d.512", 8: "avx2.pmadd.wd", 4: "sse2.pmadd.wd"}[n]
        return f.call(vector(n, "i32"), f"llvm.x86.{name}", *both)
    products: list[Value] = []
    for half in range(2):
        order = range(half, 2 * n, 2)
        left, right = (f.convert(f.shuffle(v, v, order), vector(n, "i32")) for v in both)
        products.append(f.mul(left, right))
    return f.add(products[0], products[1])


# ---- vectors of sums


@dataclass(frozen=True)
class Turns:
    """One loop of a register tile.

    Args:
        count: how many turns; None: the micro-kernel's parameter `depth`.
        a_step: numbers that `a` moves each time.
    """

    count: int | None
    a_step: int


@dataclass(frozen=True)
class RegisterTile:
    """sums[i][j] += the sum over all turns of a[offsets[i]] * b[j], in registers.

    Args:
        type: of the sums, "float" or "double", "i32" or "i64".
        lanes: elements of a vector.
        vectors: vectors of b side by side.
        offsets: where each row finds its number, or word, of a, in numbers.
        loops: the outermost first. b moves by `b_step` in each innermost turn and goes on from
            there.
        b_step: lanes of b from one turn to the next.
        fetches, a_fetches: bytes beyond b, and beyond a, that are brought into the first-level
            cache each turn.
        read_b: gives vector `number` of b in a turn, if b does not lie in memory as it is read:
            (function, turn, number, mask).
        words: a lane of b is a word, times a word of a: a turn adds several products to each sum.
            A word of a may lie at any place of a number.
    """

    type: str
    lanes: int
    vectors: int
    offsets: tuple[int, ...]
    loops: tuple[Turns, ...]
    b_step: int
    fetches: tuple[int, ...] = ()
    words: Words | None = None
    read_b: Callable[[Function, Value, int, Value | None], Value] | None = None
    a_fetches: tuple[int, ...] = ()

    @property
    def wide(self) -> str:
        """The type of a vector of sums."""
        return vector(self.lanes, self.type)

    @property
    def read(self) -> str:
        """The type of what is multiplied at once: a number, or a word."""
        return WORD if self.words else self.type

    @property
    def number(self) -> str:
        """The type of a number of a."""
        return self.words.number if self.words else self.type

    def emit(
        self, f: Function, a: Value, b: Value, first: Sequence[Value], masks: Sequence[Value | None]
    ) -> list[Value]:
        """The sums, row by row, that began as `first`; masks: which lanes of each vector exist."""

        def nest(depth: int, carried: Sequence[Value]) -> list[Value]:
            turns = self.loops[depth]
            count = self._depth(f) if turns.count is None else f.index(turns.count)
            with f.loop("turn", 0, count, carry=carried) as loop:
                *sums, a, b = loop.carried
                innermost = depth + 1 == len(self.loops)
                if innermost:
                    sums = self._turn(f, sums, a, b, masks, loop.index)
                else:
                    *sums, _, b = nest(depth + 1, loop.carried)
                a = f.at(a, f.index(turns.a_step), self.number, "a.next")
                if innermost:
                    b = f.at(b, f.index(self.b_step), self.read, "b.next")
                loop.next(*sums, a, b)
            return loop.results

        return nest(0, [*first, a, b])[:-2]

    def _depth(self, f: Function) -> Value:
        """Turns along the depth; beside the last numbers lie zeros."""
        if not self.words:
            return f.depth
        rest, each = f.index(self.words.each - 1), f.index(self.words.each.bit_length() - 1)
        return f.op("lshr", f.add(f.depth, rest), each, "turns")

    def _turn(
        self, f: Function, sums: Sequence[Value], a: Value, b: Value, masks: Sequence[Value | None],
        turn: Value,
    ) -> list[Value]:  # fmt: skip
        """The sums after one turn."""
        wide = vector(self.lanes, self.read)
        columns = [
            self.read_b(f, turn, j, mask)
            if self.read_b
            else f.load(f.at(b, f.index(j * self.lanes), self.read), wide, mask=mask, stem="b.k")
            for j, mask in enumerate(masks)
        ]
        for start, lines in ((b, self.fetches), (a, self.a_fetches)):
            for ahead in lines:
                fetch(f, start, ahead)
        after: list[Value] = []
        for i, offset in enumerate(self.offsets):
            align = size_of(self.number)  # as its numbers are
            x = f.load(f.at(a, f.index(offset), self.number), self.read, align, stem="a.k")
            x = f.splat(x, self.lanes)
            for j, column in enumerate(columns):
                after.append(multiply_add(f, x, column, sums[i * self.vectors + j], self.words))
        return after


def begin_micro_kernel(name: str, others: Sequence[tuple[str, str]]) -> Function:
    """The function `name(a, b, c, others)`, which only the kernel beside it sees."""
    parameters = [*((x, "ptr noalias") for x in "abc"), *others]
    return Function(name, parameters, attributes="nounwind noinline", linkage="internal")


def write_micro_kernel(
    name: str, tile: RegisterTile, c_row: int, add: bool, masked: bool = False, others:
    Sequence[tuple[str, str]] = (),
) -> Function:  # fmt: skip
    """The private function `name(a, b, c, others)`, which leaves a register tile's sums in c.

    Args:
        c_row: elements from one row of sums to the next.
        add: start from the sums in c.
        masked: read only the columns of b below the parameter `count`.
    """
    f = begin_micro_kernel(name, others)
    rows, columns = range(len(tile.offsets)), range(tile.vectors)
    places = [
        f.at(f.c, f.index(i * c_row + j * tile.lanes), tile.type, "c.at")
        for i in rows
        for j in columns
    ]
    zero = f.const(tile.wide, 0)
    first = [f.load(place, tile.wide, stem="sum") if add else zero for place in places]
    masks = [
        f.mask_below(tile.lanes, f.sub(f.count, f.index(j * tile.lanes))) if masked else None
        for j in columns
    ]
    for place, total in zip(places, tile.emit(f, f.a, f.b, first, masks), strict=True):
        f.store(total, place)
    return f


# ---- how large a block of sums is


def product_block(m: int, n: int, lanes: int, registers: int) -> tuple[int, int]:
    """Most rows, and vectors, of the block of sums of a matrix product.

    With 32 registers 14 x 2 leaves four for operands, with 16 it is 6 x 2: the widest blocks whose
    loads (rows + vectors) stay below their multiplications. Few rows take more vectors instead, so
    that enough independent sums hide the latency of a multiplication (4 cycles, 2 a cycle).
    """
    most = (registers - 4) // 2
    vectors = ceil_div(n, lanes)
    if m <= 6:
        room = (registers - 4 - registers // 8) // max(m, 1)
        return max(m, 1), max(1, min(vectors, 8, max(2, room)))
    return most, min(2, vectors)


def rows_that_fit(target: Target, vectors: int) -> int:
    """Rows whose sums, with the vectors of b and a number of a, fill the registers."""
    others = vectors + (1 if target.has_fma else 2)
    # 20: more rows do not raise the ratio of work to loads any further
    return max(1, min(20, (target.registers - others) // vectors))


def fastest_block(registers: int, rows: int, vectors: int, depth: int) -> tuple[int, int]:
    """Rows and vectors of the register tile that runs a (rows x vectors) block fastest.

    The estimate counts cycles of one step along the depth: two multiply-adds and two loads a cycle,
    and a chain of additions that takes four; beginning and ending a tile costs about two
    instructions a sum. One register holds the broadcast element, one each vector of the right side.

    >>> fastest_block(32, 64, 2, 64), fastest_block(16, 64, 2, 64)
    ((13, 2), (6, 2))
    """
    best, choice = float("inf"), (1, 1)
    for across in range(1, min(vectors, 4) + 1):
        for down in range(1, min(rows, 16) + 1):
            if down * across + across + 1 > registers:
                break
            if ceil_div(rows, ceil_div(rows, down)) != down:
                continue  # fewer rows a tile give as many tiles
            cycles = 0.0
            for r in _pieces(rows, down):
                for c in _pieces(vectors, across):
                    step = max(r * c / 2, (r + c) / 2, 4.0)
                    cycles += step * depth + 2 * r * c + 8
            if cycles < best:
                best, choice = cycles, (down, across)
    return choice


def _pieces(total: int, size: int) -> list[int]:
    """`total` cut into pieces of `size`, the rest last."""
    return [size] * (total // size) + ([total % size] if total % size else [])


# ---- products of small blocks within a kernel's own code

# start(row, column) gives the first value of a sum; end(values, row, column) takes the finished
# ones: values[i][j] is row + i and the vector that begins at column + j * lanes.
Start = Callable[[Value, Value], Value]
End = Callable[[Sequence[Sequence[Value]], Value, Value], None]


@dataclass(frozen=True)
class Left:
    """The operand read a number, or pair, at a time: (row, depth) of a strided matrix.

    Args:
        row_stride, depth_stride: numbers from one row, and one step of depth, to the next.
    """

    pointer: Value
    row_stride: int
    depth_stride: int


@dataclass(frozen=True)
class Right:
    """The operand read in vectors along its columns, which are contiguous: (depth, column).

    Args:
        depth_stride: lanes from one step of depth to the next.
        limit: columns that may be read (default: all of them).
    """

    pointer: Value
    depth_stride: int
    limit: int | None = None


@dataclass(frozen=True)
class BlockProduct:
    """Writes products of small blocks, one register tile after the other.

    Args:
        type: of the sums, "float" or "double".
        lanes: elements of a vector; registers: how many vectors the machine holds.
        words: lanes are words, see RegisterTile; a step of depth is a word.
    """

    type: str
    lanes: int
    registers: int
    words: Words | None = None

    def emit(
        self, f: Function, sizes: tuple[int, int, int], left: Left, right: Right, end: End, start:
        Start | None = None,
    ) -> None:  # fmt: skip
        """out[row, column] = start + the sum over depth of left[row, depth] * right[depth, column].

        Args:
            sizes: (rows, columns, depth), all static; columns a multiple of the lanes.
            end: takes the finished sums.
            start: gives the first value of each sum, zero by default.
        """
        rows, columns, depth = sizes
        down, across = fastest_block(self.registers, rows, columns // self.lanes, depth)

        def tile(height: int, width: int, row: Value, column: Value, cut: int | None) -> None:
            sums = self._tile(f, (height, width, depth), left, right, start, row, column, cut)
            end([sums[i * width : (i + 1) * width] for i in range(height)], row, column)

        def down_rows(width: int, column: Value, cut: int | None) -> None:
            full = rows // down * down
            if full:
                with _each(f, "row", full, down) as row:
                    tile(down, width, row, column, cut)
            if rows - full:
                tile(rows - full, width, f.index(full), column, cut)

        whole = columns if right.limit is None else right.limit // self.lanes * self.lanes
        span = across * self.lanes
        full = whole // span * span
        if full:
            with _each(f, "column", full, span) as column:
                down_rows(across, column, None)
        if columns - full:
            cut = None if right.limit in (None, columns) else right.limit - full
            down_rows((columns - full) // self.lanes, f.index(full), cut)

    def _tile(
        self, f: Function, sizes: tuple[int, int, int], left: Left, right: Right, start: Start |
        None, row: Value, column: Value, cut: int | None,
    ) -> list[Value]:  # fmt: skip
        """One register tile's sums; `cut`: only that many columns of the right side exist."""
        (height, width, depth), n = sizes, self.lanes
        masks = [
            f.mask_below(n, f.index(cut - j * n)) if cut is not None and cut < (j + 1) * n else None
            for j in range(width)
        ]
        offsets = tuple(i * left.row_stride for i in range(height))
        loops = (Turns(depth, left.depth_stride),)
        tile = RegisterTile(
            self.type, n, width, offsets, loops, right.depth_stride, words=self.words
        )
        a = f.at(left.pointer, f.mul(row, f.index(left.row_stride)), tile.number, "left.at")
        b = f.at(right.pointer, column, tile.read, "right.at")
        zero = f.const(tile.wide, 0.0)
        first = [
            start(f.add(row, f.index(i)), f.add(column, f.index(j * n))) if start else zero
            for i in range(height)
            for j in range(width)
        ]
        return tile.emit(f, a, b, first, masks)


@contextmanager
def _each(f: Function, name: str, stop: int, step: int) -> Generator[Value, None, None]:
    """The index of a loop over range(0, stop, step), or 0 where there is one turn."""
    if stop == step:
        yield f.index(0)
        return
    with f.loop(name, 0, stop, step) as loop:
        yield loop.index


def sum_of_lanes(f: Function, x: Value) -> Value:
    """The sum of a vector's lanes, halves added to halves: the same order on every machine."""
    n = lanes(x.type)
    if n == 1:
        return x
    while n > 2:
        n //= 2
        low = f.shuffle(x, x, range(n), "low")
        x = f.add(low, f.shuffle(x, x, range(n, 2 * n), "high"))
    return f.add(f.extract(x, 0), f.extract(x, 1), "total")


def sums_of_lanes(f: Function, vectors: Sequence[Value]) -> Value:
    """The sum of each vector's lanes, neighbours added to neighbours; a power of two of vectors.

    One vector for each lane of the result.
    """
    count, values = len(vectors), list(vectors)

    def halved(x: Value, y: Value) -> Value:
        n = lanes(x.type)
        size = 2 * n if x is not y else n
        even, odd = (f.shuffle(x, y, range(first, size, 2), "half") for first in (0, 1))
        return f.add(even, odd)

    while len(values) > 1:
        values = [halved(x, y) for x, y in zip(values[::2], values[1::2], strict=True)]
    x = values[0]
    while lanes(x.type) > max(count, 2):
        x = halved(x, x)
    return x if lanes(x.type) == count else sum_of_lanes(f, x)


def all_finite(f: Function, rest: Value) -> Value:
    """Whether every x is finite, given the sum of x - x: 0 for those, and else no number."""
    total = sum_of_lanes(f, rest)
    return f.compare("eq", total, f.const(total.type, 0.0), stem="finite")


# ---- AMX tiles of sums
#
# A tile register holds 16 rows of 64 bytes. One instruction adds the product of 16 rows of 16 words
# with 16 rows of 16 words to 16 x 16 float32 or int32 sums; words of the second operand lie across:
# number (depth, column) beside (depth + 1, column).
# Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBF16PS and
# TDPBSSD/TDPBSUD/TDPBUSD/TDPBUUD.

AMX_ROWS = 16  # rows of an AMX tile, and its columns of 4 bytes
AMX_DEPTH = 32  # bfloat16 numbers in a row of 64 bytes: what one instruction sums
# tile registers; the sums of tile row i and tile column j are in 2 i + j
_SUMS, _A, _B = (0, 1, 2, 3), (4, 5), (6, 7)


@dataclass(frozen=True)
class AmxOperand:
    """Tiles in memory.

    Args:
        pointer: where they begin.
        tiles: bytes from there to each tile: one or two of a and b, of the sums row by row.
        row: bytes from one row of a tile to the next.
        step: bytes to the tiles of the next turn; of the sums 0.
    """

    pointer: Value
    tiles: tuple[int, ...]
    row: int
    step: int = 0


@dataclass(frozen=True)
class Ahead:
    """Lines that are asked for while tiles are multiplied, some each turn.

    Args:
        pointer: the first.
        lines: how many lie side by side for each turn.
    """

    pointer: Value
    lines: int


def amx_product(
    f: Function, a: AmxOperand, b: AmxOperand, sums: AmxOperand, depth: Value, add: bool, rest:
    AmxOperand | None = None, words: Words = PAIRS, ahead: Ahead | None = None,
) -> None:  # fmt: skip
    """sums (+)= a b, for up to 2 x 2 tiles.

    Args:
        depth: numbers summed; a multiple of what a turn sums, 16 words, unless there is a `rest`.
        add: start from the sums in memory.
        rest: where a's tiles of the last, incomplete, turn lie, if there is one.
        words: pairs of bfloat16, or bytes.
        ahead: what will be read later.
    """
    signs = ("u" if side in words.unsigned else "s" for side in "ab")
    multiply = "tdpbf16ps" if words.each == 2 else f"tdpb{''.join(signs)}d"
    step = AMX_ROWS * words.each
    columns = range(len(b.tiles))
    places = [f.at(sums.pointer, f.index(x), "i8", "c.at") for x in sums.tiles]
    cells = [(_SUMS[2 * i + j], i * len(b.tiles) + j) for i in range(len(a.tiles)) for j in columns]
    for number, cell in cells:
        if add:
            amx_memory(f, "tileloadd64", number, places[cell], sums.row)
        else:
            f.call("void", "llvm.x86.tilezero", amx_register(f, number))

    def turn(left: AmxOperand, a_at: Value, b_at: Value) -> None:
        for i, tile in enumerate(left.tiles):
            amx_memory(f, "tileloaddt164", _A[i], f.at(a_at, f.index(tile), "i8"), left.row)
            for j in columns:
                if i == 0:
                    place = f.at(b_at, f.index(b.tiles[j]), "i8")
                    amx_memory(f, "tileloaddt164", _B[j], place, b.row)
                which = [amx_register(f, x) for x in (_SUMS[2 * i + j], _A[i], _B[j])]
                f.call("void", f"llvm.x86.{multiply}", *which)

    whole = f.op("and", depth, f.index(-step)) if rest else depth
    start = [a.pointer, b.pointer, *([ahead.pointer] if ahead else [])]
    with f.loop("turn", 0, whole, step, carry=start) as k:
        turn(a, *k.carried[:2])
        steps = [a.step, b.step]
        if ahead:
            for i in range(ahead.lines):
                fetch(f, k.carried[2], LINE * i, level=2)
            steps.append(LINE * ahead.lines)
        moved = zip(k.carried, steps, strict=True)
        k.next(*[f.at(place, f.index(n), "i8", "next") for place, n in moved])
    if rest:
        with f.when(f.compare("lt", whole, depth)):
            turn(rest, rest.pointer, k.results[1])
    for number, cell in cells:
        amx_memory(f, "tilestored64", number, places[cell], sums.row)


def amx_register(f: Function, number: int) -> Value:
    """A tile register, as instructions take it."""
    return f.const("i8", number)


def amx_memory(f: Function, name: str, number: int, place: Value, row: int) -> None:
    """Load or store a tile, as the instruction is named; rows lie `row` bytes apart."""
    f.call("void", f"llvm.x86.{name}", amx_register(f, number), place, f.index(row))


def amx_sizes(rows: Sequence[int]) -> list[tuple[int, int]]:
    """For `amx_configure`: tiles of sums and of a with fewer rows.

    Args:
        rows: of each row of tiles, one or two.
    """
    of = {t: i for i in range(2) for t in (_SUMS[2 * i], _SUMS[2 * i + 1], _A[i])}
    return [(rows[min(i, len(rows) - 1)], 4 * AMX_ROWS) for _, i in sorted(of.items())]


def amx_configure(
    f: Function, sizes: Sequence[tuple[int, int]] = (), place: Value | None = None
) -> None:
    """Say how large the tiles are; all become 0.

    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, LDTILECFG: byte 0 is
    the palette, bytes 16.. are 16-bit row lengths, bytes 48.. are row counts.

    Args:
        sizes: rows, and bytes of a row, of each; by default all are of 16 rows by 64 bytes.
        place: a line that is overwritten; by default the first one of scratch.
    """
    place = place or f.scratch
    f.store(f.const("<16 x i32>", 0), place)
    f.store(f.const("i8", 1), place)
    f.store(f.const("<8 x i16>", 64), f.at(place, f.index(16), "i8"))
    f.store(f.const("<8 x i8>", AMX_ROWS), f.at(place, f.index(48), "i8"))
    for i, (rows, row) in enumerate(sizes):
        f.store(f.const("i16", row), f.at(place, f.index(16 + 2 * i), "i8"))
        f.store(f.const("i8", rows), f.at(place, f.index(48 + i), "i8"))
    f.call("void", "llvm.x86.ldtilecfg", place)


def pair_block_product(
    f: Function, target: Target, sizes: tuple[int, int, int], a: tuple[Value, int], b: tuple[Value,
    int], c: tuple[Value, int], add: bool,
) -> None:  # fmt: skip
    """c = a b, or c += a b, for blocks of bfloat16 in scratch, by AMX tiles or dot products.

    Tiles are configured by the thread team.

    Args:
        target: has one or the other.
        sizes: (rows, columns, depth), multiples of 32.
        a: address and bytes from row to row; a row is `depth` bfloat16 numbers.
        b: the same; a row is `columns` pairs, there are depth / 2.
        c: the same; a row is `columns` float32 numbers.
        add: whether c's numbers are the sums' beginning.
    """
    rows, columns, depth = sizes
    if not target.has_amx:
        _dot_block_product(f, target, sizes, a, b, c, add)
        return
    side = 4 * AMX_ROWS  # bytes of a row of a tile
    with f.loop("row", 0, rows, 2 * AMX_ROWS) as i, f.loop("column", 0, columns, 2 * AMX_ROWS) as j:
        across = f.mul(j.index, f.index(4))
        at = f.add(f.mul(i.index, f.index(c[1])), across)
        lower = AMX_ROWS * c[1]
        sums = AmxOperand(f.at(c[0], at, "i8"), (0, side, lower, lower + side), c[1])
        left = f.at(a[0], f.mul(i.index, f.index(a[1])), "i8")
        amx_product(
            f, AmxOperand(left, (0, AMX_ROWS * a[1]), a[1], 2 * AMX_DEPTH),
            AmxOperand(f.at(b[0], across, "i8"), (0, side), b[1], AMX_DEPTH // 2 * b[1]),
            sums, f.index(depth), add,
        )  # fmt: skip


def _dot_block_product(
    f: Function, target: Target, sizes: tuple[int, int, int], a: tuple[Value, int], b: tuple[Value,
    int], c: tuple[Value, int], add: bool,
) -> None:  # fmt: skip
    rows, columns, depth = sizes
    n = target.lanes(float32)
    wide = vector(n, "float")

    def place(row: Value, column: Value) -> Value:
        return f.at(c[0], f.add(f.mul(row, f.index(c[1] // 4)), column), "float", "c.at")

    def start(row: Value, column: Value) -> Value:
        return f.load(place(row, column), wide, stem="sum")

    def end(values: Sequence[Sequence[Value]], row: Value, column: Value) -> None:
        for i, line in enumerate(values):
            for j, total in enumerate(line):
                f.store(total, place(f.add(row, f.index(i)), f.add(column, f.index(j * n))))

    BlockProduct("float", n, target.registers, words=words_of_pairs(target)).emit(
        f, (rows, columns, depth // 2), Left(a[0], a[1] // 2, 2), Right(b[0], b[1] // 4), end,
        start if add else None,
    )  # fmt: skip


# ---- what becomes of the sums


@dataclass(frozen=True, eq=False)
class Rectangle:
    """A rectangle of the output: the batch index, and which rows and columns of that matrix;
    its rows lie `step` apart."""

    index: Sequence[Value]
    row: Value
    rows: Value
    column: Value
    width: Value
    step: int = 1

    def at(self, f: Function, row: Value) -> Value:
        """The number of its row `row`."""
        return f.add(self.row, f.mul(row, f.index(self.step)), "i")


@dataclass(frozen=True, eq=False)
class WordEpilogue:
    """An epilogue that is given each sum less a number of its column.

    Args:
        inner: is given the difference.
        buffer: holds the numbers, int32.
        start: tells by the index of a result where those of its matrix begin.
    """

    inner: Epilogue
    buffer: str
    start: Callable[[Function, Sequence[Value]], Value]

    @property
    def key(self) -> str:
        """See Epilogue."""
        return f"{self.inner.key} less {self.buffer}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """See Epilogue."""
        return (*self.inner.arguments, self.buffer)

    def emit(
        self, f: Function, value: Value, index: Sequence[Value], mask: Value | None,
        pointers: Mapping[str, Value],
    ) -> None:  # fmt: skip
        """See Epilogue."""
        at = f.add(self.start(f, index), index[-1])
        added = f.load(f.at(pointers[self.buffer], at, "i32"), value.type, stem="added")
        self.inner.emit(f, f.sub(value, added), index, mask, pointers)

    def prefetch(self, f: Function, index: Sequence[Value], pointers: Mapping[str, Value]) -> None:
        """See Epilogue."""
        self.inner.prefetch(f, index, pointers)


@dataclass(frozen=True)
class EpilogueWriter:
    """Hands sums that lie in scratch to an epilogue, vector by vector.

    Args:
        epilogue: takes them.
        type: of the sums; lanes: of a vector.
        n: columns of the output; a rectangle may end there only within a vector.
        unrolled: if not 0, all rectangles have this many columns, a whole number of vectors.
        ahead: ask for what the epilogue reads some rows before it does.
    """

    epilogue: Epilogue
    type: str
    lanes: int
    n: int
    unrolled: int = 0
    ahead: bool = False

    def prefetch(self, f: Function, pointers: Pointers, part: Rectangle, width: int) -> None:
        """Ask for what the epilogue will read of a rectangle, before its sums are computed."""
        with f.loop("ask", 0, part.rows) as i:
            for column in range(0, width, self.lanes):
                at = part.at(f, i.index), f.add(part.column, f.index(column))
                self.epilogue.prefetch(f, (*part.index, *at), pointers)

    def emit(
        self, f: Function, pointers: Pointers, part: Rectangle, sums: Value, sums_row: int
    ) -> None:
        """Write the loop; `sums_row`: elements from one row of sums to the next."""
        n, unrolled, lanes = self.n, self.unrolled, self.lanes
        with f.loop("row", 0, part.rows) as i:
            line = f.at(sums, f.mul(i.index, f.index(sums_row)), self.type, "sums")
            row = part.at(f, i.index)

            def give(column: Value, mask: Value | None = None) -> None:
                x = f.load(f.at(line, column, self.type), vector(lanes, self.type), stem="total")
                at = (*part.index, row, f.add(part.column, column, "j"))
                self.epilogue.emit(f, x, at, mask, pointers)

            if self.ahead:
                last = f.sub(f.sub(part.rows, f.index(1)), i.index)
                coming = part.at(f, f.add(i.index, f.minimum(f.index(AHEAD), last)))
                with f.loop("ask", 0, part.width, lanes) as j:
                    at = (*part.index, coming, f.add(part.column, j.index))
                    self.epilogue.prefetch(f, at, pointers)
            for column in range(0, unrolled, lanes):
                give(f.index(column))
            whole = part.width if n % lanes == 0 else f.op("and", part.width, f.index(-lanes))
            if n >= lanes and not unrolled:
                with f.loop("column", 0, whole, lanes) as j:
                    give(j.index)
            if n % lanes and not unrolled:
                with f.when(f.compare("lt", whole, part.width)):
                    give(whole, f.mask_below(lanes, f.sub(part.width, whole)))
