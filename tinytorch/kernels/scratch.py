"""Named arrays in the scratch memory of a thread.

Knows names, sizes and offsets; never what the arrays hold.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinytorch.codegen.builder import Function, Value, vector

LINE = 64  # bytes of a cache line, and of the widest vector


def round_up(number: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `number`.

    >>> round_up(65, 16)
    80
    """
    return -(-number // step) * step


class Scratch:
    """Arrays of one scalar type, each beginning on a cache line.

    Args:
        type: LLVM type of the elements.
        itemsize: its bytes.
        lanes: elements of one vector.
        sizes: elements of each array; an array of none has no place.
    """

    def __init__(self, type: str, itemsize: int, lanes: int, sizes: Mapping[str, int]):
        self.type, self.lanes, self.wide = type, lanes, vector(lanes, type)
        self.offsets: dict[str, int] = {}
        self.bytes = 0
        for name, size in sizes.items():
            self.offsets[name] = self.bytes
            self.bytes = round_up(self.bytes + size * itemsize, LINE)

    def begin(self, f: Function, base: Value) -> None:
        """Write the addresses, once, where the kernel begins."""
        self.f = f
        self.start = {n: f.at(base, f.index(o), "i8", n) for n, o in self.offsets.items()}

    def at(self, name: str, index: Value | None = None) -> Value:
        """The address of one element."""
        return self.f.at(self.start[name], self.f.index(0) if index is None else index, self.type)

    def load(self, name: str, index: Value) -> Value:
        """The vector that begins at an element."""
        return self.f.load(self.at(name, index), self.wide, stem=name)

    def every(self, name: str, index: Value) -> Value:
        """One element in every lane."""
        return self.f.splat(self.f.load(self.at(name, index), self.type, stem=name), self.lanes)

    def store(self, name: str, index: Value, x: Value) -> None:
        """Store a vector that begins at an element."""
        self.f.store(x, self.at(name, index))

    def fill(self, name: str, count: int, number: float) -> None:
        """Set the first `count` elements, a multiple of the lanes."""
        with self.f.loop("fill", 0, count, self.lanes) as i:
            self.store(name, i.index, self.f.const(self.wide, number))
