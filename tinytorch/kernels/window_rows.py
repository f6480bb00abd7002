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
        image: float32, strides over (N, C, H, W).
        shape: (N, C, H, W).
        top, left: zeros in front.
        step: pixels of the picture lie this far apart, (rows, columns), zeros between them.
        count: rows copied at a time; width: pixels in one row, zeros included.
        lanes: of a vector.
    """

    image: Operand
    shape: tuple[int, int, int, int]
    top: int
    left: int
    step: tuple[int, int]
    count: int
    width: int
    lanes: int

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
        base = f.at(pointer, base, "float", "image")
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
                self._row(f, f.at(base, f.mul(y, f.index(stride[2])), "float"), line)
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
            _copy(
                f,
                source,
                f.at(line, f.index(left * channels), "float"),
                copied * channels,
                self.lanes,
            )
            right = (left + copied) * channels
            _zeros(f, f.at(line, f.index(right), "float"), self.row - right, self.lanes)
            return
        _zeros(f, line, self.row, self.lanes)
        with f.loop("x", 0, copied) as x:
            of = f.at(source, f.mul(x.index, f.index(w)), "float")
            place = f.mul(f.add(f.mul(x.index, f.index(every)), f.index(left)), f.index(channels))
            to = f.at(line, place, "float")
            if side_by_side:
                _copy(f, of, to, channels, self.lanes)
            else:
                with f.loop("c", 0, channels) as k:
                    value = f.load(f.at(of, f.mul(k.index, f.index(c)), "float"), "float")
                    f.store(value, f.at(to, k.index, "float"))


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


def _copy(f: Function, of: Value, to: Value, count: int, lanes: int) -> None:
    whole, rest = _runs(count, lanes)
    if whole:
        with f.loop("run", 0, whole, lanes) as i:
            value = f.load(f.at(of, i.index, "float"), vector(lanes, "float"))
            f.store(value, f.at(to, i.index, "float"))
    if rest:
        with f.loop("last", whole, count) as i:
            f.store(f.load(f.at(of, i.index, "float"), "float"), f.at(to, i.index, "float"))
