"""Assigning to a Tensor: whole, in part, or by an operator with `=`.

Knows when memory may be written (Note [a Tensor is a value] in buffer.py), and what an assignment
means for gradients:

- to a leaf that gathers a gradient, while operations are recorded: an error;
- to anything else that is recorded: the new numbers have their own place in the tape, and what used
  the old ones keeps the old ones, so every gradient is that of the numbers that were used;
- under `no_grad()`: the same, and nothing is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType, bfloat16
from tinytorch.base.errors import DTypeError, GradientError, ShapeError
from tinytorch.primitives.quiet import quiet_call
from tinytorch.tensor import elementwise, indexing
from tinytorch.tensor.autograd import Leaf
from tinytorch.tensor.base import TensorBase, from_buffer
from tinytorch.tensor.buffer import Buffer, copy_of, is_exclusive
from tinytorch.tensor.contractions import matmul
from tinytorch.tensor.dispatch import tensor_in, tensor_of, to_dtype
from tinytorch.tensor.interpreter import STATE, user_line
from tinytorch.tensor.reading import Readable
from tinytorch.tensor.shaping import broadcast_to


class Assignable(Readable):
    """What changes the numbers of a Tensor. Shape and number type stay."""

    __slots__ = ()

    def assign_(self, new: Any) -> Any:
        """Hold the numbers of `new` from now on; shape and dtype stay. Gives itself.

        Eager, they are written into its memory, or into new memory if somebody else can see the old
        (a view, a NumPy array, the tape). In a compiled function the program writes them.

        Raises:
            ShapeError, DTypeError: `new` does not have this shape, this dtype.
            GradientError: this is a leaf that gathers a gradient, and recording is on.
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
        if STATE.recording and (self._node is not None or new._node is not None):
            if type(self._node) is Leaf:
                raise GradientError(
                    "a tensor that gathers a gradient was changed in place",
                    got=f"an assignment at {user_line()}, while operations are recorded",
                    rule="its gradient is with respect to the numbers it had",
                    fix="with tt.no_grad(): around the assignment",
                )
            self._node = new._node
        if STATE.journal is not None:
            STATE.journal.note(self)
        if STATE.interpreter is not None:
            STATE.interpreter.assign(self, new)
        elif is_exclusive(self):
            self._buffer.array[...] = new._buffer.array
            self._buffer.written()
        else:
            self._move(copy_of(new._buffer.array, new.dtype))
        return self

    def _move(self, array: np.ndarray) -> None:
        """Hold another array from now on; who sees the old one keeps it."""
        old = self._buffer
        self._buffer = Buffer(array, old.dtype, old.version)
        self._buffer.written()

    def copy_(self, source: Any) -> Any:
        """Assign, converted to this dtype and broadcast to this shape. Gives itself."""
        return self.assign_(broadcast_to(tensor_in(source, self.dtype), self.shape))

    def zero_(self) -> Any:
        """Assign 0 everywhere. Gives itself."""
        return self.assign_(self.zeros_like())

    def fill_(self, value: float) -> Any:
        """Assign `value` everywhere. Gives itself."""
        return self.assign_(self.full_like(value))

    def add_(self, other: Any, *, alpha: float = 1) -> Any:
        """x += alpha * other. Gives itself."""
        return self.__iadd__(other if alpha == 1 else tensor_of(other) * alpha)

    def sub_(self, other: Any, *, alpha: float = 1) -> Any:
        """x -= alpha * other. Gives itself."""
        return self.__isub__(other if alpha == 1 else tensor_of(other) * alpha)

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
            or (STATE.recording and self._node is not None)
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
        if not is_exclusive(self):
            return False
        array = self._buffer.array
        quiet_call(ufunc, array, other, array)
        self._buffer.written()
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
        new = to_dtype(from_buffer(self._buffer), dtype)
        self._buffer = Buffer(copy_of(new._buffer.array, dtype), dtype, self._buffer.version)
        self._buffer.written()
        if type(self._node) is Leaf and (gradient := self._node.grad) is not None:
            self._node.grad = gradient.astype(dtype)

    def __getitem__(self, key) -> Any:
        return indexing.getitem(self, key)

    def __setitem__(self, key, value) -> None:
        tracked = STATE.recording and (
            self._node is not None or (isinstance(value, TensorBase) and value._node is not None)
        )
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
        if not is_exclusive(self):
            self._move(copy_of(self._buffer.array, self.dtype))
        try:
            array, plain = indexing.numbers_first(self._buffer.array, plain)
            array[plain] = value._buffer.array
        except (IndexError, ValueError):
            indexing.updated(self, key, value)  # says in four parts what does not fit
            raise
        self._buffer.written()
