"""Arrays in a safetensors file: written whole or not at all, read strictly, mapped not copied.

Knows NumPy arrays and number types, never models. bfloat16 is handed over as its bits (uint16),
as everywhere in TinyTorch, with its DType beside it.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from tinytorch.base import files
from tinytorch.base.dtypes import OF_NUMPY, DType
from tinytorch.base.errors import DTypeError, FileFormatError, short
from tinytorch.base.files import replacing
from tinytorch.storage import header


@dataclass(frozen=True)
class File:
    """What a safetensors file holds.

    Args:
        arrays: (array in storage form, DType) by name, in the order of their bytes. Read-only.
        metadata: free text by name.
    """

    arrays: dict[str, tuple[np.ndarray, DType]]
    metadata: dict[str, str]


def save(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray | tuple[np.ndarray, DType]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays to a file that any safetensors reader can read.

    Args:
        path: the file; replaced in one step if it exists, untouched if writing fails.
        arrays: by name, an array, or (array in storage form, DType): bfloat16 needs the pair.
        metadata: free text by name.

    Raises:
        DTypeError: an array's type is not one of TinyTorch's, or does not fit its DType.
        FileFormatError: a name or a metadata entry that the format cannot hold.

    Cost: the bytes of the arrays once, plus two fsyncs.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save(path, {"weight": np.eye(2, dtype=np.float32)}, {"made by": "a doctest"})
        >>> load(path)["weight"]
        (array([[1., 0.],
               [0., 1.]], dtype=float32), tinytorch.float32)
    """
    with replacing(path) as file:
        write(file, arrays, metadata)


def write(
    file: BinaryIO,
    arrays: Mapping[str, np.ndarray | tuple[np.ndarray, DType]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays to an open file; everything is checked before the first byte. See `save`.

    Args:
        file: anything with `write(bytes)`.
        arrays: by name, an array, or (array in storage form, DType).
        metadata: free text by name.
    """
    pairs = {name: _pair(name, x) for name, x in arrays.items()}
    described = {name: (dtype, array.shape) for name, (array, dtype) in pairs.items()}
    first, order = header.encode(described, metadata or {})
    file.write(first)
    for name in order:
        array = pairs[name][0]
        # The format is little-endian; on such a machine this copies nothing.
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        file.write(little.reshape(-1).view(np.uint8).data)


def load(path: str | os.PathLike[str]) -> dict[str, tuple[np.ndarray, DType]]:
    """The arrays of a file by name, as (array in storage form, DType). See `read`."""
    return read(path).arrays


def read(path: str | os.PathLike[str]) -> File:
    """Read a file: header checked in full, arrays mapped into memory, not copied.

    The arrays are read-only views of the file: a page is read from disk when it is first touched.
    Writing the file again with `save` leaves them as they are, since that replaces the file; a
    program that shortens the file in place takes their memory away.

    Args:
        path: the file.

    Returns:
        arrays and metadata.

    Raises:
        FileFormatError: the file is truncated, damaged, or not safetensors; the message says where.
        NotFoundError: there is no such file; a FileNotFoundError.

    Cost: the header only; the arrays' bytes when they are used.
    """
    with files.reading(path, links=True) as file:
        return read_descriptor(file.fileno())


def read_descriptor(descriptor: int) -> File:
    """Read an opened file; see `read`.

    Args:
        descriptor: of a regular file; may be closed afterwards.
    """
    size = os.fstat(descriptor).st_size
    if size < header.LENGTH_BYTES:
        header.refuse("it is too short", f"{size} bytes", "the first 8 bytes give a length")
    memory = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    length = int.from_bytes(memory[: header.LENGTH_BYTES], "little")
    data = header.LENGTH_BYTES + length
    if length > header.LONGEST or data > size:
        _refuse_other_formats(memory[: header.LENGTH_BYTES])
        rule = f"at most {min(header.LONGEST, size - header.LENGTH_BYTES)} bytes in this file"
        header.refuse("the header's length is impossible", f"{length} bytes", rule)
    found = header.decode(memory[header.LENGTH_BYTES : data], size - data)
    arrays = {n: (_view(n, memory, data, e), e.dtype) for n, e in found.entries.items()}
    return File(arrays, found.metadata)


# How files begin that people take for weights. Asked only when their first bytes, as the length of
# a header, are impossible: a true length may look like any of these.
_OTHERS = {
    b"PK\x03\x04": "a zip archive, as torch.save and numpy.savez write",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "a NumPy array file",
    b"GGUF": "a GGUF file, as llama.cpp reads",
}


def _refuse_other_formats(first: bytes) -> None:
    found = next((name for magic, name in _OTHERS.items() if first.startswith(magic)), None)
    if first[0] == 0x80 and 2 <= first[1] <= 5 and first[2]:  # PROTO, its number, an opcode
        found = "a pickle, as torch.save wrote: reading it could run any program"
    if found is not None:
        raise FileFormatError(
            "this is not a safetensors file",
            got=found,
            rule="TinyTorch reads weights as safetensors and never unpickles",
            fix="where it was made: safetensors.torch.save_file(model.state_dict(), path)",
        )


def _view(name: str, memory: mmap.mmap, data: int, entry: header.Entry) -> np.ndarray:
    little = entry.dtype.storage.newbyteorder("<")
    count = (entry.end - entry.start) // entry.dtype.itemsize
    if count == 0:
        array = np.empty(0, little)
    else:
        array = np.frombuffer(memory, little, count, data + entry.start)
    try:
        array = array.reshape(entry.shape)
    except ValueError as error:  # a shape such as (0, 2**62, 4): NumPy counts its axes before the 0
        raise FileFormatError(
            f"array {short(name)} has a shape that no array can have",
            got=short(entry.shape),
            rule=str(error),
            fix="save the file again; it is damaged",
        ) from None
    # Files of other writers need not be aligned; code below this floor relies on it.
    if not array.flags.aligned or sys.byteorder == "big":
        array = array.astype(entry.dtype.storage)
    if entry.dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        rule = "a BOOL is one byte, 0 or 1"
        header.refuse(f"array {short(name)} has a byte that is not a bool", "a byte above 1", rule)
    array.flags.writeable = False
    return array


def _pair(name: str, x: np.ndarray | tuple[np.ndarray, DType]) -> tuple[np.ndarray, DType]:
    array, dtype = x if isinstance(x, tuple) else (x, None)
    array = np.asarray(array)
    dtype = dtype or OF_NUMPY.get(array.dtype.newbyteorder("="))
    if dtype is None or array.dtype.newbyteorder("=") != dtype.storage:
        raise DTypeError(
            f"array {name!r} cannot be saved as it is",
            got=f"{array.dtype} to be saved as {dtype.name if dtype else 'its own type'}",
            rule="one of " + ", ".join(f"{d.name} ({d.storage})" for d in header.NAMES),
            fix="array.astype(np.float32), or the pair (bits as uint16, bfloat16)",
        )
    return array, dtype
