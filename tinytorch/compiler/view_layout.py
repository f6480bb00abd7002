"""In which order the numbers of recorded values would lie in memory, had the program run eagerly.

Knows strides, never numbers. One question needs it: `reshape` gives a view where the numbers lie
side by side and a copy where they do not, and a write to the one reaches what it was taken from.
The program itself lays its numbers out as it likes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinytorch.compiler.graph import Value
from tinytorch.primitives.primitive import Primitive


class Layouts:
    """Strides, in elements, of the values that would not lie row by row."""

    def __init__(self) -> None:
        self.strides: dict[Value, tuple[int, ...]] = {}

    def lifted(self, value: Value, array: np.ndarray) -> None:
        """A state: it lies as its array does."""
        if not array.flags.c_contiguous:
            self.strides[value] = tuple([s // array.itemsize for s in array.strides])

    def note(self, primitive: Primitive, x: Value, out: Value, params: dict[str, Any]) -> bool:
        """Note how a view of x lies; gives whether it is a view, eagerly."""
        strides = self.strides.get(x)
        if strides is None and primitive.name == "reshape":
            return True
        array = _stand_in(x.shape, strides)
        if primitive.name == "reshape":
            try:
                view = np.reshape(array, params["shape"], copy=False)
            except ValueError:
                return False
        else:
            view = primitive.numpy(array, **params)
        if not view.flags.c_contiguous:
            self.strides[out] = view.strides  # of bytes: an element has one
        return True

    def join(self, inputs: tuple[Value, ...], out: Value) -> None:
        """An elementwise result lies as its operands do, if they lie alike (NumPy's order K)."""
        found = {self.strides.get(x) for x in inputs if x.shape == out.shape}
        strides = found.pop() if len(found) == 1 else None
        if strides is None or not all(x.shape in (out.shape, ()) for x in inputs):
            return
        order = sorted(range(len(strides)), key=lambda i: -abs(strides[i]))
        dense, step = [0] * len(order), 1
        for axis in reversed(order):
            dense[axis] = step
            step *= out.shape[axis]
        if order != sorted(order):
            self.strides[out] = tuple(dense)


def _stand_in(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> np.ndarray:
    """An array of bytes that lies like this; its memory is never read."""
    if strides is None:
        rows, step = [0] * len(shape), 1
        for axis in reversed(range(len(shape))):
            rows[axis] = step
            step *= max(1, shape[axis])
        strides = tuple(rows)
    return as_strided(np.empty(1, np.int8), shape, strides)
