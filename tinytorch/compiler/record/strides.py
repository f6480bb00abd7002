"""In which order the numbers of recorded values would lie in memory, had the program run eagerly.

Knows strides, never numbers. One question needs it: `reshape` gives a view where the numbers lie
side by side and a copy where they do not, and a write to the one reaches what it was taken from.
The program itself lays its numbers out as it likes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinytorch.base.dtypes import bfloat16
from tinytorch.compiler.graph.graph import Value
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
        if strides is None and primitive.may_copy:
            return True
        array = _stand_in(x.shape, strides)
        if primitive.may_copy:
            try:
                view = np.reshape(array, params["shape"], copy=False)
            except ValueError:
                return False
        else:
            view = primitive.numpy(array, **params)
        if not view.flags.c_contiguous:
            self.strides[out] = view.strides  # of bytes: an element has one
        return True

    def join(self, primitive: Primitive, inputs: tuple[Value, ...], out: Value) -> None:
        """A result lies as NumPy lays it out beside its operands (order K): asked of NumPy.

        Not what a definition lays out row by row; bfloat16, which is rounded, is one.
        """
        if not primitive.keeps_order or out.dtype is bfloat16:
            return
        if not out.shape or all(x not in self.strides for x in inputs):
            return
        parts = [_stand_in(x.shape, self.strides.get(x)) for x in inputs]
        if not primitive.elementwise:  # only the order of their axes is asked
            parts = [_stretched(part, out.shape) for part in parts]
        parts = [*{(p.shape, p.strides): p for p in parts}.values()][:30]  # NumPy takes 32 at once
        flags = [["readonly"]] * len(parts) + [["writeonly", "allocate"]]
        asked = np.nditer([*parts, None], ["zerosize_ok"], flags, order="K")
        made: Any = asked.operands[-1]  # its memory is never touched
        if made.shape == out.shape and not made.flags.c_contiguous:
            self.strides[out] = made.strides


def _stretched(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The same strides for another shape; an axis of one element says nothing of the order."""
    pairs = zip(array.shape, array.strides, strict=True)
    return as_strided(array, shape, [0 if n == 1 else step for n, step in pairs])


def _stand_in(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> np.ndarray:
    """An array of bytes that lies like this; its memory is never read."""
    if strides is None:
        rows, step = [0] * len(shape), 1
        for axis in reversed(range(len(shape))):
            rows[axis] = step
            step *= max(1, shape[axis])
        strides = tuple(rows)
    return as_strided(np.empty(1, np.int8), shape, strides)
