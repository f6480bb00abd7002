"""Elementwise functions of Tensors: arithmetic, comparisons, exponentials, choices.

Knows which row of the table each name stands for, and which number types it wants.
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
    unary,
    unary_float,
    with_slope,
)
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.operands import make, plain, tensor_of

_ROW = TABLE


def add(a, b, *, alpha: Any = 1) -> Any:
    """a + alpha * b; of bools: a or b."""
    return binary(_ROW["add"], a, b if type(alpha) is int and alpha == 1 else times(b, alpha))


def subtract(a, b, *, alpha: Any = 1) -> Any:
    """a - alpha * b."""
    return binary(_ROW["sub"], a, b if type(alpha) is int and alpha == 1 else times(b, alpha))


def times(x: Any, alpha: Any) -> Any:
    """alpha * x, or x as it is for the number 1; a Tensor is not asked what it is."""
    return x if isinstance(alpha, (int, float)) and alpha == 1 else multiply(x, alpha)


def multiply(a, b) -> Any:
    """a * b."""
    return binary(_ROW["mul"], a, b)


def divide(a, b, *, rounding_mode: str | None = None) -> Any:
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
    return elementwise(_ROW["div"], (a, b))


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


def floor_divide(a, b) -> Any:
    """The quotient rounded down, as Python's //; an integer divided by 0 gives 0."""
    return binary(_ROW["floor_div"], a, b)


def remainder(a, b) -> Any:
    """What floor division leaves, with the sign of b, as Python's %; integers modulo 0 give 0."""
    return binary(_ROW["remainder"], a, b)


def power(a, b) -> Any:
    """a to the power b; the powers 2, 3, 0.5, -0.5, -1, 1 by cheaper rows."""
    if isinstance(a, TensorBase) and isinstance(b, (int, float)):
        if isinstance(b, int) and b < 0 and not a.dtype.is_float:
            a = to_dtype(a, float32)
        short = _POWERS.get(b)
        if short is not None and (a.dtype.is_float or (isinstance(b, int) and b in (2, 3))):
            return short(a)
    return binary(_ROW["pow"], a, b)


def absorb(p, g) -> Any:
    """p, a product with the factor g; 0 where p is NaN and g is 0: 0 times anything is 0.

    Not for users: `where` and the losses say what they mean (see Primitive's Note).
    """
    return elementwise(_ROW["absorb"], (p, g))


def square(x) -> Any:
    """x * x; bools as int64."""
    x = tensor_of(x)
    x = to_dtype(x, int64) if x.dtype is bool_ else x
    return multiply(x, x)


def negative(x) -> Any:
    """-x."""
    return unary(_ROW["neg"], x)


def abs(x) -> Any:
    """|x|."""
    return unary(_ROW["abs"], x)


def sign(x) -> Any:
    """-1, 0 or 1."""
    return unary(_ROW["sign"], x)


def exp(x) -> Any:
    """e to the power x."""
    return unary_float(_ROW["exp"], x)


def log(x) -> Any:
    """Natural logarithm."""
    return unary_float(_ROW["log"], x)


def sqrt(x) -> Any:
    """Square root."""
    return unary_float(_ROW["sqrt"], x)


def rsqrt(x) -> Any:
    """1 / sqrt(x)."""
    return unary_float(_ROW["rsqrt"], x)


def reciprocal(x) -> Any:
    """1 / x."""
    return unary_float(_ROW["reciprocal"], x)


def sin(x) -> Any:
    """Sine of x in radians."""
    return unary_float(_ROW["sin"], x)


def cos(x) -> Any:
    """Cosine of x in radians."""
    return unary_float(_ROW["cos"], x)


def tanh(x) -> Any:
    """Hyperbolic tangent."""
    return unary_float(_ROW["tanh"], x)


def erf(x) -> Any:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return unary_float(_ROW["erf"], x)


def sigmoid(x) -> Any:
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


def relu(x) -> Any:
    """max(x, 0); the gradient at 0 is 0, as in PyTorch; NaN stays NaN."""
    x = tensor_of(x)
    zero = number(0, x.dtype)
    return apply(_ROW["where"], (elementwise(_ROW["less_equal"], (x, zero)), zero, x), {})


def floor(x) -> Any:
    """The largest whole number <= x."""
    return _rounded("floor", x)


def ceil(x) -> Any:
    """The smallest whole number >= x."""
    return _rounded("ceil", x)


def round(x, *, decimals: int = 0) -> Any:
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


def _rounded(name: str, x) -> Any:
    x = tensor_of(x)
    return elementwise(_ROW[name], (x,)) if x.dtype.is_float else copied(x)


def trunc(x) -> Any:
    """The whole number between x and 0 that is nearest to x: the fraction is dropped."""
    x = tensor_of(x)
    return where(x < 0, ceil(x), floor(x)) if x.dtype.is_float else copied(x)


def positive(x) -> Any:
    """+x: x itself."""
    return tensor_of(x)


def signbit(x) -> Any:
    """Whether the sign of x is minus, that of -0.0 and of a NaN too."""
    x = tensor_of(x)
    return elementwise(_ROW["signbit"], (x,)) if x.dtype.is_float else x < 0


def copysign(a, b) -> Any:
    """The size of a with the sign of b."""
    a, b = common(a, b)
    if not a.dtype.is_float:
        a, b = to_dtype(a, float32), to_dtype(b, float32)
    return where(logical_xor(signbit(a), signbit(b)), negative(a), a)


def nextafter(a, b) -> Any:
    """The next number after a on the way to b, in their type; never compiled.

    Its gradient is that of a, as in PyTorch.
    """
    a, b = common(a, b)
    shape = np.broadcast_shapes(a.shape, b.shape)
    wide = a if a.shape == shape else apply(_ROW["broadcast_to"], (a,), {"shape": shape})
    return _next(wide, b)


@custom_vjp
def _next(a: Any, b: Any) -> Any:
    return make(np.nextafter(a.read("nextafter"), b.read("nextafter")), a.dtype)


_next.define(lambda a, b: (_next.function(a, b), None), lambda _, g: (g, None))


def isclose(a, b, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
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
        return equal(a, b)
    near = abs(a - b) <= abs(b) * rtol + atol
    out = (a == b) | (near & (abs(b) != float("inf"))) if a.dtype.is_float else near
    return out | ((a != a) & (b != b)) if equal_nan else out


def allclose(a, b, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all of a and b are close; see `isclose`.

    Args: as `isclose`.
    """
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


def maximum(a, b) -> Any:
    """The larger of a and b, NaN if one is NaN."""
    return binary(_ROW["maximum"], a, b)


def minimum(a, b) -> Any:
    """The smaller of a and b, NaN if one is NaN."""
    return binary(_ROW["minimum"], a, b)


def clip(x, min=None, max=None) -> Any:
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


def equal(a, b) -> Any:
    """a == b, elementwise."""
    return binary(_ROW["equal"], a, b)


def not_equal(a, b) -> Any:
    """a != b, elementwise."""
    return binary(_ROW["not_equal"], a, b)


def less(a, b) -> Any:
    """a < b, elementwise."""
    return binary(_ROW["less"], a, b)


def less_equal(a, b) -> Any:
    """a <= b, elementwise."""
    return binary(_ROW["less_equal"], a, b)


def greater(a, b) -> Any:
    """a > b, elementwise."""
    return binary(_ROW["greater"], a, b)


def greater_equal(a, b) -> Any:
    """a >= b, elementwise."""
    return binary(_ROW["greater_equal"], a, b)


eq, ne, lt, le, gt, ge = equal, not_equal, less, less_equal, greater, greater_equal


def logical_and(a, b) -> Any:
    """a and b, where anything but 0 is true."""
    return binary(_ROW["logical_and"], a, b)


def logical_or(a, b) -> Any:
    """a or b, where anything but 0 is true."""
    return binary(_ROW["logical_or"], a, b)


def logical_xor(a, b) -> Any:
    """Whether exactly one of a and b is different from 0."""
    return binary(_ROW["not_equal"], logical_not(logical_not(a)), logical_not(logical_not(b)))


def logical_not(x) -> Any:
    """Whether x is 0."""
    return unary(_ROW["logical_not"], x)


def isnan(x) -> Any:
    """Whether each element is not a number."""
    return unary_float(_ROW["isnan"], x)


def isinf(x) -> Any:
    """Whether each element is infinite."""
    return unary_float(_ROW["isinf"], x)


def isfinite(x) -> Any:
    """Whether each element is neither infinite nor NaN."""
    return unary_float(_ROW["isfinite"], x)


def bitwise_and(a, b) -> Any:
    """a & b of integers or bools."""
    return binary(_ROW["bitwise_and"], a, b)


def bitwise_or(a, b) -> Any:
    """a | b of integers or bools."""
    return binary(_ROW["bitwise_or"], a, b)


def bitwise_xor(a, b) -> Any:
    """a ^ b of integers or bools."""
    return binary(_ROW["bitwise_xor"], a, b)


def bitwise_not(x) -> Any:
    """~x of integers or bools."""
    return unary(_ROW["bitwise_not"], x)


def shift_left(a, b) -> Any:
    """a << b; shifts by the width or more give 0."""
    return binary(_ROW["shift_left"], a, b)


def shift_right(a, b) -> Any:
    """a >> b; keeps the sign; shifts by the width or more give 0 or -1."""
    return binary(_ROW["shift_right"], a, b)


def where(condition, a, b) -> Any:
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
    return apply(_ROW["where"], (condition, a, b), {})


def masked_fill(x, mask, value) -> Any:
    """`value` where `mask` is true, x elsewhere, in x's number type.

    Args:
        x: any shape.
        mask: bool; broadcasts with x.
        value: as for an assignment: a fraction is dropped where x is of integers, what does not fit
            is refused, a Tensor is cast.
    """
    x = tensor_of(x)
    return where(mask, tensor_in(value, x.dtype), x)


def astype(x, dtype) -> Any:
    """The numbers in another type, always in memory of their own, as in the array API.

    Out-of-range floats become the nearest integer, NaN 0. `x.to(dtype)` gives x itself where the
    type is that already.
    """
    x, wanted = tensor_of(x), as_dtype(dtype)
    return copied(x) if x.dtype is wanted else to_dtype(x, wanted)


def cube(x) -> Any:
    """x * x * x."""
    return multiply(multiply(x, x), x)


_POWERS = {2: square, 3: cube, 0.5: sqrt, -0.5: rsqrt, -1: reciprocal, 1: copied}
