"""Functions and methods of Tensors that are one elementwise row each; see row_functions.py.

Written by scripts/make_row_stub from the table, for editors and type checkers.
"""

from collections.abc import Callable
from typing import Any

from tinytorch.primitives import Primitive
from tinytorch.tensor.tensor import Tensor

def function_of(row: Primitive) -> Callable[..., Any]: ...
def abs(x: Any) -> Tensor:
    """|x|; the least integer wraps to itself."""

def bitwise_and(a: Any, b: Any) -> Tensor:
    """The bits set in both."""

def bitwise_invert(x: Any) -> Tensor:
    """Every bit turned over; of a bool, not x."""

def bitwise_left_shift(a: Any, b: Any) -> Tensor:
    """a * 2^b; 0 for b >= the width."""

def bitwise_not(x: Any) -> Tensor:
    """Every bit turned over; of a bool, not x."""

def bitwise_or(a: Any, b: Any) -> Tensor:
    """The bits set in either."""

def bitwise_right_shift(a: Any, b: Any) -> Tensor:
    """a / 2^b rounded down; the sign fills, so b >= the width gives 0 or -1."""

def bitwise_xor(a: Any, b: Any) -> Tensor:
    """The bits set in one of them only."""

def cos(x: Any) -> Tensor:
    """The cosine of an angle in radians."""

def eq(a: Any, b: Any) -> Tensor:
    """a == b."""

def erf(x: Any) -> Tensor:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""

def exp(x: Any) -> Tensor:
    """e to the x."""

def floor_divide(a: Any, b: Any) -> Tensor:
    """The quotient rounded down, as Python's //; an integer divided by 0 gives 0."""

def ge(a: Any, b: Any) -> Tensor:
    """a >= b."""

def greater(a: Any, b: Any) -> Tensor:
    """a > b."""

def greater_equal(a: Any, b: Any) -> Tensor:
    """a >= b."""

def gt(a: Any, b: Any) -> Tensor:
    """a > b."""

def isfinite(x: Any) -> Tensor:
    """Whether x is neither infinite nor NaN."""

def isinf(x: Any) -> Tensor:
    """Whether x is infinite."""

def isnan(x: Any) -> Tensor:
    """Whether x is not a number."""

def le(a: Any, b: Any) -> Tensor:
    """a <= b."""

def less(a: Any, b: Any) -> Tensor:
    """a < b."""

def less_equal(a: Any, b: Any) -> Tensor:
    """a <= b."""

def log(x: Any) -> Tensor:
    """The natural logarithm."""

def logical_and(a: Any, b: Any) -> Tensor:
    """a and b, where anything but 0 is true."""

def logical_not(x: Any) -> Tensor:
    """Whether x is 0."""

def logical_or(a: Any, b: Any) -> Tensor:
    """a or b, where anything but 0 is true."""

def lt(a: Any, b: Any) -> Tensor:
    """a < b."""

def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b; NaN if one is NaN."""

def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b; NaN if one is NaN."""

def multiply(a: Any, b: Any) -> Tensor:
    """a * b; of bools: a and b."""

def ne(a: Any, b: Any) -> Tensor:
    """a != b."""

def negative(x: Any) -> Tensor:
    """-x; unsigned integers wrap."""

def not_equal(a: Any, b: Any) -> Tensor:
    """a != b."""

def reciprocal(x: Any) -> Tensor:
    """1 / x."""

def remainder(a: Any, b: Any) -> Tensor:
    """What floor division leaves, with the sign of b, as Python's %; an integer modulo 0 gives
    0."""

def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x)."""

def shift_left(a: Any, b: Any) -> Tensor:
    """a * 2^b; 0 for b >= the width."""

def shift_right(a: Any, b: Any) -> Tensor:
    """a / 2^b rounded down; the sign fills, so b >= the width gives 0 or -1."""

def sign(x: Any) -> Tensor:
    """-1, 0 or 1; NaN stays NaN."""

def sin(x: Any) -> Tensor:
    """The sine of an angle in radians."""

def sqrt(x: Any) -> Tensor:
    """The square root; NaN below 0."""

def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent."""

class RowMethods:
    """The methods of Tensors that are one row each."""

    __slots__ = ()

    def abs(self) -> Tensor:
        """|x|; the least integer wraps to itself."""

    def cos(self) -> Tensor:
        """The cosine of an angle in radians."""

    def eq(self, b: Any) -> Tensor:
        """a == b."""

    def erf(self) -> Tensor:
        """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""

    def exp(self) -> Tensor:
        """e to the x."""

    def ge(self, b: Any) -> Tensor:
        """a >= b."""

    def gt(self, b: Any) -> Tensor:
        """a > b."""

    def isfinite(self) -> Tensor:
        """Whether x is neither infinite nor NaN."""

    def isinf(self) -> Tensor:
        """Whether x is infinite."""

    def isnan(self) -> Tensor:
        """Whether x is not a number."""

    def le(self, b: Any) -> Tensor:
        """a <= b."""

    def log(self) -> Tensor:
        """The natural logarithm."""

    def logical_and(self, b: Any) -> Tensor:
        """a and b, where anything but 0 is true."""

    def logical_not(self) -> Tensor:
        """Whether x is 0."""

    def logical_or(self, b: Any) -> Tensor:
        """a or b, where anything but 0 is true."""

    def lt(self, b: Any) -> Tensor:
        """a < b."""

    def maximum(self, b: Any) -> Tensor:
        """The larger of a and b; NaN if one is NaN."""

    def minimum(self, b: Any) -> Tensor:
        """The smaller of a and b; NaN if one is NaN."""

    def mul(self, b: Any) -> Tensor:
        """a * b; of bools: a and b."""

    def multiply(self, b: Any) -> Tensor:
        """a * b; of bools: a and b."""

    def ne(self, b: Any) -> Tensor:
        """a != b."""

    def neg(self) -> Tensor:
        """-x; unsigned integers wrap."""

    def negative(self) -> Tensor:
        """-x; unsigned integers wrap."""

    def reciprocal(self) -> Tensor:
        """1 / x."""

    def rsqrt(self) -> Tensor:
        """1 / sqrt(x)."""

    def sign(self) -> Tensor:
        """-1, 0 or 1; NaN stays NaN."""

    def sin(self) -> Tensor:
        """The sine of an angle in radians."""

    def sqrt(self) -> Tensor:
        """The square root; NaN below 0."""

    def tanh(self) -> Tensor:
        """The hyperbolic tangent."""

__all__ = [
    "abs",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "cos",
    "eq",
    "erf",
    "exp",
    "floor_divide",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "less",
    "less_equal",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "lt",
    "maximum",
    "minimum",
    "multiply",
    "ne",
    "negative",
    "not_equal",
    "reciprocal",
    "remainder",
    "rsqrt",
    "shift_left",
    "shift_right",
    "sign",
    "sin",
    "sqrt",
    "tanh",
]
