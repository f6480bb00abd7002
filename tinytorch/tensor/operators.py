"""Python's operators on Tensors: +, @, ==, +=, x[key], float(x).

Knows which function each operator stands for. Written out, because a level of indirection costs as
much as the rest of an operation (benchmarks/overhead.py).
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.dtypes import float32
from tinytorch.primitives import TABLE
from tinytorch.tensor import contractions, elementwise
from tinytorch.tensor.base import TensorBase
from tinytorch.tensor.dispatch import binary, unary
from tinytorch.tensor.dispatch import elementwise as apply_elementwise

_ADD, _SUB, _MUL, _DIV = (TABLE[name] for name in ("add", "sub", "mul", "div"))
_NEG = TABLE["neg"]


class Operators(TensorBase):
    """Operators; each gives a new Tensor, except the in-place ones."""

    __slots__ = ()
    # An array on the left leaves the operation to the Tensor on the right.
    __array_ufunc__ = None
    __array_priority__ = 1000

    def __add__(self, other) -> Any:
        return binary(_ADD, self, other)

    def __radd__(self, other) -> Any:
        return binary(_ADD, other, self)

    def __sub__(self, other) -> Any:
        return binary(_SUB, self, other)

    def __rsub__(self, other) -> Any:
        return binary(_SUB, other, self)

    def __mul__(self, other) -> Any:
        return binary(_MUL, self, other)

    def __rmul__(self, other) -> Any:
        return binary(_MUL, other, self)

    def __truediv__(self, other) -> Any:
        if isinstance(other, TensorBase) and other.dtype is self.dtype is float32:
            return apply_elementwise(_DIV, (self, other))
        return elementwise.divide(self, other)

    def __rtruediv__(self, other) -> Any:
        return elementwise.divide(other, self)

    def __neg__(self) -> Any:
        return unary(_NEG, self)

    def __pos__(self) -> Any:
        return elementwise.positive(self)

    def __matmul__(self, other) -> Any:
        return contractions.matmul(self, other)

    def __rmatmul__(self, other) -> Any:
        return contractions.matmul(other, self)

    def __floordiv__(self, other) -> Any:
        return elementwise.floor_divide(self, other)

    def __rfloordiv__(self, other) -> Any:
        return elementwise.floor_divide(other, self)

    def __mod__(self, other) -> Any:
        return elementwise.remainder(self, other)

    def __rmod__(self, other) -> Any:
        return elementwise.remainder(other, self)

    def __pow__(self, other) -> Any:
        return elementwise.power(self, other)

    def __rpow__(self, other) -> Any:
        return elementwise.power(other, self)

    def __abs__(self) -> Any:
        return elementwise.abs(self)

    def __eq__(self, other) -> Any:  # type: ignore[override]
        if other is None or type(other) is str:  # not numbers: Python says False
            return NotImplemented
        return elementwise.equal(self, other)

    def __ne__(self, other) -> Any:  # type: ignore[override]
        if other is None or type(other) is str:
            return NotImplemented
        return elementwise.not_equal(self, other)

    __hash__ = object.__hash__

    def __lt__(self, other) -> Any:
        return elementwise.less(self, other)

    def __le__(self, other) -> Any:
        return elementwise.less_equal(self, other)

    def __gt__(self, other) -> Any:
        return elementwise.greater(self, other)

    def __ge__(self, other) -> Any:
        return elementwise.greater_equal(self, other)

    def __and__(self, other) -> Any:
        return elementwise.bitwise_and(self, other)

    def __rand__(self, other) -> Any:
        return elementwise.bitwise_and(other, self)

    def __or__(self, other) -> Any:
        return elementwise.bitwise_or(self, other)

    def __ror__(self, other) -> Any:
        return elementwise.bitwise_or(other, self)

    def __xor__(self, other) -> Any:
        return elementwise.bitwise_xor(self, other)

    def __rxor__(self, other) -> Any:
        return elementwise.bitwise_xor(other, self)

    def __invert__(self) -> Any:
        return elementwise.bitwise_not(self)

    def __lshift__(self, other) -> Any:
        return elementwise.shift_left(self, other)

    def __rshift__(self, other) -> Any:
        return elementwise.shift_right(self, other)

    def __rlshift__(self, other) -> Any:
        return elementwise.shift_left(other, self)

    def __rrshift__(self, other) -> Any:
        return elementwise.shift_right(other, self)
