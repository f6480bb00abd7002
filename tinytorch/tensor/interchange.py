"""How numbers leave a Tensor and enter one: Python's, text, NumPy's arrays, DLPack, buffers.

Knows values, strides, and the structures of DLPack (https://dmlc.github.io/dlpack) and of CPython's
buffers, nothing of gradients. While a program is captured there are no values, and who asks is
refused. Memory is shared with other libraries, never copied unless asked, and written by either
side; the memory of a Tensor that gathers a gradient leaves read-only where the protocol can say so.

Row-major (C order) is how new Tensors lie; `x.T` of such a one is column-major, and costs nothing:
only its strides differ. A compiled function chooses layouts itself, so there questions about
strides are refused, and `contiguous()` changes nothing.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np

from tinytorch.base.dtypes import Array, DTypeLike, as_dtype, bfloat16
from tinytorch.base.errors import DTypeError, SettingError, ShapeError
from tinytorch.tensor.dispatch import COPY, copied, to_dtype, viewed
from tinytorch.tensor.indexing import getitem
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import (
    Buffer,
    TensorBase,
    copy_of,
    from_buffer,
    note_writes,
    owner_of,
)
from tinytorch.tensor.operands import Operand, make, tensor_of
from tinytorch.tensor.shaping import axis_of

__all__ = ["contiguous", "from_dlpack", "is_contiguous", "shares_memory", "stride"]

_SHOWN = 60  # elements that a repr shows in full; more are shortened to 3 at each end
_CELLS = 10  # rows, and columns, of the table in a notebook


Device: TypeAlias = str | tuple[int, int] | None  # there is one: "cpu"


class SupportsDLPack(Protocol):
    """An array of another library."""

    def __dlpack__(self, **options: Any) -> Any: ...


def item(x: TensorBase) -> Any:
    """The only element, as a Python number."""
    array = x.read("item()")
    if array.size != 1:
        raise ShapeError(
            "item() needs a single number",
            got=f"a tensor {x.shape}",
            rule="exactly one element",
            fix="x.tolist(), or x.sum().item()",
        )
    return array.item()


def tolist(x: TensorBase) -> Any:
    """The numbers as nested lists."""
    return x.read("tolist()").tolist()


def numpy(x: TensorBase) -> Array:
    """The numbers as a NumPy array over the same memory (bfloat16: a read-only copy).

    Writing to one writes to the other, views included. The array of a Tensor that gathers a
    gradient or was recorded is read-only: the tape cannot see what NumPy writes. Write to
    `x.detach().numpy()`, as in PyTorch, where what was recorded before is then not of interest.
    """
    view = x.read("numpy()").view()
    if x._node is not None or x.dtype is bfloat16:
        view.flags.writeable = False
    else:
        note_writes((id(owner_of(view)),))
    return view


def as_array(x: TensorBase, dtype: Any = None, copy: bool | None = None) -> Array:
    """For `numpy.asarray(x)`."""
    array = x.read("numpy.asarray()")
    if dtype is not None and np.dtype(dtype) != array.dtype:
        return array.astype(dtype) if copy is not False else _refuse_copy(array, dtype)
    if x.dtype.name == "bfloat16" and copy is False:
        return _refuse_copy(array, "float32")
    return array.copy() if copy else numpy(x)


def call_numpy(
    x: TensorBase, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:  # fmt: skip
    """NumPy's own functions (`np.mean(x)`, `np.argmax(x, 1)`) see an array and give arrays."""
    return function(*_as_arrays(args), **{k: _as_arrays(v) for k, v in kwargs.items()})


def as_dlpack(
    x: TensorBase, *, stream: object = None, max_version: tuple[int, int] | None = None,
    dl_device: Device = None, copy: bool | None = None,
) -> Any:  # fmt: skip
    """For `from_dlpack(x)` of other libraries."""
    x.read("DLPack")
    return to_dlpack(x._buffer, max_version, dl_device, copy, read_only=x._node is not None)


def as_memoryview(x: TensorBase, flags: int) -> memoryview:
    """For `memoryview(x)`: the numbers, row by row (Python 3.12 on)."""
    array: Any = numpy(x)
    try:
        return array.__buffer__(flags)
    except BufferError:  # bytes(x.T): the asker knows no strides
        return rows_of(array).__buffer__(flags)  # type: ignore[attr-defined]


def length(x: TensorBase) -> int:
    """Size of the first axis."""
    if not x.shape:
        raise ShapeError(
            "a single number has no length",
            got="len() of a tensor ()",
            rule="at least one axis",
            fix="x.reshape(1)",
        )
    return x.shape[0]


def contains(x: TensorBase, value: Operand) -> bool:
    """Whether an element is equal to `value`."""
    return bool((x == value).any())


def rows(x: TensorBase) -> Iterator[Any]:
    """The parts along the first axis, one by one."""
    return (getitem(x, i) for i in range(len(x)))


def as_index(x: TensorBase) -> int:
    """For `range(x)`, `list[x]`: the only element, a whole number."""
    if x.dtype.kind not in "iu":
        raise DTypeError(
            "only a whole number can be an index",
            got=f"a tensor of {x.dtype.name}",
            rule="an integer type",
            fix="int(x)",
        )
    return int(single_number(x, "an index"))


def as_format(x: TensorBase, spec: str) -> str:
    """For f-strings: the only element by a format, or the whole as text."""
    return format(single_number(x, "a format"), spec) if spec else str(x)


def single_number(x: TensorBase, what: str) -> Any:
    """The only element, where Python asks for a number."""
    array = x.read(what)
    if array.size != 1:
        raise ShapeError(
            "a tensor of several numbers was used as one",
            got=f"{what} of a tensor {x.shape}",
            rule="exactly one element",
            fix="x.any(), x.all(), or x[0]",
        )
    return array.item()


def as_text(x: TensorBase) -> str:
    """What `repr(x)` gives."""
    if STATE.interpreter is not None or x._buffer is None:
        return f"Tensor(<{x.dtype.name} {x.shape}, captured>)"
    array = x._buffer.numbers()
    text = np.array2string(array, separator=", ", threshold=_SHOWN, edgeitems=3, prefix="Tensor(")
    if array.size > _SHOWN or not array.size:
        text += f", shape={x.shape}"
    if x.dtype.name not in ("float32", "int64", "bool"):
        text += f", dtype={x.dtype.name}"
    return f"Tensor({text}{', requires_grad=True' if x.requires_grad else ''})"


def as_html(x: TensorBase) -> str:
    """What a notebook shows: shape and type, and the corner of the (last) matrix."""
    import html  # here: it takes 1 ms to load, and few need it

    title = f"Tensor {x.shape} {x.dtype.name}" + ", requires grad" * x.requires_grad
    if STATE.interpreter is not None or x._buffer is None or not 1 <= x.ndim <= 4:
        return f"<pre>{html.escape(repr(x))}</pre>"
    array = x._buffer.numbers()
    if array.ndim > 2 and array.size:
        title += f"; [{', '.join('0' * (array.ndim - 2))}] is shown"
        array = array[(0,) * (array.ndim - 2)]
    rows = array.reshape(1, -1) if array.ndim == 1 else array
    lines = [_row(row) for row in (rows[:_CELLS] if rows.ndim == 2 else ())]
    more = "<tr><td>&#8942;</td></tr>" if len(rows) > _CELLS else ""
    return f"<table><caption>{html.escape(title)}</caption>{''.join(lines)}{more}</table>"


def _as_arrays(x: Any) -> Any:
    """The argument of a NumPy function with arrays in place of Tensors."""
    if isinstance(x, TensorBase):
        return np.asarray(x)
    return type(x)(map(_as_arrays, x)) if type(x) in (tuple, list) else x


def _row(numbers: Array) -> str:
    cells = [f"{x:.4g}" if numbers.dtype.kind == "f" else str(x) for x in numbers[:_CELLS]]
    cells += ["&#8943;"] if len(numbers) > _CELLS else []
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _refuse_copy(array: Array, dtype: Any) -> Array:
    raise SettingError(
        "this tensor cannot be handed out without a copy",
        got=f"numpy.asarray(x, dtype={np.dtype(dtype)}, copy=False)",
        rule="numbers in another type are other memory",
        fix="numpy.asarray(x, dtype=...), which copies where it must",
    )


# --- where the elements lie in memory ---

_FORMATS = ("row", "column")


def stride(x: Operand, dim: int | None = None) -> Any:
    """How many elements lie between neighbours along each axis (or along one).

    Example:
        >>> import tinytorch as tt
        >>> tt.stride(tt.ones(3, 4)), tt.stride(tt.ones(3, 4).T)
        ((4, 1), (1, 4))
    """
    x = tensor_of(x)
    x.read("stride()")
    steps = tuple([s // x.dtype.itemsize for s in x._buffer.array.strides])
    return steps if dim is None else steps[axis_of(x, dim)]


def is_contiguous(x: Operand, order: str = "row") -> bool:
    """Whether the elements lie side by side, the last axis (or, by columns, the first) fastest.

    Args:
        x: any shape.
        order: "row" or "column".
    """
    x = tensor_of(x)
    x.read("is_contiguous()")
    flags = x._buffer.array.flags
    return flags.c_contiguous if _checked(order) == "row" else flags.f_contiguous


def _checked(order: str) -> str:
    if order not in _FORMATS:
        raise SettingError(
            "there is no such layout", got=repr(order), rule='"row" or "column"', fix='"row"'
        )
    return order


def contiguous(x: Operand, order: str = "row") -> Any:
    """x with its elements side by side in memory: itself if they are, else a copy.

    Args:
        x: any shape.
        order: "row": the last axis fastest; "column": the first.

    Example:
        >>> import tinytorch as tt
        >>> tt.stride(tt.contiguous(tt.ones(3, 4).T))
        (3, 1)
    """
    x = tensor_of(x)
    _checked(order)
    if STATE.interpreter is not None:
        dense = order == "row" and STATE.interpreter.is_contiguous(x)
        return x if dense else copied(x)
    if is_contiguous(x, order):
        return x
    array = x._buffer.array
    if order == "column":
        array = copy_of(array.T, x.dtype).T
    else:
        array = copy_of(array, x.dtype)
    return viewed(COPY, x, array, {})


def shares_memory(a: TensorBase | Array, b: TensorBase | Array) -> bool:
    """Whether an element of a and an element of b are the same place in memory.

    Args:
        a: Tensor or NumPy array.
        b: Tensor or NumPy array.

    Example:
        >>> import tinytorch as tt
        >>> x = tt.arange(6)
        >>> tt.shares_memory(x, x[2:4]), tt.shares_memory(x, x + 0)
        (True, False)
    """
    return bool(np.shares_memory(_memory(a), _memory(b)))


def _memory(x: Any) -> Array:
    if isinstance(x, TensorBase):
        tensor: Any = x
        tensor.read("shares_memory()")
        return tensor._buffer.array
    return np.asarray(x)


# --- other libraries ---

CPU = (1, 0)  # kDLCPU, device 0 (dlpack.h, DLDevice)
_FLOAT, _UNSIGNED, _BFLOAT = 2, 1, 4  # dlpack.h, DLDataTypeCode
# Where the type code lies in DLManagedTensor and in DLManagedTensorVersioned: after data (8 bytes),
# device (8) and ndim (4); the versioned form has version, manager_ctx, deleter and flags before.
_CODE_AT = {b"dltensor": 20, b"dltensor_versioned": 32 + 20}
_name_of = ctypes.pythonapi.PyCapsule_GetName
_name_of.restype, _name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


def _code(capsule: Any) -> Any:
    """The type code inside a capsule, as something that can be read and written."""
    name = _name_of(capsule)
    return ctypes.c_uint8.from_address(_pointer_of(capsule, name) + _CODE_AT[name])


def check_device(device: Any) -> None:
    """Refuse every device but the one there is.

    Args:
        device: None, "cpu", or DLPack's (1, 0).
    """
    if device not in (None, "cpu", CPU):
        raise SettingError(
            "there is no such device",
            got=repr(device),
            rule='the only device is "cpu"',
            fix='device="cpu", or leave it out',
        )


def number_type_of(where: Any, device: Any, dtype: Any) -> Any:
    """The number type that `to(where, device=..., dtype=...)` asks for, or None.

    Args:
        where: a device or a number type, whichever it is.
        device: None or "cpu".
        dtype: a number type or None.
    """
    check_device(device)
    if isinstance(where, str) and where.split(":")[0] in ("cpu", "cuda", "mps", "gpu", "xpu"):
        check_device(where)
        where = None
    return where if dtype is None else dtype


def to(
    x: TensorBase, where: DTypeLike | TensorBase | None = None,
    dtype: DTypeLike | bool | None = None, non_blocking: bool = False, copy: bool = False, *,
    device: Device = None,
) -> Any:  # fmt: skip
    """This Tensor in another number type, or on a device; there is one device: "cpu".

    Args:
        x: any shape.
        where: a device, a number type, or a Tensor whose number type is meant; behind a number
            type or a Tensor come non_blocking and copy.
        dtype: a number type.
        non_blocking: kept for PyTorch's order of arguments; there is nothing to wait for.
        copy: memory of its own, also where nothing changes.
        device: None or "cpu".
    """
    if isinstance(dtype, bool):
        dtype, copy = None, non_blocking
    where = where.dtype if isinstance(where, TensorBase) else where
    wanted = number_type_of(where, device, dtype)
    out = x if wanted is None else to_dtype(x, as_dtype(wanted))
    return copied(out) if copy and out.dtype is x.dtype else out


def to_dlpack(
    buffer: Buffer, max_version: Any, dl_device: Any, copy: bool | None, read_only: bool = False
) -> Any:
    """A DLPack capsule of the memory of a Buffer; NumPy makes it, but for bfloat16's type code."""
    check_device(dl_device)
    array = buffer.array.view()
    if read_only:
        array.flags.writeable = False
    if copy or not (max_version or array.flags.writeable):
        array = copy_of(array, buffer.dtype)  # the old protocol has no word for read-only
    if array.flags.writeable:
        note_writes((id(owner_of(array)),))
    capsule = array.__dlpack__(max_version=max_version)
    if buffer.dtype is bfloat16:
        _code(capsule).value = _BFLOAT
    return capsule


class _Carrier:
    """What NumPy asks for a capsule that was taken already."""

    def __init__(self, capsule: Any):
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU


def from_dlpack(x: SupportsDLPack, *, device: Device = None, copy: bool | None = None) -> Any:
    """A Tensor over the memory of another library's array (torch, NumPy, JAX, ...).

    Args:
        x: anything with `__dlpack__`, on the CPU.
        device: None or "cpu".
        copy: True: memory of its own. Otherwise it is shared: either sees what the other writes;
            what was recorded before its owner writes there has wrong gradients.

    Raises:
        DTypeError: no DLPack object, or a number type that TinyTorch has not.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> a = np.arange(3.0)
        >>> x = tt.from_dlpack(a)
        >>> a[0] = 7.0
        >>> x.tolist()
        [7.0, 1.0, 2.0]
    """
    check_device(device)
    if not hasattr(x, "__dlpack__"):
        raise DTypeError(
            "from_dlpack: this object does not speak DLPack",
            got=type(x).__name__,
            rule="an array of a library with __dlpack__",
            fix="tt.asarray(x)",
        )
    try:
        capsule = x.__dlpack__(max_version=(1, 0))
    except TypeError:  # a library that knows the first protocol alone
        capsule = x.__dlpack__()
    code = _code(capsule)
    narrow = code.value == _BFLOAT
    if narrow:
        code.value = _UNSIGNED
    array = np.from_dlpack(_Carrier(capsule))  # type: ignore[arg-type]
    if not narrow:
        return make(array, copy=bool(copy))
    buffer = Buffer(copy_of(array, bfloat16) if copy else array, bfloat16)
    return from_buffer(buffer) if STATE.interpreter is None else STATE.interpreter.constant(buffer)


def offer_buffers(kind: type) -> None:
    """Let `memoryview(x)` and `bytes(x)` work for a class with a method `numpy`.

    Note [buffers before Python 3.12]
        From 3.12 on `__buffer__` is all it takes (PEP 688). Before, only C can fill the slot. The
        slot is filled here by a function that asks the NumPy array instead; NumPy's array is then
        the owner of the view and keeps the memory alive, so there is nothing to release. The layout
        of a type object is that of CPython 3.11, 64 bits; anything else is left alone.
    """
    if (
        sys.version_info[:2] != (3, 11)
        or sys.implementation.name != "cpython"
        or sys.maxsize < 2**32
    ):
        return
    slot = ctypes.c_void_p.from_address(id(kind) + _AS_BUFFER).value or 0
    if id(kind) < slot < id(kind) + type.__sizeof__(kind):
        ctypes.c_void_p.from_address(slot).value = ctypes.cast(_fill, ctypes.c_void_p).value


def rows_of(array: Array) -> Array:
    """A copy, row by row, to be read: what is written to a copy would be lost."""
    copy = np.ascontiguousarray(array)
    copy.flags.writeable = False
    return copy


_AS_BUFFER = 160  # offset of tp_as_buffer: 3 words of the object's head, 17 members before it
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.restype = ctypes.c_int
_get_buffer.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]


@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p, ctypes.c_int)
def _fill(tensor: Any, view: int, flags: int) -> int:
    """CPython's getbuffer: 0, or -1 for a refusal (writing was asked for, or a value is captured).

    A callback of ctypes cannot raise, so a refusal shows as SystemError, or as what the asker makes
    of it (`file.readinto(x)`: TypeError).
    """
    try:
        array = tensor.numpy()
        try:
            return _get_buffer(array, view, flags)
        except BufferError:  # bytes(x.T): the asker knows no strides
            return _get_buffer(rows_of(array), view, flags)
    except Exception:
        return -1
