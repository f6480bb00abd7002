"""Elementwise functions of Tensors: those of one row each, and these, which are more than a row.

Knows which rows each is made of, and which number types it wants.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.dtypes import as_dtype, bfloat16, bool_, float16, float32, float64, int64
from tinytorch.base.errors import DTypeError, SettingError
from tinytorch.primitives import TABLE
from tinytorch.tensor.dispatch import (
    apply,
    binary,
    common,
    copied,
    custom_vjp,
    elementwise,
    number,
    tensor_in,
    to_dtype,
    with_slope,
)
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.operands import Operand, make, plain, tensor_of
from tinytorch.tensor.row_functions import *  # noqa: F403
from tinytorch.tensor.row_functions import (
    abs,
    as_floats,
    eq,
    exp,
    floor_divide,
    greater,
    less,
    logical_and,
    logical_not,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    reciprocal,
    rsqrt,
    sign,
    sqrt,
)


def add(a: Operand, b: Operand, *, alpha: Any = 1) -> Any:
    """a + alpha * b; of bools: a or b."""
    return binary(TABLE["add"], a, b if type(alpha) is int and alpha == 1 else times(b, alpha))


def subtract(a: Operand, b: Operand, *, alpha: Any = 1) -> Any:
    """a - alpha * b."""
    return binary(TABLE["sub"], a, b if type(alpha) is int and alpha == 1 else times(b, alpha))


def times(x: Operand, alpha: Any) -> Any:
    """alpha * x, or x as it is for the number 1; a Tensor is not asked what it is."""
    return x if isinstance(alpha, (int, float)) and alpha == 1 else multiply(x, alpha)


def divide(a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Any:
    """a / b; integers are divided as float32.

    Args:
        a: Tensor, array or number.
        b: the divisor.
        rounding_mode: None, "floor" (as `floor_divide`) or "trunc" (the fraction is dropped; an
            integer divided by 0 gives 0). Rounded quotients keep integers, and have no gradient.

    Raises:
        SettingError: another rounding_mode.
    """
    if rounding_mode is not None:
        return _rounded_quotient(a, b, rounding_mode)
    a, b = common(a, b)
    if not a.dtype.is_float:
        a, b = to_dtype(a, float32), to_dtype(b, float32)
    return elementwise(TABLE["div"], (a, b))


def _rounded_quotient(a: Any, b: Any, mode: str) -> Any:
    if mode not in ("floor", "trunc"):
        raise SettingError(
            "divide: no such rounding",
            got=f"rounding_mode={mode!r}",
            rule='None, "floor" or "trunc"',
            fix='rounding_mode="floor"',
        )
    a, b = common(a, b)
    if mode == "trunc" and a.dtype.is_float:
        return trunc(divide(a, b))
    if a.dtype is bool_:
        a, b = to_dtype(a, int64), to_dtype(b, int64)
    down = floor_divide(a, b)
    if mode == "floor" or a.dtype.kind == "u":
        return down
    below = logical_and(less(multiply(sign(a), sign(b)), 0), not_equal(multiply(down, b), a))
    return add(down, to_dtype(below, down.dtype))


def power(a: Operand, b: Operand) -> Any:
    """a to the power b; the powers 2, 3, 0.5, -0.5, -1, 1 by cheaper rows."""
    if isinstance(a, TensorBase) and isinstance(b, (int, float)):
        if isinstance(b, int) and b < 0 and not a.dtype.is_float:
            a = to_dtype(a, float32)
        short = _POWERS.get(b)
        if short is not None and (a.dtype.is_float or (isinstance(b, int) and b in (2, 3))):
            return short(a)
    return binary(TABLE["pow"], a, b)


def absorb(p: Operand, g: Operand) -> Any:
    """p, a product with the factor g; 0 where p is NaN and g is 0: 0 times anything is 0.

    Not for users: `where` and the losses say what they mean (see Primitive's Note).
    """
    return elementwise(TABLE["absorb"], (p, g))


def square(x: Operand) -> Any:
    """x * x; bools as int64."""
    x = tensor_of(x)
    x = to_dtype(x, int64) if x.dtype is bool_ else x
    return multiply(x, x)


def sigmoid(x: Operand) -> Any:
    """1 / (1 + exp(-x)); derivative sigmoid(x) sigmoid(-x), exact far out on both sides."""
    x = tensor_of(x)
    dtype = x.dtype
    if dtype is float16 or dtype is bfloat16:  # rounded once, as in_float32 does
        return to_dtype(_sigmoid(to_dtype(x, float32)), dtype)
    return _sigmoid(x if dtype.is_float else to_dtype(x, float32))


def _sigmoid_slope(x: Any) -> Any:
    return sigmoid(x) * sigmoid(negative(x))


@with_slope(_sigmoid_slope)
def _sigmoid(x: Any) -> Any:
    """Where exp(-x) is infinite it is 0, to rounding."""
    return reciprocal(exp(negative(x)) + 1.0)


def relu(x: Operand) -> Any:
    """max(x, 0); the gradient at 0 is 0, as in PyTorch; NaN stays NaN."""
    x = tensor_of(x)
    zero = number(0, x.dtype)
    return apply(TABLE["where"], (elementwise(TABLE["less_equal"], (x, zero)), zero, x), {})


def floor(x: Operand) -> Any:
    """The largest whole number <= x."""
    return _rounded("floor", x)


def ceil(x: Operand) -> Any:
    """The smallest whole number >= x."""
    return _rounded("ceil", x)


def round(x: Operand, *, decimals: int = 0) -> Any:
    """The nearest whole number, halves to even; or the nearest multiple of 10^-decimals.

    Args:
        x: any shape.
        decimals: digits after the point; negative: zeros before it.
    """
    if type(decimals) is int and not decimals:
        return _rounded("round", x)
    plain("round", decimals=decimals)
    if not decimals:
        return _rounded("round", x)
    scale = 10.0**-decimals if decimals < 0 else 10.0**decimals
    x = tensor_of(x)
    if not x.dtype.is_float:
        tens = round(to_dtype(x, float64), decimals=decimals) if decimals < 0 else x
        return to_dtype(tens, x.dtype) if decimals < 0 else copied(x)
    return round(x / scale) * scale if decimals < 0 else round(x * scale) / scale


def _rounded(name: str, x: Any) -> Any:
    x = tensor_of(x)
    return elementwise(TABLE[name], (x,)) if x.dtype.is_float else copied(x)


def trunc(x: Operand) -> Any:
    """The whole number between x and 0 that is nearest to x: the fraction is dropped."""
    x = tensor_of(x)
    return where(x < 0, ceil(x), floor(x)) if x.dtype.is_float else copied(x)


def positive(x: Operand) -> Any:
    """+x: x itself."""
    return tensor_of(x)


def signbit(x: Operand) -> Any:
    """Whether the sign of x is minus, that of -0.0 and of a NaN too."""
    x = tensor_of(x)
    return elementwise(TABLE["signbit"], (x,)) if x.dtype.is_float else x < 0


def copysign(a: Operand, b: Operand) -> Any:
    """The size of a with the sign of b."""
    a, b = as_floats(a, b)
    return where(logical_xor(signbit(a), signbit(b)), negative(a), a)


def nextafter(a: Operand, b: Operand) -> Any:
    """The next number after a on the way to b, in their type; never compiled.

    Its gradient is that of a, as in PyTorch.
    """
    a, b = common(a, b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    wide = a if a.shape == shape else apply(TABLE["broadcast_to"], (a,), {"shape": shape})
    return _next(wide, b)


@custom_vjp
def _next(a: Any, b: Any) -> Any:
    return make(np.nextafter(a.read("nextafter"), b.read("nextafter")), a.dtype)


def _next_forward(a: Any, b: Any) -> tuple[Any, None]:
    return _next.function(a, b), None


def _next_backward(kept: None, g: Any) -> tuple[Any, None]:
    return g, None


_next.define(_next_forward, _next_backward)


def isclose(
    a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether |a - b| <= atol + rtol |b|, elementwise; equal infinities are close.

    Args:
        a: Tensor, array or number.
        b: the reference.
        rtol: allowed difference relative to |b|.
        atol: allowed difference besides.
        equal_nan: NaN is close to NaN.
    """
    a, b = common(a, b)
    if a.dtype is bool_:
        return eq(a, b)
    near = abs(a - b) <= abs(b) * rtol + atol
    out = (a == b) | (near & (abs(b) != float("inf"))) if a.dtype.is_float else near
    return out | ((a != a) & (b != b)) if equal_nan else out


def allclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all of a and b are close; see `isclose`.

    Args: as `isclose`.
    """
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


def clip(x: Operand, min: Operand | None = None, max: Operand | None = None) -> Any:
    """x, but at least `min` and at most `max` (None: no bound); `max` wins where they cross.

    The gradient at a bound goes to x, as in PyTorch, and beyond it to the bound, if that is a
    Tensor with a gradient.

    Args:
        x: any shape.
        min: smallest result; Tensor, array or number.
        max: largest result.
    """
    if min is None and max is None:
        return copied(x)
    x = x if min is None else _held(maximum, less, x, min)
    return x if max is None else _held(minimum, greater, x, max)


def _held(extreme: Any, beyond: Any, x: Any, bound: Any) -> Any:
    """The extreme of both, whose gradient at a tie is that of x."""
    x, bound = common(x, bound)
    if STATE.recording and not (x._node is None and bound._node is None):
        return where(beyond(x, bound) | (bound != bound), bound, x)
    return extreme(x, bound)


def logical_xor(a: Operand, b: Operand) -> Any:
    """Whether exactly one of a and b is different from 0."""
    return binary(TABLE["not_equal"], logical_not(logical_not(a)), logical_not(logical_not(b)))


def where(condition: Operand, a: Operand, b: Operand) -> Any:
    """a where condition is true, b elsewhere.

    Args:
        condition: bool; broadcasts with a and b.
        a: taken where true; Tensor, array or number.
        b: taken where false.

    Raises:
        DTypeError: the condition is not of bools.

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([-1.0, 2.0])
        >>> tt.where(x > 0, x, 0).tolist()
        [0.0, 2.0]
    """
    condition = tensor_of(condition)
    if condition.dtype is not bool_:
        raise DTypeError(
            "where: the condition is not of bools",
            got=f"condition of dtype {condition.dtype.name}",
            rule="each element says yes or no",
            fix="tt.where(x != 0, a, b)",
        )
    if isinstance(a, (bool, int, float)) and isinstance(b, (bool, int, float)):
        kind = (
            float
            if isinstance(a, float) or isinstance(b, float)
            else np.result_type(type(a), type(b))
        )
        a, b = number(a, as_dtype(kind)), number(b, as_dtype(kind))
    else:
        a, b = common(a, b)
    return apply(TABLE["where"], (condition, a, b), {})


def masked_fill(x: Operand, mask: Operand, value: Operand) -> Any:
    """`value` where `mask` is true, x elsewhere, in x's number type.

    Args:
        x: any shape.
        mask: bool; broadcasts with x.
        value: as for an assignment: a fraction is dropped where x is of integers, what does not fit
            is refused, a Tensor is cast.
    """
    x = tensor_of(x)
    return where(mask, tensor_in(value, x.dtype), x)


def astype(x: Operand, dtype: Any) -> Any:
    """The numbers in another type, always in memory of their own, as in the array API.

    Out-of-range floats become the nearest integer, NaN 0. `x.to(dtype)` gives x itself where the
    type is that already.
    """
    x, wanted = tensor_of(x), as_dtype(dtype)
    return copied(x) if x.dtype is wanted else to_dtype(x, wanted)


def cube(x: Operand) -> Any:
    """x * x * x."""
    return multiply(multiply(x, x), x)


_POWERS = {2: square, 3: cube, 0.5: sqrt, -0.5: rsqrt, -1: reciprocal, 1: copied}
