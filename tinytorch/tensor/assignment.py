"""Assigning to a Tensor: whole, in part, or by an operator with `=`.

A write to a view is a write to what it shows, and the reverse (Note [a view is a view] in
buffer.py). Knows what an assignment means for gradients:

- to a leaf that gathers a gradient or a view of it, while operations are recorded: an error;
- to anything else that is recorded: the new numbers have their own place in the tape, in every
  Tensor that shows them, and what used the old ones keeps the old ones, so every gradient is that
  of the numbers that were used;
- under `no_grad()`: the same, and nothing is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType, bfloat16
from tinytorch.base.errors import DTypeError, ShapeError
from tinytorch.base.settings import STRUCTURE
from tinytorch.primitives.quiet import quiet_call
from tinytorch.tensor import elementwise, indexing
from tinytorch.tensor.autograd import Leaf
from tinytorch.tensor.base import TensorBase, held
from tinytorch.tensor.buffer import Buffer, copy_of
from tinytorch.tensor.contractions import matmul
from tinytorch.tensor.dispatch import tensor_in, tensor_of, to_dtype
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.reading import Readable
from tinytorch.tensor.shaping import broadcast_to
from tinytorch.tensor.sharing import hold, writable
from tinytorch.tensor.views import is_tracked, origin, retrace


class Assignable(Readable):
    """What changes the numbers of a Tensor. Shape and number type stay."""

    __slots__ = ()

    def assign_(self, new: Any) -> Any:
        """Hold the numbers of `new` from now on; shape and dtype stay. Gives itself.

        They are written into its memory, so views of it, what it is a view of, and NumPy arrays
        that share the memory (`from_numpy`) show them too. In a compiled function the program
        writes them.

        Raises:
            ShapeError, DTypeError: `new` does not have this shape, this dtype.
            GradientError: this is a leaf that gathers a gradient or a view of one, and recording is
                on.
            OverlapError: its elements lie at the same place (`expand`).
        """
        new = tensor_of(new)
        if new.shape != self.shape or new.dtype is not self.dtype:
            kind = ShapeError if new.shape != self.shape else DTypeError
            raise kind(
                "a tensor keeps its shape and number type when it is assigned to",
                got=f"{new.dtype.name} {new.shape} for a tensor of {self.dtype.name} {self.shape}",
                rule="both agree",
                fix="x.copy_(new), which converts and broadcasts, or make a new tensor",
            )
        tracked = is_tracked(self, new)
        if STATE.journal is not None:
            STATE.journal.note(self)
        if STATE.interpreter is not None:
            STATE.interpreter.assign(self, new)
            return self
        source = new._buffer.array
        writable(self)[...] = source
        if tracked:
            retrace(self, new)
        return self

    def copy_(self, source: Any) -> Any:
        """Assign, converted to this dtype and broadcast to this shape. Gives itself."""
        return self.assign_(broadcast_to(tensor_in(source, self.dtype), self.shape))

    def zero_(self) -> Any:
        """Assign 0 everywhere. Gives itself."""
        return self.assign_(self.zeros_like())

    def fill_(self, value: Any) -> Any:
        """Assign `value`, a number or a 0-d Tensor, everywhere. Gives itself.

        Raises:
            ShapeError: a Tensor with axes (`copy_` takes one).
        """
        if isinstance(value, TensorBase) and value.shape:
            raise ShapeError(
                "fill_ takes a single number",
                got=f"a value {value.shape}",
                rule="a number, or a tensor of no axes",
                fix="x.copy_(value), which broadcasts",
            )
        return self.assign_(self.full_like(value))

    def add_(self, other: Any, *, alpha: Any = 1) -> Any:
        """x += alpha * other. Gives itself."""
        return self.__iadd__(elementwise.times(other, alpha))

    def sub_(self, other: Any, *, alpha: Any = 1) -> Any:
        """x -= alpha * other. Gives itself."""
        return self.__isub__(elementwise.times(other, alpha))

    def mul_(self, other: Any) -> Any:
        """x *= other. Gives itself."""
        return self.__imul__(other)

    def div_(self, other: Any) -> Any:
        """x /= other. Gives itself."""
        return self.__itruediv__(other)

    def clamp_(self, min: Any = None, max: Any = None) -> Any:
        """At least `min`, at most `max` from now on. Gives itself."""
        return self._become(elementwise.clip(self, min, max))

    clip_ = clamp_

    def masked_fill_(self, mask: Any, value: Any) -> Any:
        """Assign `value` where `mask` is true. Gives itself."""
        return self.assign_(elementwise.masked_fill(self, mask, value))

    def _become(self, new: Any) -> Any:
        if new.dtype is not self.dtype and new.dtype.is_float and self.dtype.is_float:
            new = to_dtype(new, self.dtype)
        return self.assign_(new)

    def _written_by(self, ufunc: np.ufunc, other: Any) -> bool:
        """Whether NumPy could write `ufunc(self, other)` straight into this memory, and did.

        Without a temporary array it takes half the time on large ones: optimizers live on this.
        """
        if (
            STATE.interpreter is not None
            or STATE.journal is not None
            or not self.dtype.is_float
            or self.dtype is bfloat16
            or is_tracked(self, None)
        ):
            return False
        kind = type(other)
        if kind is not float and kind is not int:
            if not isinstance(other, TensorBase) or other.dtype is not self.dtype:
                return False
            if other._buffer is None or (STATE.recording and other._node is not None):
                return False
            shape = other.shape
            if shape and shape != self.shape[len(self.shape) - len(shape) :]:
                return False
            other = other._buffer.array
        array = writable(self)
        quiet_call(ufunc, array, other, array)
        return True

    def __iadd__(self, other) -> Any:
        return self if self._written_by(np.add, other) else self._become(self + other)

    def __isub__(self, other) -> Any:
        return self if self._written_by(np.subtract, other) else self._become(self - other)

    def __imul__(self, other) -> Any:
        return self if self._written_by(np.multiply, other) else self._become(self * other)

    def __itruediv__(self, other) -> Any:
        return self if self._written_by(np.divide, other) else self._become(self / other)

    def __ifloordiv__(self, other) -> Any:
        return self._become(elementwise.floor_divide(self, other))

    def __imod__(self, other) -> Any:
        return self._become(elementwise.remainder(self, other))

    def __ipow__(self, other) -> Any:
        return self._become(elementwise.power(self, other))

    def __imatmul__(self, other) -> Any:
        return self._become(matmul(self, other))

    def __iand__(self, other) -> Any:
        return self._become(elementwise.bitwise_and(self, other))

    def __ior__(self, other) -> Any:
        return self._become(elementwise.bitwise_or(self, other))

    def __ixor__(self, other) -> Any:
        return self._become(elementwise.bitwise_xor(self, other))

    def __ilshift__(self, other) -> Any:
        return self._become(elementwise.shift_left(self, other))

    def __irshift__(self, other) -> Any:
        return self._become(elementwise.shift_right(self, other))

    def _retype(self, dtype: DType) -> None:
        """Hold the same numbers in another number type from now on, the gradient too.

        The object, whether it gathers a gradient, and so its place in a module and an optimizer
        stay; views taken before, and what was recorded, keep the old memory.
        """
        if STATE.interpreter is not None:
            STATE.interpreter.refuse("the number type of a tensor made outside, to be changed")
        new = to_dtype(held(self), dtype)
        hold(self, Buffer(copy_of(new._buffer.array, dtype), dtype, self._buffer.version + 1))
        STRUCTURE.bump()
        if type(self._node) is Leaf and (gradient := self._node.grad) is not None:
            self._node.grad = gradient.astype(dtype)

    def __getitem__(self, key) -> Any:
        return indexing.getitem(self, key)

    def __setitem__(self, key, value) -> None:
        tracked = is_tracked(self, value if isinstance(value, TensorBase) else None)
        if tracked or STATE.interpreter is not None:
            part = self._part(key)
            if part is not None:
                part.assign_(indexing.fit(tensor_in(value, self.dtype), part.shape))
                return
        if (
            tracked
            or STATE.interpreter is not None
            or STATE.journal is not None
            or self.dtype is bfloat16
        ):
            self.assign_(indexing.updated(self, key, value))
            return
        value = tensor_in(value, self.dtype)
        parts = key if isinstance(key, tuple) else (key,)
        plain = tuple([k._buffer.array if isinstance(k, TensorBase) else k for k in parts])
        if 0 in self._buffer.array.strides and (part := self._part(key)) is not None:
            part.assign_(indexing.fit(value, part.shape))  # the part may lie without repetition
            return
        array = writable(self)
        try:
            array, plain = indexing.numbers_first(array, plain)
            array[plain] = value._buffer.array
        except (IndexError, ValueError):
            indexing.updated(self, key, value)  # says in four parts what does not fit
            raise

    def _part(self, key: Any) -> Any:
        """x[key] as a view to be written in place of x; None where that is no help."""
        if not indexing.is_plain(key):
            return None
        if STATE.interpreter is None:
            return indexing.part_of(self, key)
        return indexing.getitem(self, key) if origin(self) is not None else None
