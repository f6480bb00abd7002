"""Pictures as a convolution's scratch holds them: some rows of one, zeros around.

Knows what a convolution is (`ConvolutionSpec`, `Phase`), pointers and strides; not what is
multiplied.

    PictureRows   channels innermost: what windows read, whole words of them
    PixelRows     pixels innermost: pairs of pixels, for the gradient of the filters
    PairRows      a cotangent in pairs of pixels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod

from tinytorch.base.dtypes import DType, float32, int8, uint8
from tinytorch.codegen.builder import Function, Value, lanes, size_of, vector
from tinytorch.codegen.kernel import NeededRows, Operand, ceil_div, round_up
from tinytorch.kernels.packing import load_row_piece, transpose
from tinytorch.kernels.register_tile import WORD, WORD_BYTES, Words

SQUARE = 16  # channels and pixels that are turned at a time


# Note [phases]
# In the gradient of the pictures, pixels of the cotangent lie a step of s apart, zeros between
# them. Output y sees at tap i pixel (y + i - top) / s, and a zero where s does not divide that. So
# the outputs y = phase + s q see the taps i = first + s t alone, first = (top - phase) mod s, and
# there pixel (phase + first - top) / s + q + t: a convolution without zeros, of a part of the taps.


@dataclass(frozen=True)
class Phase:
    """Outputs a step apart, (rows, columns) of everything: see Note [phases].

    Args:
        first: the first output; size: how many.
        tap: the first tap they see; window: how many, 0 in filters smaller than the step.
        pixel: what the first output sees of the picture at that tap.
        before: taps of the phases before it.
    """

    first: tuple[int, ...]
    size: tuple[int, ...]
    tap: tuple[int, ...]
    window: tuple[int, ...]
    pixel: tuple[int, ...]
    before: int = 0


@dataclass(frozen=True)
class ConvolutionSpec:
    """One convolution of float32, bfloat16 or float16 pictures, or bytes; groups = dilation = 1.

    Sums are float32 whatever floats the pictures are, and int32 of bytes.

    Args:
        image: strides over (N, C, H, W); shape: those sizes.
        top, left: zeros in front of the first row and column; what is missing at the end is 0 too.
        step: pixels of the picture lie this far apart, zeros between them: (1, 1) but in gradients,
            where the stride is.
        size: (OH, OW).
        window: (KH, KW).
        stride: of the windows.
        filters: O. Buffer "w" holds them as float32 (KH, KW, C, O rounded up to whole
            vectors), or as (KH, KW, C rounded up in words, O rounded up) words; of each phase
            its taps, one phase after the other.
        words: in which neighbouring channels are multiplied. Of bfloat16 C is even. Where bytes of
            the picture get the other sign, buffer "added" holds for each filter what that adds to
            its sums.
        needed: which pictures are, default all; others are left out, and add nothing to a sum.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    step: tuple[int, int]
    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, int]
    filters: int
    words: Words | None = None
    needed: NeededRows = ()

    @property
    def number(self) -> DType:
        """The type of numbers of the picture as they are multiplied."""
        return self.words.type_of("a") if self.words else float32

    @property
    def sums(self) -> str:
        """The LLVM type of sums."""
        return self.words.sums if self.words else "float"

    @property
    def shifted(self) -> bool:
        """Whether 128 is added to each number of the picture, or taken from it."""
        return {self.image.dtype, self.number} == {int8, uint8}

    @property
    def channels(self) -> int:
        """Of a pixel in scratch: whole words."""
        return round_up(self.shape[1], self.words.each if self.words else 1)

    @property
    def phases(self) -> list[Phase]:
        """The outputs that see the same taps; with step 1 all of them."""
        axes: list[list[tuple[int, ...]]] = []
        for top, step, size, taps in zip(
            (self.top, self.left), self.step, self.size, self.window, strict=True
        ):
            firsts = [(top - phase) % step for phase in range(min(step, size))]
            axes.append(
                [
                    (phase, ceil_div(size - phase, step), tap, max(0, ceil_div(taps - tap, step)),
                     (phase + tap - top) // step)
                    for phase, tap in enumerate(firsts)
                ]
            )  # fmt: skip
        found: list[Phase] = []
        before = 0
        for both in product(*axes):
            first, size, tap, window, pixel = zip(*both, strict=True)
            found.append(Phase(first, size, tap, window, pixel, before))
            before += prod(window)
        return found

    @property
    def places(self) -> tuple[int, ...]:
        """How many outputs the first phase has, which is the largest: (rows, columns)."""
        return self.phases[0].size

    @property
    def seen(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The first pixel that the first output of any phase sees, and how many there are from
        there to the last one: (rows, columns)."""
        phases = [p for p in self.phases if prod(p.window)]
        first = [min(p.pixel[axis] for p in phases) for axis in (0, 1)]
        end = [max(p.pixel[axis] + p.window[axis] for p in phases) for axis in (0, 1)]
        return tuple(first), tuple(b - a for a, b in zip(first, end, strict=True))

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        n, c, _, _ = self.shape
        return 2 * n * c * self.filters * sum(prod(p.size) * prod(p.window) for p in self.phases)

    @property
    def bytes(self) -> int:
        """Memory read and written, filters aside."""
        n, c, h, w = self.shape
        return 4 * (n * c * h * w + n * self.filters * self.size[0] * self.size[1])


class _RowCopy:
    """Some rows of one picture in scratch: which of them exist, and zeros for the others.

    Subclasses say what a row is: `row` numbers of the type `number`, written by `_row`.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    count: int
    lanes: int  # numbers copied at a time

    @property
    def number(self) -> str:
        """The type of a number in scratch."""
        raise NotImplementedError

    @property
    def zero(self) -> int:
        """How scratch holds a 0."""
        return 0

    @property
    def row(self) -> int:
        """Numbers in one row."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Words of 4 bytes in all rows."""
        return ceil_div(self.count * self.row * size_of(self.number), 4)

    @property
    def llvm(self) -> str:
        """The type of a number in the picture."""
        return self.image.dtype.llvm

    def emit(self, f: Function, pointer: Value, to: Value, number: Value, first: Value) -> None:
        """Copy rows first, first + 1, ... of the padded picture `number`."""
        stride = self.image.strides
        base = f.add(f.mul(number, f.index(stride[0])), f.index(self.image.offset))
        base = f.at(pointer, base, self.llvm, "image")
        with f.loop("copied", 0, self.count) as i:
            line = f.at(to, f.mul(i.index, f.index(self.row)), self.number, "line")
            y = f.sub(f.add(first, i.index), f.index(self.top), "y")
            inside = f.compare("ge", y, f.index(0))
            inside = f.op("and", inside, f.compare("lt", y, f.index(self.shape[2])))
            with f.when(inside, "inside"):
                self._row(f, f.at(base, f.mul(y, f.index(stride[2])), self.llvm), line)
            with f.when(f.opposite(inside), "outside"):
                self._zeros(f, line, self.row)

    def _row(self, f: Function, source: Value, line: Value) -> None:
        """Copy one row, zeros around its pixels included."""
        raise NotImplementedError

    def _zeros(self, f: Function, to: Value, count: int) -> None:
        def clear(i: Value, width: int) -> None:
            f.store(f.const(vector(width, self.number), self.zero), f.at(to, i, self.number))

        self._in_runs(f, count, clear)

    def _in_runs(self, f: Function, count: int, write: Callable[[Value, int], None]) -> None:
        """`write(at, width)` for whole vectors, then for single numbers."""
        whole = count // self.lanes * self.lanes
        if whole:
            with f.loop("run", 0, whole, self.lanes) as i:
                write(i.index, self.lanes)
        if count - whole:
            with f.loop("last", whole, count) as i:
                write(i.index, 1)


@dataclass(frozen=True)
class PictureRows(_RowCopy):
    """Some rows of one picture, as scratch holds them: channels innermost, zeros around.

    What a tile reads lies close together then, whatever the layout of the picture, and edges need
    no code of their own.

    Args:
        image: strides over (N, C, H, W).
        shape: (N, C, H, W).
        top, left: zeros in front.
        count: rows copied at a time; width: pixels in one row, zeros included.
        lanes: of a vector.
        to: the type in scratch: float32, or the picture's; bytes of the other sign: 128 is added.
        room: channels of a pixel in scratch, by default those of the picture.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    count: int
    width: int
    lanes: int
    to: DType = float32
    room: int = 0

    @staticmethod
    def read_by(spec: ConvolutionSpec, block: int, lanes: int) -> PictureRows:
        """What a block of output rows reads, `block` of each phase."""
        (top, left), (rows, columns) = spec.seen
        count = (block - 1) * spec.stride[0] + rows
        width = (spec.places[1] - 1) * spec.stride[1] + columns
        return PictureRows(
            spec.image, spec.shape, -top, -left, count, width, lanes, spec.number, spec.channels
        )

    @property
    def number(self) -> str:
        """See _RowCopy."""
        return self.to.llvm

    @property
    def row(self) -> int:
        """See _RowCopy."""
        return self.width * (self.room or self.shape[1])

    @property
    def zero(self) -> int:
        """See _RowCopy."""
        return -128 if self._shifted else 0

    @property
    def _shifted(self) -> bool:
        """Whether 128 is added to each number, or taken from it."""
        return {self.image.dtype, self.to} == {int8, uint8}

    def _kept(self, f: Function, value: Value) -> Value:
        """A number of the picture as scratch holds it."""
        if self._shifted:
            return f.op("xor", value, f.const(value.type, -128))
        return f.convert(value, self.number, signed=self.image.dtype.kind != "u")

    def _row(self, f: Function, source: Value, line: Value) -> None:
        _, channels, _, width = self.shape
        room = self.room or channels
        _, c, _, w = self.image.strides
        left = self.left
        copied = min(width, self.width - left)
        side_by_side = c == 1 or channels == 1
        if side_by_side and w == channels == room:
            self._zeros(f, line, left * channels)
            to = f.at(line, f.index(left * channels), self.number)
            self._copy(f, source, to, copied * channels)
            right = (left + copied) * channels
            self._zeros(f, f.at(line, f.index(right), self.number), self.row - right)
            return
        self._zeros(f, line, self.row)
        if w == 1 and self.llvm in ("i8", "float") and not side_by_side:
            pixels = f.at(line, f.index(left * room), self.number)
            if self._turned(f, source, pixels, copied):
                return
        with f.loop("x", 0, copied) as x:
            of = f.at(source, f.mul(x.index, f.index(w)), self.llvm)
            place = f.mul(f.add(x.index, f.index(left)), f.index(room))
            to = f.at(line, place, self.number)
            if side_by_side:
                self._copy(f, of, to, channels)
            else:
                with f.loop("c", 0, channels) as k:
                    value = f.load(f.at(of, f.mul(k.index, f.index(c)), self.llvm), self.llvm)
                    f.store(self._kept(f, value), f.at(to, k.index, self.number))

    def _turned(self, f: Function, source: Value, to: Value, copied: int) -> bool:
        """Copy pixels of which each channel's lie side by side, in squares; False: too few.

        The last square overlaps the one before it.
        """
        channels, apart = self.shape[1], self.image.strides[1]
        room = self.room or channels
        words = self.number == "i8" and channels <= room == WORD_BYTES  # one for each pixel
        most = min(self.lanes, SQUARE, copied, copied if words else channels)
        side = 1 << (max(1, most).bit_length() - 1)
        if side < WORD_BYTES:
            return False

        def row(x: Value, channel: Value) -> Value:
            at = f.at(source, f.add(f.mul(channel, f.index(apart)), x), self.llvm)
            return self._kept(f, f.load(at, vector(side, self.llvm)))

        with f.loop("x", 0, copied, side) as x:
            first = f.minimum(x.index, f.index(copied - side))
            there = f.at(to, f.mul(first, f.index(room)), self.number)
            if words:
                f.store(self._word(f, [row(first, f.index(i)) for i in range(channels)]), there, 1)
                return True
            with f.loop("c", 0, channels, side) as c:
                channel = f.minimum(c.index, f.index(channels - side))
                rows = [row(first, f.add(channel, f.index(i))) for i in range(side)]
                for i, pixel in enumerate(transpose(f, rows)):
                    place = f.add(f.index(i * room), channel)
                    f.store(pixel, f.at(there, place, self.number))
        return True

    def _word(self, f: Function, rows: list[Value]) -> Value:
        """Bytes of up to four channels, as one word for each pixel."""
        n = lanes(rows[0].type)
        rows = [*rows, *[f.const(rows[0].type, self.zero)] * (WORD_BYTES - len(rows))]
        word = f.convert(rows[0], vector(n, WORD), signed=False)
        for i, row in enumerate(rows[1:], 1):
            wide = f.convert(row, word.type, signed=False)
            word = f.op("or", word, f.op("shl", wide, f.const(word.type, 8 * i)))
        return word

    def _copy(self, f: Function, of: Value, to: Value, count: int) -> None:
        def move(i: Value, width: int) -> None:
            value = f.load(f.at(of, i, self.llvm), vector(width, self.llvm))
            f.store(self._kept(f, value), f.at(to, i, self.number))

        self._in_runs(f, count, move)


@dataclass(frozen=True)
class PixelRows(_RowCopy):
    """The same with pixels innermost, bfloat16: [row][phase][channel][pixel].

    Pairs of neighbouring output pixels, which the gradient of the filters sums over, see pixels of
    the picture a stride apart: one phase of the stride holds every stride-th pixel, side by side.

    Args:
        image, shape, top, left: see PictureRows.
        phases: the stride.
        count: rows copied at a time; width: pixels in one row, zeros included.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    phases: int
    count: int
    width: int
    lanes: int = 2 * SQUARE

    @staticmethod
    def read_by(spec: ConvolutionSpec, block: int) -> PixelRows:
        """What a block of output rows reads."""
        count = (block - 1) * spec.stride[0] + spec.window[0]
        width = (spec.size[1] - 1) * spec.stride[1] + spec.window[1]
        return PixelRows(spec.image, spec.shape, spec.top, spec.left, spec.stride[1], count, width)

    @property
    def length(self) -> int:
        """Pixels of a channel in one phase."""
        return ceil_div(self.width, self.phases)

    @property
    def number(self) -> str:
        """See _RowCopy."""
        return "i16"

    @property
    def row(self) -> int:
        """See _RowCopy."""
        return self.phases * self.shape[1] * self.length

    def place(self, column: int) -> int:
        """Where the pixels begin that a column of the window sees in channel 0, in numbers."""
        return column % self.phases * self.shape[1] * self.length + column // self.phases

    def _row(self, f: Function, source: Value, line: Value) -> None:
        self._zeros(f, line, self.row)
        channels, width = self.shape[1], self.shape[3]
        for phase in range(self.phases):
            # pixel x of the picture is number (x + left - phase) / phases of its phase
            first = max(0, ceil_div(self.left - phase, self.phases))
            end = min(self.length, ceil_div(width + self.left - phase, self.phases))
            if first >= end:
                continue
            begins = first * self.phases + phase - self.left
            here = f.at(source, f.index(begins * self.image.strides[3]), "i16")
            to = f.at(line, f.index(phase * channels * self.length + first), "i16")
            self._phase(f, here, to, end - first)

    def _phase(self, f: Function, source: Value, to: Value, count: int) -> None:
        """`count` pixels of all channels, turned in squares where channels lie side by side."""
        channels, step = self.shape[1], self.image.strides[3] * self.phases
        apart = self.image.strides[1]
        if apart != 1:
            with f.loop("c", 0, channels) as c, f.loop("x", 0, count) as x:
                at = f.add(f.mul(c.index, f.index(apart)), f.mul(x.index, f.index(step)))
                place = f.add(f.mul(c.index, f.index(self.length)), x.index)
                f.store(f.load(f.at(source, at, "i16"), "i16"), f.at(to, place, "i16"))
            return

        def squares(c: Value, high: int) -> None:
            with f.loop("x", 0, count, SQUARE) as x:
                there = f.at(to, f.add(f.mul(c, f.index(self.length)), x.index), "i16")
                read: list[Value] = []
                for i in range(SQUARE):
                    pixel = f.minimum(f.add(x.index, f.index(i)), f.index(count - 1))
                    here = f.at(source, f.add(c, f.mul(pixel, f.index(step))), "i16")
                    read.append(f.load(here, vector(SQUARE, "i16"), mask=below(high)))
                kept = f.mask_below(SQUARE, f.sub(f.index(count), x.index))
                for i, channel in enumerate(transpose(f, read)[:high]):
                    f.store(channel, f.at(there, f.index(i * self.length), "i16"), mask=kept)

        def below(high: int) -> Value | None:
            return f.mask_below(SQUARE, f.index(high)) if high < SQUARE else None

        whole = channels // SQUARE * SQUARE
        if whole:
            with f.loop("c", 0, whole, SQUARE) as c:
                squares(c.index, SQUARE)
        if channels - whole:
            squares(f.index(whole), channels - whole)


@dataclass(frozen=True)
class PairRows:
    """Rows of a cotangent as pairs of neighbouring pixels: [row][pixel / 2][channel][2], bfloat16.

    Args:
        image: strides over (N, O, OH, OW); shape: those sizes, OW even, O a multiple of 16.
        count: rows copied at a time.
    """

    image: Operand
    shape: tuple[int, ...]
    count: int

    @property
    def size(self) -> int:
        """Words of 4 bytes in all rows."""
        return self.count * self.shape[3] // 2 * self.shape[1]

    def emit(self, f: Function, pointer: Value, to: Value, number: Value, first: Value) -> None:
        """Copy rows first, first + 1, ... of picture `number`."""
        channels, pixels = self.shape[1], self.shape[3]
        n, o, h, w = self.image.strides
        base = f.add(f.mul(number, f.index(n)), f.mul(first, f.index(h)))
        base = f.at(pointer, f.add(base, f.index(self.image.offset)), "i16", "cotangent")
        order = [x for i in range(SQUARE) for x in (i, SQUARE + i)]
        with f.loop("line", 0, self.count) as i, f.loop("pair", 0, pixels // 2) as pair:
            at = f.add(f.mul(i.index, f.index(h)), f.mul(pair.index, f.index(2 * w)))
            left = f.at(base, at, "i16")
            place = f.add(f.mul(i.index, f.index(pixels // 2)), pair.index)
            out = f.at(to, f.mul(place, f.index(2 * channels)), "i16")
            with f.loop("o", 0, channels, SQUARE) as c:
                here = f.at(left, f.mul(c.index, f.index(o)), "i16")
                one, other = (
                    load_row_piece(
                        f, f.at(here, f.index(k * w), "i16"), "i16", o, SQUARE, SQUARE, "i16"
                    )
                    for k in range(2)
                )
                pairs = f.shuffle(one, other, order, "pairs")
                f.store(pairs, f.at(out, f.mul(c.index, f.index(2)), "i16"))
