"""Memory under a Tensor: an array, its number type, a version, an address.

Knows bytes, never gradients. The device is part of it from the first day; "cpu" is its only value.
"""

from __future__ import annotations

import math
import sys
from collections import Counter

import numpy as np

from tinytorch.base.allocation import keep_freed_memory
from tinytorch.base.dtypes import DType, from_bfloat16
from tinytorch.base.errors import DTypeError, OutOfMemoryError

ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register

keep_freed_memory()


class Buffer:
    """An array in memory.

    Note [a Tensor is a value]
        Several Tensors may share memory (views, detach(), what the tape keeps), and NumPy arrays
        may too, but no Tensor ever changes because another one was assigned to: before memory is
        written, `is_exclusive` says whether anybody else can see it, and if so the Tensor moves to
        memory of its own. Eager and compiled programs agree because of this rule, and a tape never
        meets a changed value unless memory was written past this rule, which the version tells.

    Args:
        array: in storage form (bfloat16 as uint16), any strides.
        dtype: what the elements are.
        version: how often the Tensor was assigned to.
    """

    __slots__ = ("_address", "array", "dtype", "version", "written_at")
    device = "cpu"

    def __init__(self, array: np.ndarray, dtype: DType, version: int = 0):
        self.array = array
        self.dtype = dtype
        self.version = version

    @classmethod
    def of_outside(cls, array: np.ndarray, dtype: DType) -> Buffer:
        """A Buffer of an array that comes from outside this process, or from the user.

        Compiled code trusts `dtype`: over smaller elements it would read and write beside them.

        Raises:
            DTypeError: the array's elements are not what `dtype` is stored as.
        """
        if array.dtype != dtype.storage:
            raise DTypeError(
                "these numbers are not of the type they are said to be",
                got=f"{array.dtype}, said to be {dtype.name}",
                rule=f"{dtype.name} is stored as {dtype.storage}",
                fix=f"array.astype({str(dtype.storage)!r})",
            )
        return cls(array, dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.array.shape

    @property
    def address(self) -> int:
        """Address of the first element; read once (`ndarray.ctypes.data` costs 0.8 us a time)."""
        try:
            return self._address
        except AttributeError:
            self._address = self.array.__array_interface__["data"][0]
            return self._address

    def numbers(self) -> np.ndarray:
        """The array in computing form: bfloat16 as float32, all else as stored."""
        return from_bfloat16(self.array) if self.dtype.name == "bfloat16" else self.array

    def written(self, where: object = None) -> None:
        """Say that the memory was written: the version moves, derived forms are out of date.

        Args:
            where: "train.py:41" or anything that prints as the writer, for errors.
        """
        self.version += 1
        self.written_at = where

    def __repr__(self) -> str:
        return f"Buffer({self.dtype.name}{list(self.shape)}, version {self.version})"


# id -> references to a Buffer or array by those who read it only when asked to (compiled programs):
# they are told apart from those who would be surprised.
HELD: Counter[int] = Counter()


def is_exclusive(tensor) -> bool:
    """Whether `tensor` alone sees its memory, so that writing there surprises nobody.

    By reference counts: one Tensor holds the Buffer, the Buffer alone holds the array, the array
    alone holds the memory it is a view of; references in HELD do not count. Cost: 0.3 us.
    """
    if not _held_by_one(tensor._buffer):
        return False
    if not _held_by_one(tensor._buffer.array) or not tensor._buffer.array.flags.writeable:
        return False
    base = tensor._buffer.array.base
    if base is None:
        return True
    if type(base) is not np.ndarray or base.base is not None:
        return False
    return sys.getrefcount(base) - HELD.get(id(base), 0) == 3  # the array, `base`, the argument


def _held_by_one(x: object) -> bool:
    # whoever holds it, the caller's argument, this name, and the argument of getrefcount
    count = sys.getrefcount(x)
    return count == 3 or count - HELD.get(id(x), 0) == 3


def empty(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Uninitialised dense array in storage form whose memory starts at a multiple of 64 bytes."""
    count = math.prod(shape) * dtype.itemsize
    try:
        raw = np.empty(count + ALIGNMENT, np.uint8)
    except (MemoryError, ValueError):  # ValueError: more bytes than 63 bits can count
        raise OutOfMemoryError.of(count) from None
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + count].view(dtype.storage).reshape(shape)


def copy_of(array: np.ndarray, dtype: DType) -> np.ndarray:
    """A dense copy of a stored array, at an aligned address."""
    out = empty(array.shape, dtype)
    out[...] = array
    return out
