"""What may be an operand, and in which number type operands meet.

Knows how numbers, lists and arrays become Tensors, what is refused, which type results from two,
and answers questions about number types by the names and rules of the Python array API standard
(https://data-apis.org/array-api/2024.12), without complex numbers.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np

from tinytorch.base.dtypes import (
    DTYPES,
    OF_NUMPY,
    Array,
    DType,
    as_dtype,
    bfloat16,
    bool_,
    check_fits,
    float32,
    float64,
    int64,
    promote,
)
from tinytorch.base.errors import ArgumentTypeError, DTypeError, OutOfMemoryError, SettingError
from tinytorch.base.lengths import Length
from tinytorch.primitives.elementwise import cast
from tinytorch.primitives.ieee import ieee_cast
from tinytorch.primitives.shapes import check_sizes
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import Buffer, TensorBase, copy_of, from_buffer

__all__ = [
    "__array_namespace_info__", "can_cast", "finfo", "iinfo", "is_tensor", "isdtype", "result_type",
]  # fmt: skip

# What becomes a Tensor: a Tensor, an array, a number, nested lists of numbers.
Operand: TypeAlias = "TensorBase | Array | np.generic | float | Sequence[Any]"
Sizes: TypeAlias = int | Sequence[int]  # of axes, or axes themselves: one, or several in a tuple
Axes: TypeAlias = int | Sequence[int] | None  # what is reduced over: one, several, None: all


def to_buffer(data: Any, dtype: DType | None, *, copy: bool) -> Buffer:
    """The numbers in a list, a Python number or a NumPy array, as a Buffer.

    Python floats become float32, ints int64; NumPy arrays keep their type unless `dtype` is given.
    """
    array = data
    if not isinstance(data, np.ndarray):
        if holds_tensors(data) and _recorded(data):
            refuse_tensors(data)
        try:
            array = np.asarray(data)
        except ValueError as problem:
            raise DTypeError(
                "these numbers do not form an array",
                got=str(problem),
                rule="nested lists have equal lengths on each level",
                fix="pad the short rows",
            ) from None
        array = _fitting(array, dtype)
        if dtype is None and not isinstance(data, np.generic):
            # An empty list has no numbers to say otherwise: the framework's default float.
            default = {"f": float32, "i": int64, "b": bool_}.get(array.dtype.kind)
            if default is not None and array.dtype is not default.storage:
                array = ieee_cast(array, default.storage)  # 1e40 is inf
        copy = copy and array is data
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    own = dtype_of_array(array)
    if dtype is not None and dtype is not own:
        return Buffer(cast(array, dtype=dtype), dtype)
    return Buffer(copy_of(array, own) if copy else array, own)


def _fitting(array: Array, dtype: DType | None) -> Array:
    """Python numbers, if what they become can hold them (None: int64 for whole ones)."""
    kind = array.dtype.kind
    if kind == "O" and array.size and all(type(v) is int for v in array.flat):  # beyond 64 bits
        for number in array.flat:
            check_fits(number, dtype or int64)
        return array.astype(np.float64)
    if kind == "u" and dtype is None:
        check_fits(array, int64)
    elif kind in "iuf" and dtype is not None:
        check_fits(array, dtype)
    return array


_NUMBERS = frozenset((float, int, bool))


def entries_of(data: Any) -> Sequence[Any]:
    """Of a list or tuple its entries; anything else is the only one."""
    return data if issubclass(type(data), (list, tuple)) else (data,)


def holds_tensors(data: Any) -> bool:
    """Whether a list, or a list in it, has a Tensor among its elements."""
    parts = entries_of(data)
    if parts is not data:
        return False
    kinds = set(map(type, parts))
    if kinds <= _NUMBERS:
        return False
    if any(issubclass(kind, TensorBase) for kind in kinds):
        return True
    return bool(kinds & {list, tuple}) and any(map(holds_tensors, parts))


def refuse_tensors(data: Any) -> None:
    """Refuse a list of Tensors where numbers are asked for: their gradients would be lost."""
    if holds_tensors(data):
        raise DTypeError(
            "a list of Tensors is no Tensor",
            got=f"a {type(data).__name__} of {len(data)}",
            rule="one Tensor, array, number or list of numbers",
            fix="tt.stack(tensors), or tt.cat(tensors), which are recorded",
        )


def _recorded(data: Any) -> bool:
    if isinstance(data, TensorBase):
        return STATE.interpreter is not None or (STATE.recording and data._node is not None)
    parts = entries_of(data)
    return parts is data and any(map(_recorded, parts))


def refuse_as_number(owner: Any, name: str, x: Any) -> None:
    """Refuse a Tensor where a plain number is asked for: what was recorded of it would be lost.

    Args:
        owner: the function or row.
        name: its argument.
        x: the Tensor.
    """
    raise ArgumentTypeError(
        f"{owner}: {name} is a plain number, and a Tensor was given",
        got=f"{name}: a tensor {x.shape}{' that requires a gradient' if x.requires_grad else ''}",
        rule="no gradient reaches it, and a compiled function would keep what it was",
        fix=f"{name}=x.item(), outside of the compiled function",
    )


def plain(owner: str, **numbers: Any) -> None:
    """Refuse settings that are Tensors with a gradient, which would be lost without a word.

    Args:
        owner: the function.
        numbers: its settings; a Tensor that nothing is recorded of may be read as a number.
    """
    for name, x in numbers.items():
        if isinstance(x, TensorBase) and x._node is not None and STATE.recording:
            refuse_as_number(owner, name, x)


def refuse_tensor_params(owner: Any, params: dict[str, Any]) -> None:
    """Refuse Tensors among the params of a row, which are written into programs and caches."""
    for name, x in params.items():
        for part in entries_of(x):
            if isinstance(part, TensorBase):
                refuse_as_number(owner, name, part)


def make(data: Any, dtype: DType | None = None, *, copy: bool = False) -> Any:
    """A Tensor of the numbers in `data`, a constant if a program is being captured."""
    buffer = to_buffer(data, dtype, copy=copy)
    if STATE.interpreter is not None:
        return STATE.interpreter.constant(buffer)
    return from_buffer(buffer)


def dtype_of_array(array: Array) -> DType:
    """The number type of a NumPy array (never bfloat16)."""
    known = OF_NUMPY.get(array.dtype)
    return as_dtype(array.dtype) if known is None else known


def zeros_of(sizes: tuple[Any, ...]) -> Array:
    """What `Tensor(2, 3)` holds."""
    check_sizes("Tensor", sizes)
    try:
        return np.zeros(sizes or (0,), np.float32)
    except MemoryError as problem:
        raise OutOfMemoryError.of(problem) from None


def holds_whole_numbers(data: Any) -> bool:
    """Whether the first number of nested lists is a Python int or bool, which become float32."""
    while type(data) in (list, tuple) and data:
        data = data[0]
    return type(data) in (int, bool)


# --- which type results ---


def weak_dtype(value: Any, dtype: DType) -> DType:
    """The type that a Python number and an array of `dtype` meet in: the array's, if it can."""
    if isinstance(value, bool) or dtype.is_float:
        return dtype
    if isinstance(value, (int, Length)):
        return int64 if dtype is bool_ else dtype
    return float32


def joint_dtype(a: Any, b: Any) -> DType:
    """The type that two Tensors meet in: as `promote`, but a 0-d float widens no float with axes.

    So a rate or a factor kept in a 0-d float32 Tensor leaves half precision what it is, as a Python
    number does and as in PyTorch; 0-d integers promote like all others, since they could not fit.
    """
    p, q = a.dtype, b.dtype
    if p is not q and p.is_float and q.is_float and bool(a.shape) != bool(b.shape):
        return p if a.shape else q
    return promote(p, q)


def tensor_of(x: Operand) -> TensorBase:
    """A Tensor of anything that an operand may be: a Tensor, an array, a list, a number."""
    if isinstance(x, TensorBase):
        return x
    refuse_tensors(x)
    return make(x)


# --- questions about number types ---

_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "",
    "numeric": "iuf",
}


def _type_of(x: Any) -> DType:
    kind: Any = x
    if isinstance(x, (DType, str, type, np.dtype)):
        return as_dtype(kind)
    return tensor_of(x).dtype


def result_type(*xs: Any) -> DType:
    """The number type of an operation on these: Tensors, arrays, number types, Python numbers.

    Args:
        xs: at least one. A Python number is weak: it takes the type of the others, if that can hold
            its kind. A 0-d Tensor of floats takes the type of floats that have axes.

    Example:
        >>> import tinytorch as tt
        >>> tt.result_type(tt.int8, tt.uint8), tt.result_type(tt.ones(1), 2.0, tt.float16)
        (tinytorch.int16, tinytorch.float32)
    """
    if not xs:
        raise SettingError(
            "result_type: of nothing", got="no arguments", rule="at least one", fix="result_type(x)"
        )
    weak = [x for x in xs if isinstance(x, (bool, int, float)) and not isinstance(x, np.generic)]
    others = [x for x in xs if not any(x is w for w in weak)]
    strong = [_type_of(x) for x in others]
    if any(isinstance(x, TensorBase) and x.shape and x.dtype.is_float for x in others):
        # 0-d floats widen no float with axes
        points = [isinstance(x, TensorBase) and not x.shape and x.dtype.is_float for x in others]
        strong = [d for d, point in zip(strong, points, strict=True) if not point]
    out = strong[0] if strong else _type_of(weak.pop(0))
    for dtype in strong[1:]:
        out = promote(out, dtype)
    for number in weak:
        out = weak_dtype(number, out)
    return out


def can_cast(from_: Any, to: Any) -> bool:
    """Whether promotion leads from one number type to the other (from integers to floats: yes).

    Args:
        from_: a number type, or a Tensor of it.
        to: a number type.

    Example:
        >>> import tinytorch as tt
        >>> tt.can_cast(tt.int32, tt.int64), tt.can_cast(tt.float64, tt.float32)
        (True, False)
    """
    source, target = _type_of(from_), as_dtype(to)
    if source.is_float and not target.is_float:
        return False
    return promote(source, target) is target


def check_one_float(owner: str, /, **tensors: Any) -> None:
    """Refuse float Tensors of different types where PyTorch does: in products, layers, norms.

    Args:
        owner: who asks.
        tensors: by the name of the argument; None, integers and bools are not looked at.

    Raises:
        DTypeError: two of them are floats of different types, and no precision mode
            (`tt.precision`) rounds them all to one.
    """
    floats = {n: x.dtype for n, x in tensors.items() if x is not None and x.dtype.is_float}
    kinds = set(floats.values())
    if len(kinds) > 1 and (STATE.precision == "float32" or float64 in kinds):
        given = list(floats.values())  # what most have; of two, what the second has
        usual = max(given, key=lambda d: (given.count(d), given[::-1].index(d) == 0))
        odd = next(name for name, dtype in floats.items() if dtype is not usual)
        like = next(name for name, dtype in floats.items() if dtype is usual)
        raise DTypeError(
            f"{owner}: floats of different types do not mix",
            got=", ".join(f"{name} of {dtype.name}" for name, dtype in floats.items()),
            rule="one type for all of them: a sum would become the wider one",
            fix=f"{odd}.to({like}.dtype), or for a whole model model.to(x.dtype)",
        )


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a number type is of a kind.

    Args:
        dtype: the number type.
        kind: "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex
            floating", "numeric", another number type, or a tuple of these (any of them).

    Example:
        >>> import tinytorch as tt
        >>> tt.isdtype(tt.uint8, "integral"), tt.isdtype(tt.float32, ("bool", tt.float32))
        (True, True)
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in entries_of(kind))
    if isinstance(kind, str) and kind in _KINDS:
        return as_dtype(dtype).kind in _KINDS[kind] and kind != "complex floating"
    try:
        return as_dtype(dtype) is as_dtype(kind)
    except DTypeError:
        raise SettingError(
            "isdtype: no such kind",
            got=repr(kind),
            rule="one of " + ", ".join(_KINDS) + ", or a number type",
            fix='isdtype(dtype, "real floating")',
        ) from None


class FloatInfo(SimpleNamespace):
    """The range and fineness of a floating-point type.

    bits, eps, max, min, smallest_normal, dtype: as the array API names them.
    """


class IntegerInfo(SimpleNamespace):
    """The range of an integer type: bits, max, min, dtype."""


def finfo(x: Any) -> FloatInfo:
    """How large, small and fine the numbers of a floating-point type are.

    Args:
        x: the type, or a Tensor of it.

    Example:
        >>> import tinytorch as tt
        >>> tt.finfo(tt.bfloat16).eps, tt.finfo(tt.float16).max
        (0.0078125, 65504.0)
    """
    dtype = _type_of(x)
    if not dtype.is_float:
        raise DTypeError(
            "finfo: this is no floating-point type",
            got=dtype.name,
            rule="float16, bfloat16, float32 or float64",
            fix="tt.iinfo(dtype)",
        )
    if dtype is bfloat16:  # 8 bits of exponent as float32, 7 of fraction
        largest = float(2.0**127 * (2 - 2.0**-7))
        return FloatInfo(
            bits=16, eps=2.0**-7, max=largest, min=-largest, smallest_normal=2.0**-126, dtype=dtype
        )
    info = np.finfo(dtype.storage)
    return FloatInfo(
        bits=info.bits,
        eps=float(info.eps),
        max=float(info.max),
        min=float(info.min),
        smallest_normal=float(info.smallest_normal),
        dtype=dtype,
    )


def iinfo(x: Any) -> IntegerInfo:
    """The least and the largest number of an integer type.

    Args:
        x: the type, or a Tensor of it.

    Example:
        >>> import tinytorch as tt
        >>> tt.iinfo(tt.int8).max
        127
    """
    dtype = _type_of(x)
    if dtype.kind not in "iu":
        raise DTypeError(
            "iinfo: this is no integer type", got=dtype.name, rule="int8, ..., uint32",
            fix="tt.finfo(dtype)",
        )  # fmt: skip
    info = np.iinfo(dtype.storage)
    return IntegerInfo(bits=info.bits, max=int(info.max), min=int(info.min), dtype=dtype)


def is_tensor(x: Any) -> bool:
    """Whether x is a Tensor."""
    return isinstance(x, TensorBase)


class NamespaceInfo:
    """What `__array_namespace_info__()` answers, in the words of the array API standard."""

    def capabilities(self) -> dict[str, Any]:
        """Masks and shapes that depend on values work eagerly; 64 axes are NumPy's limit."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """ "cpu"."""
        return "cpu"

    def devices(self) -> list[str]:
        """The one there is."""
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """float32 for fractions, int64 for whole numbers and indices."""
        names = {"real floating": "float32", "integral": "int64", "indexing": "int64"}
        return {kind: as_dtype(name) for kind, name in names.items()}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The number types by name, of a kind if one is named."""
        return {d.name: d for d in DTYPES if kind is None or isdtype(d, kind)}


def __array_namespace_info__() -> NamespaceInfo:
    """What this namespace offers to array-API code."""
    return NamespaceInfo()
