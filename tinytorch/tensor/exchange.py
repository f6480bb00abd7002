"""How other libraries see the memory of a Tensor, and how theirs becomes one: DLPack, buffers.

Knows the structures of DLPack (https://dmlc.github.io/dlpack) and of CPython's buffers, nothing
of gradients. Memory is shared, never copied unless asked, and written by either side; the memory
of a Tensor that gathers a gradient leaves read-only where the protocol can say so.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bfloat16
from tinytorch.base.errors import DTypeError, SettingError
from tinytorch.tensor.base import from_buffer, make
from tinytorch.tensor.buffer import Buffer, copy_of
from tinytorch.tensor.interpreter import STATE

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


def from_dlpack(x, *, device=None, copy: bool | None = None) -> Any:
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


def rows_of(array: np.ndarray) -> np.ndarray:
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
