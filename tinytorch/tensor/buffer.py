"""Memory under a Tensor: an array, its number type, a version, an address.

Knows bytes, never gradients. The device is part of it from the first day; "cpu" is its only value.
"""

from __future__ import annotations

import math
from typing import Any
from weakref import ref

import numpy as np

from tinytorch.base.allocation import keep_freed_memory
from tinytorch.base.dtypes import DType, from_bfloat16
from tinytorch.base.errors import DTypeError, OutOfMemoryError

ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register
_BYTE = np.dtype(np.uint8)

keep_freed_memory()


class Buffer:
    """An array in memory.

    Note [a view is a view]
        A write to memory reaches every Tensor that sees it: a view, what it was taken from,
        `detach()`. What must not change are the numbers that the tape kept for `backward()`, and
        the tape keeps Buffers. So each Tensor has a Buffer of its own, whatever memory lies below,
        and the Tensors over one memory are known (`family`). Before memory is written (sharing.py),
        each Buffer that somebody besides its Tensor holds is given a copy of the old numbers, and
        its Tensor a fresh Buffer over the memory. The memory itself stays where it is, so NumPy
        arrays and compiled programs that share it go on sharing it.

    Args:
        array: in storage form (bfloat16 as uint16), any strides.
        dtype: what the elements are.
        version: moves when the memory is written eagerly. (A compiled program writes only where
            nobody but the Tensor holds the Buffer, so nobody remembers a version of it.)

    Attributes:
        family: who sees this memory; None if no view was taken of it.
        taken: of a view: (what it was taken from, primitive, params, whether recorded), else None;
            with a family only.
        is_kept: whether the family knows that it may outlive its Tensor; with a family only.
        moves: how often any Tensor that was there got another Buffer, or any Buffer other memory:
            who looked at addresses when it was the same number needs not look again.
    """

    __slots__ = (
        "__weakref__", "_address", "array", "dtype", "family", "is_kept", "taken", "version",
    )  # fmt: skip
    device = "cpu"
    moves = 0

    def __init__(self, array: np.ndarray, dtype: DType, version: int = 0):
        self.array = array
        self.dtype = dtype
        self.version = version
        self.family: Family | None = None

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

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: DType) -> Buffer:
        """Uninitialised dense memory that starts at a multiple of 64 bytes."""
        count = math.prod(shape) * dtype.itemsize
        try:
            raw = np.empty(count + ALIGNMENT, _BYTE)
        except (MemoryError, ValueError):  # ValueError: more bytes than 63 bits can count
            raise OutOfMemoryError.of(count) from None
        at = raw.__array_interface__["data"][0]
        start = -at % ALIGNMENT
        out = cls(np.ndarray(shape, dtype.storage, raw, start), dtype)
        out._address = at + start
        return out

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

    def __repr__(self) -> str:
        return f"Buffer({self.dtype.name}{list(self.shape)}, version {self.version})"


class Family:
    """Who sees one memory.

    Attributes:
        members: its Tensors, oldest first: a view comes after what it was taken from.
        kept: Buffers that the tape may hold longer than their Tensors live.
        limit: with more members, `tidy` forgets those that are gone.
    """

    __slots__ = ("_most", "kept", "limit", "members")
    founded = 0  # how many there have been: who looked at that number needs not look again

    def __init__(self) -> None:
        Family.founded += 1
        self.members: list[ref[Any]] = []
        self.kept: list[ref[Buffer]] = []
        self.limit = self._most = 32

    def tidy(self) -> None:
        """Forget who is gone; called when the members have doubled."""
        self.members = [r for r in self.members if r() is not None]
        self.limit = 2 * len(self.members) + 32

    def keep(self, buffer: Buffer) -> None:
        """Somebody besides its Tensor holds a Buffer over this memory."""
        if not buffer.is_kept:
            buffer.is_kept = True
            self.kept.append(ref(buffer))
            if len(self.kept) > self._most:
                self.kept = [r for r in self.kept if r() is not None]
                self._most = 2 * len(self.kept) + 32


def copy_of(array: np.ndarray, dtype: DType) -> np.ndarray:
    """A dense copy of a stored array, at an aligned address."""
    out = Buffer.empty(array.shape, dtype).array
    out[...] = array
    return out
