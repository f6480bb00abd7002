"""Arrays in a safetensors file: written whole or not at all, read strictly, mapped not copied.

Knows NumPy arrays and number types, never models. bfloat16 is handed over as its bits (uint16), as
everywhere in TinyTorch, with its DType beside it. First comes the header (what arrays a file holds,
of which type and shape, and where): everything a damaged or hostile header can say is checked
before any memory is touched.

Source: https://huggingface.co/docs/safetensors/index#format: 8 bytes little-endian header length,
the header as JSON, then the arrays' bytes without gaps.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import numpy as np

from tinytorch.base import dtypes, files
from tinytorch.base.dtypes import OF_NUMPY, DType
from tinytorch.base.errors import DTypeError, FileFormatError, short
from tinytorch.base.files import NotStrictError, parse_json, replacing

LENGTH_BYTES = 8
# Bytes of header: about 150,000 arrays, ten times what the largest published models have in a file.
# The format's reference accepts 100 MB, whose JSON may take gigabytes of memory to read.
LONGEST = 16 << 20
METADATA = "__metadata__"
MOST_AXES = 64  # NumPy's limit
NAMES = {
    dtypes.bool_: "BOOL", dtypes.uint8: "U8", dtypes.int8: "I8", dtypes.int16: "I16",
    dtypes.int32: "I32", dtypes.uint32: "U32", dtypes.int64: "I64", dtypes.float16: "F16",
    dtypes.bfloat16: "BF16", dtypes.float32: "F32", dtypes.float64: "F64",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in NAMES.items()}


@dataclass(frozen=True)
class Entry:
    """One array of the file: its bytes are [start, end) after the header."""

    dtype: DType
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says it holds.

    Args:
        entries: the arrays by name, in the order of their bytes.
        metadata: free text by name.
    """

    entries: dict[str, Entry]
    metadata: dict[str, str] = field(default_factory=dict)


def refuse(what: str, got: object, rule: str) -> NoReturn:
    """Raise the error of a file that is not valid."""
    raise FileFormatError(
        f"this is not a valid safetensors file: {what}",
        got=got,
        rule=rule,
        fix="fetch or save the file again; it is damaged, or was not written as safetensors",
    )


def encode_header(
    arrays: Mapping[str, tuple[DType, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, list[str]]:
    """The first bytes of a file with these arrays, and the order in which their bytes follow.

    Wide types come first and the header's length is a multiple of 8, so every array is aligned.

    Args:
        arrays: type and shape by name.
        metadata: free text by name.

    Returns:
        length and header as bytes; the names in the order of their data.

    Raises:
        FileFormatError: a name is "__metadata__" or a metadata entry is not text.
    """
    if METADATA in arrays:
        refuse(f"{METADATA!r} is not free as a name", METADATA, "this name holds the metadata")
    table: dict[str, Any] = {}
    if metadata:
        _check_metadata(metadata)
        table[METADATA] = dict(metadata)
    order = sorted(arrays, key=lambda name: (-arrays[name][0].itemsize, name))
    at = 0
    for name in order:
        dtype, shape = arrays[name]
        end = at + _count(shape) * dtype.itemsize
        table[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    try:
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        refuse("a name is not valid Unicode", error, "names and metadata can be written as UTF-8")
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST:
        refuse("its header is too long", f"{len(text)} bytes", f"at most {LONGEST} bytes of names")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, order


def decode_header(text: bytes, data_bytes: int) -> Header:
    """Read and check a header.

    Args:
        text: the header's bytes, without the length before them.
        data_bytes: how many bytes follow it in the file.

    Returns:
        the header, entries in the order of their bytes.

    Raises:
        FileFormatError: not UTF-8 (also where an escape gives half a character), not JSON, a key
            twice, a field unknown or missing, a type TinyTorch does not have, or byte ranges that
            overlap, leave holes, or leave the file.

    Example:
        >>> decode_header(b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8).entries["x"]
        Entry(dtype=tinytorch.float32, shape=(2,), start=0, end=8)
    """
    if not text.startswith(b"{"):
        refuse("the header does not begin with '{'", text[:16], "the header is a JSON object")
    try:
        table = parse_json(text)
    except NotStrictError as error:
        refuse(f"the header {error.what}", error.got, error.rule)
    metadata = table.pop(METADATA, None)
    metadata = {} if metadata is None else metadata  # null, as the reference reads it
    _check_metadata(metadata)
    _check_unicode(text, [*table, *metadata, *metadata.values()])
    entries = {name: _entry(name, fields) for name, fields in table.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)))
    _check_cover(ordered, data_bytes)
    return Header(ordered, metadata)


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()
    ):
        refuse("the metadata is not text", short(metadata), "__metadata__ maps text to text")


def _check_unicode(header: bytes, texts: list[str]) -> None:
    if b"\\u" not in header:  # UTF-8 itself cannot hold half a surrogate pair, an escape can
        return
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            refuse("a name or a note is no Unicode", short(text), "surrogates come in pairs")


def _entry(name: str, fields: object) -> Entry:
    shown = short(name)
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        rule = "an array has exactly the fields dtype, shape, data_offsets"
        refuse(f"array {shown} is not described", short(fields), rule)
    dtype = fields["dtype"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        refuse(f"array {shown} has an unknown type", short(dtype), "one of " + ", ".join(_DTYPES))
    shape, offsets = fields["shape"], fields["data_offsets"]
    if not _naturals(shape) or len(shape) > MOST_AXES:
        rule = f"a shape is a list of at most {MOST_AXES} whole numbers >= 0"
        refuse(f"array {shown} has no valid shape", short(shape), rule)
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        rule = "data_offsets is [start, end] with 0 <= start <= end"
        refuse(f"array {shown} has no valid byte range", short(offsets), rule)
    need = _count(shape) * _DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != need:
        rule = f"{dtype} of shape {tuple(shape)} takes {need} bytes"
        refuse(f"array {shown} has the wrong size", f"{offsets[1] - offsets[0]} bytes", rule)
    return Entry(_DTYPES[dtype], tuple(shape), offsets[0], offsets[1])


def _naturals(x: object) -> bool:
    return isinstance(x, list) and all(type(n) is int and 0 <= n < 2**63 for n in x)


def _count(shape: Sequence[int]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _check_cover(entries: dict[str, Entry], data_bytes: int) -> None:
    at = 0
    for name, entry in entries.items():
        if entry.start != at:
            kind = "overlaps the one before it" if entry.start < at else "leaves a hole before it"
            rule = f"the next array starts at byte {at}"
            refuse(f"array {short(name)} {kind}", f"start {entry.start}", rule)
        at = entry.end
    if at != data_bytes:
        kind = "ends early" if at > data_bytes else "has bytes that belong to no array"
        refuse(f"the file {kind}", f"{data_bytes} bytes of data", f"the arrays take {at} bytes")


# --- files ---


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
    first, order = encode_header(described, metadata or {})
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
    if size < LENGTH_BYTES:
        refuse("it is too short", f"{size} bytes", "the first 8 bytes give a length")
    memory = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    length = int.from_bytes(memory[:LENGTH_BYTES], "little")
    data = LENGTH_BYTES + length
    if length > LONGEST or data > size:
        _refuse_other_formats(memory[:LENGTH_BYTES])
        rule = f"at most {min(LONGEST, size - LENGTH_BYTES)} bytes in this file"
        refuse("the header's length is impossible", f"{length} bytes", rule)
    found = decode_header(memory[LENGTH_BYTES:data], size - data)
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


def _view(name: str, memory: mmap.mmap, data: int, entry: Entry) -> np.ndarray:
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
        refuse(f"array {short(name)} has a byte that is not a bool", "a byte above 1", rule)
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
            rule="one of " + ", ".join(f"{d.name} ({d.storage})" for d in NAMES),
            fix="array.astype(np.float32), or the pair (bits as uint16, bfloat16)",
        )
    return array, dtype
