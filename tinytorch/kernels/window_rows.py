"""Rows of a picture copied into scratch, channels innermost, with zeros around and in between.

Knows pointers and strides, not what reads the rows. What a tile of a convolution reads lies close
together then, whatever the layout of the picture, and edges need no code of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Operand


@dataclass(frozen=True)
class Rows:
    """Some rows of one picture, as scratch holds them.

    Args:
        image: strides over (N, C, H, W); bfloat16 and float16 become float32 on the way.
        shape: (N, C, H, W).
        top, left: zeros in front.
        step: pixels of the picture lie this far apart, (rows, columns), zeros between them.
        count: rows copied at a time; width: pixels in one row, zeros included.
        lanes: of a vector.
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    step: tuple[int, int]
    count: int
    width: int
    lanes: int

    @property
    def llvm(self) -> str:
        """The type of a number in the picture."""
        return self.image.dtype.llvm

    @property
    def row(self) -> int:
        """Numbers in one row."""
        return self.width * self.shape[1]

    @property
    def size(self) -> int:
        """Numbers in all rows."""
        return self.count * self.row

    def emit(self, f: Function, pointer: Value, to: Value, number: Value, first: Value) -> None:
        """Copy rows first, first + 1, ... of the padded picture `number`."""
        stride = self.image.strides
        base = f.add(f.mul(number, f.index(stride[0])), f.index(self.image.offset))
        base = f.at(pointer, base, self.llvm, "image")
        every = self.step[0]
        with f.loop("copied", 0, self.count) as i:
            line = f.at(to, f.mul(i.index, f.index(self.row)), "float", "line")
            y = f.sub(f.add(first, i.index), f.index(self.top), "y")
            inside = f.compare("ge", y, f.index(0))
            if every > 1:
                on_row = f.compare("eq", f.rem(y, f.index(every)), f.index(0))
                inside = f.op("and", inside, on_row)
                y = f.div(y, f.index(every))
            inside = f.op("and", inside, f.compare("lt", y, f.index(self.shape[2])))
            with f.when(inside, "inside"):
                self._row(f, f.at(base, f.mul(y, f.index(stride[2])), self.llvm), line)
            with f.when(f.op("xor", inside, f.const("i1", 1)), "outside"):
                _zeros(f, line, self.row, self.lanes)

    def _row(self, f: Function, source: Value, line: Value) -> None:
        _, channels, _, width = self.shape
        _, c, _, w = self.image.strides
        every, left = self.step[1], self.left
        copied = min(width, -(-(self.width - left) // every))
        side_by_side = c == 1 or channels == 1
        if every == 1 and side_by_side and w == channels:
            _zeros(f, line, left * channels, self.lanes)
            to = f.at(line, f.index(left * channels), "float")
            self._copy(f, source, to, copied * channels)
            right = (left + copied) * channels
            _zeros(f, f.at(line, f.index(right), "float"), self.row - right, self.lanes)
            return
        _zeros(f, line, self.row, self.lanes)
        with f.loop("x", 0, copied) as x:
            of = f.at(source, f.mul(x.index, f.index(w)), self.llvm)
            place = f.mul(f.add(f.mul(x.index, f.index(every)), f.index(left)), f.index(channels))
            to = f.at(line, place, "float")
            if side_by_side:
                self._copy(f, of, to, channels)
            else:
                with f.loop("c", 0, channels) as k:
                    value = f.load(f.at(of, f.mul(k.index, f.index(c)), self.llvm), self.llvm)
                    f.store(f.convert(value, "float"), f.at(to, k.index, "float"))

    def _copy(self, f: Function, of: Value, to: Value, count: int) -> None:
        whole, rest = _runs(count, self.lanes)

        def move(i: Value, width: int) -> None:
            value = f.load(f.at(of, i, self.llvm), vector(width, self.llvm))
            f.store(f.convert(value, "float"), f.at(to, i, "float"))

        if whole:
            with f.loop("run", 0, whole, self.lanes) as i:
                move(i.index, self.lanes)
        if rest:
            with f.loop("last", whole, count) as i:
                move(i.index, 1)


def _runs(count: int, lanes: int) -> tuple[int, int]:
    """(numbers moved by whole vectors, the rest)."""
    return count // lanes * lanes, count % lanes


def _zeros(f: Function, to: Value, count: int, lanes: int) -> None:
    whole, rest = _runs(count, lanes)
    if whole:
        with f.loop("zeros", 0, whole, lanes) as i:
            f.store(f.const(vector(lanes, "float"), 0), f.at(to, i.index, "float"))
    if rest:
        with f.loop("zero", whole, count) as i:
            f.store(f.const("float", 0), f.at(to, i.index, "float"))
