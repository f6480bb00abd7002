"""The header of a safetensors file: what arrays it holds, of which type and shape, and where.

Knows JSON and byte ranges, never files or array values. Everything a damaged or hostile header can
say is checked here, before any memory is touched.

Source: https://huggingface.co/docs/safetensors/index#format: 8 bytes little-endian header length,
the header as JSON, then the arrays' bytes without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tinytorch.base import dtypes, strict_json
from tinytorch.base.dtypes import DType
from tinytorch.base.errors import FileFormatError, short
from tinytorch.base.strict_json import NotStrictError

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


def encode(
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


def decode(text: bytes, data_bytes: int) -> Header:
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
        >>> decode(b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8).entries["x"]
        Entry(dtype=tinytorch.float32, shape=(2,), start=0, end=8)
    """
    if not text.startswith(b"{"):
        refuse("the header does not begin with '{'", text[:16], "the header is a JSON object")
    try:
        table = strict_json.parse(text)
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


def _count(shape) -> int:
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
