"""The number types of TinyTorch, and how each is stored in a NumPy array.

Knows bits and names, never tensors. bfloat16 has no NumPy type: it is stored as the upper 16 bits
of a float32, in an array of uint16, and computed with in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from tinytorch.base.errors import DTypeError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class DType:
    """One number type. There is one object for each, so types are compared with `is`.

    Args:
        name: its name, as in `tt.float32`.
        kind: "b" bool, "i" signed, "u" unsigned, "f" floating point.
        storage: NumPy type of the array that holds it.
        compute: NumPy type that NumPy definitions compute in.
        llvm: its name in LLVM IR as a value (bool is i1 as a value, i8 in memory).
    """

    name: str
    kind: str
    storage: np.dtype[Any]
    compute: np.dtype[Any]
    llvm: str

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory."""
        return self.storage.itemsize

    @cached_property  # asked at every operation
    def is_float(self) -> bool:
        """Whether numbers of this type have a fraction, and so a gradient."""
        return self.kind == "f"

    def __repr__(self) -> str:
        return f"tinytorch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (dtype_named, (self.name,))


# What may stand for a number type: its name, NumPy's type, Python's bool, int or float.
DTypeLike: TypeAlias = DType | str | type | np.dtype[Any]


def _dtype(name: str, kind: str, storage: str, llvm: str, compute: str | None = None) -> DType:
    return DType(name, kind, np.dtype(storage), np.dtype(compute or storage), llvm)


bool_ = _dtype("bool", "b", "bool", "i1")
uint8 = _dtype("uint8", "u", "uint8", "i8")
int8 = _dtype("int8", "i", "int8", "i8")
int16 = _dtype("int16", "i", "int16", "i16")
int32 = _dtype("int32", "i", "int32", "i32")
int64 = _dtype("int64", "i", "int64", "i64")
uint32 = _dtype("uint32", "u", "uint32", "i32")
float16 = _dtype("float16", "f", "float16", "half")
bfloat16 = _dtype("bfloat16", "f", "uint16", "bfloat", compute="float32")
float32 = _dtype("float32", "f", "float32", "float")
float64 = _dtype("float64", "f", "float64", "double")

DTYPES = (
    bool_, uint8, int8, int16, int32, int64, uint32, float16, bfloat16, float32, float64,
)  # fmt: skip
_BY_NAME = {d.name: d for d in DTYPES}
OF_NUMPY = {d.storage: d for d in DTYPES if d is not bfloat16}

_LARGEST = int(np.finfo(np.float64).max)


def dtype_named(name: str) -> DType:
    """The type called `name`, for example "float32"."""
    if name not in _BY_NAME:
        raise DTypeError(
            "no number type of that name",
            got=repr(name),
            rule="one of " + ", ".join(_BY_NAME),
            fix='dtype="float32"',
        )
    return _BY_NAME[name]


def as_dtype(x: DTypeLike) -> DType:
    """The DType meant by a DType, a name, a NumPy type or Python's bool, int, float.

    >>> as_dtype("float32"), as_dtype(np.int64), as_dtype(float)
    (tinytorch.float32, tinytorch.int64, tinytorch.float32)
    """
    if isinstance(x, DType):
        return x
    if isinstance(x, str) and x in _BY_NAME:
        return _BY_NAME[x]
    if x is float:
        return float32  # the framework's default, as in PyTorch
    try:
        return OF_NUMPY[np.dtype(x)]
    except (KeyError, TypeError, ValueError):
        raise DTypeError(
            "this is not a number type TinyTorch has",
            got=repr(x),
            rule="one of " + ", ".join(_BY_NAME),
            fix="convert the array first, for example array.astype(np.float32)",
        ) from None


def check_fits(numbers: Any, dtype: DType) -> None:
    """Refuse Python numbers that an integer type cannot hold.

    The one rule wherever Python numbers become integers of a type that is asked for: beside a
    Tensor, assigned, filling, in lists. A fraction is dropped; numbers outside the range, NaN and
    infinities are refused. (An array or Tensor that changes its type follows `cast` instead.)

    Args:
        numbers: a Python number, or an array of what was written as Python numbers.
        dtype: what they are to become; anything fits bool and the floats.

    Raises:
        DTypeError: a number does not fit.
    """
    if dtype.kind in "iu":
        low, high = int(np.iinfo(dtype.storage).min), int(np.iinfo(dtype.storage).max)
    elif dtype.is_float and isinstance(numbers, int):
        low, high = -_LARGEST, _LARGEST  # beyond it Python has no float of this number
    else:
        return
    if isinstance(numbers, (int, float)):  # NaN is in no range
        wrong: Any = None if low - 1 < numbers < high + 1 else numbers
    else:
        array = np.asarray(numbers)
        inside = (array > low - 1) | (array == low)  # -2^63 - 1 is no float
        outside = array[~np.asarray(inside & (array < high + 1), bool)]
        wrong = outside.flat[0] if outside.size else None
    if wrong is not None:
        long = isinstance(wrong, int) and abs(wrong) > 2**200
        raise DTypeError(
            "this number does not fit into the tensor's type",
            got=f"{'a long number' if long else wrong} for {dtype.name}",
            rule=f"{low:.6g} to {high:.6g}" if dtype.is_float else f"{low} to {high}",
            fix="x.astype(tt.int64) first, or another dtype=",
        )


def round_to_bfloat16(x: np.ndarray) -> np.ndarray:
    """The bits (uint16) of float32 `x` rounded to bfloat16, ties to even; NaN stays NaN.

    >>> round_to_bfloat16(np.array([1.0, 1.00390625], np.float32))   # 1 + 2^-8 is a tie: to even
    array([16256, 16256], dtype=uint16)
    """
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + (np.uint32(0x7FFF) + odd)) >> np.uint32(16)
    rounded = np.where(np.isnan(x), np.uint16(0x7FC0), rounded.astype(np.uint16))
    return rounded.reshape(np.shape(x))  # ascontiguousarray made one axis of none


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The float32 numbers whose bfloat16 bits (uint16) are given; exact."""
    return np.asarray(bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


_FLOAT_ORDER = {float16: 1, bfloat16: 1, float32: 2, float64: 3}


def promote(a: DType, b: DType) -> DType:
    """The type of `a + b` for arrays (Python array API; integers meeting floats become float).

    float16 with bfloat16 gives float32, which holds both. Python numbers are weaker than arrays and
    are not promoted here: they take the array's type.

    >>> promote(int32, float32), promote(uint8, int8), promote(bfloat16, float16)
    (tinytorch.float32, tinytorch.int16, tinytorch.float32)
    """
    if a is b:
        return a
    if a.is_float and b.is_float:
        if _FLOAT_ORDER[a] == _FLOAT_ORDER[b]:
            return float32
        return a if _FLOAT_ORDER[a] > _FLOAT_ORDER[b] else b
    if a.is_float or b.is_float:
        return a if a.is_float else b
    return OF_NUMPY.get(np.promote_types(a.storage, b.storage), int64)
