"""ONNX files: operators by name, and the arrays they read.

Knows fields and bytes, never what an operator computes. Arrays lie in the file, or in files of the
same folder (external data): a location that leads out of the folder is refused.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto and docs/ExternalData.md there.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinytorch.base import files
from tinytorch.base.dtypes import DType, bfloat16, dtype_named
from tinytorch.base.errors import FileFormatError, SettingError, short
from tinytorch.storage.protobuf import Decoder, Field, Message, Schema, encoded

SCHEMA: Schema = {
    "Model": {
        1: Field("ir_version", "int"), 2: Field("producer_name", "text"),
        3: Field("producer_version", "text"), 7: Field("graph", "Graph"),
        8: Field("opset_import", "OperatorSet", True), 14: Field("metadata", "Entry", True),
    },
    "OperatorSet": {1: Field("domain", "text"), 2: Field("version", "int")},
    "Entry": {1: Field("key", "text"), 2: Field("value", "text")},
    "Graph": {
        1: Field("nodes", "Node", True), 2: Field("name", "text"),
        5: Field("initializers", "Tensor", True), 11: Field("inputs", "Input", True),
        12: Field("outputs", "Input", True), 15: Field("sparse_initializers", "bytes", True),
    },
    "Input": {1: Field("name", "text"), 2: Field("type", "Type")},
    "Type": {1: Field("tensor", "TensorType")},
    "TensorType": {1: Field("number_type", "int"), 2: Field("shape", "Shape")},
    "Shape": {1: Field("sizes", "Size", True)},
    "Size": {1: Field("number", "int"), 2: Field("name", "text")},
    "Node": {
        1: Field("inputs", "text", True), 2: Field("outputs", "text", True),
        3: Field("name", "text"), 4: Field("operator", "text"),
        5: Field("attributes", "Attribute", True), 7: Field("domain", "text"),
    },
    "Attribute": {
        1: Field("name", "text"), 2: Field("float", "float"), 3: Field("int", "int"),
        4: Field("text", "bytes"), 5: Field("tensor", "Tensor"), 6: Field("graph", "bytes"),
        7: Field("floats", "float", True), 8: Field("ints", "int", True),
        9: Field("texts", "bytes", True), 20: Field("type", "int"),
    },
    "Tensor": {
        1: Field("shape", "int", True), 2: Field("number_type", "int"),
        4: Field("float_data", "floats"), 5: Field("int32_data", "int", True),
        7: Field("int64_data", "int", True), 8: Field("name", "text"),
        9: Field("raw_data", "bytes"), 10: Field("double_data", "doubles"),
        11: Field("uint64_data", "int", True), 13: Field("external_data", "Entry", True),
        14: Field("location", "int"),
    },
}  # fmt: skip

# TensorProto.DataType. Of 4 bits two numbers are a byte, the first in its low half.
NUMBER_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 16: "bfloat16",
}  # fmt: skip
UINT4, INT4 = 21, 22
CODES = {name: code for code, name in NUMBER_TYPES.items()}
# AttributeProto.AttributeType: the field that holds the value
ATTRIBUTES = {
    1: "float", 2: "int", 3: "text", 4: "tensor", 5: "graph", 6: "floats", 7: "ints", 8: "texts",
}  # fmt: skip
_CODES_OF_ATTRIBUTES = {field: code for code, field in ATTRIBUTES.items()}
EXTERNAL = 1  # TensorProto.DataLocation
BUFFERS = "tinytorch.buffers"  # metadata of our own files: weights that are not trained, one a line
MOST_BYTES = (1 << 31) - 1  # of a message, which protobuf's own libraries read
MOST_AXES = 32


@dataclass(frozen=True)
class ONNXFile:
    """What an ONNX file holds.

    Args:
        model: the message, fields by the names of `SCHEMA`.
        path: of the file.
    """

    model: Message
    path: Path

    def array(self, tensor: Message) -> tuple[np.ndarray, DType]:
        """The stored array of a tensor, and its number type; numbers of 4 bits become int8.

        Raises:
            FileFormatError: its bytes are not those of its shape, its number type is none of
                ours, or its external data lies outside the folder.
        """
        return _array(tensor, self.path)


def read(path: str | os.PathLike[str]) -> ONNXFile:
    """Read an ONNX file; arrays are mapped, not copied.

    Args:
        path: the file.

    Raises:
        FileFormatError: it is truncated, damaged, or no ONNX.
        NotFoundError: there is no such file; a FileNotFoundError.

    Cost: a pass over the nodes, some 10 us each.
    """
    place = files.user_path(path)
    decoder = Decoder(SCHEMA, "ONNX file")
    model = decoder.message(_mapped(place, links=True), "Model")
    if not model["ir_version"] or model["graph"] is None or not model["opset_import"]:
        got = ", ".join(name for name, value in model.items() if value) or "nothing of it"
        decoder.refuse("a part is missing", got, "ir_version, graph and opset_import")
    return ONNXFile(model, place)


def write(path: str | os.PathLike[str], model: Message) -> None:
    """Write an ONNX file, whole or not at all.

    Args:
        path: where.
        model: fields by the names of `SCHEMA`.

    Raises:
        SettingError: it would be larger than a message may be, 2 GiB.
        StorageError: it cannot be written.
    """
    pieces = encoded(model, "Model", SCHEMA)
    if (size := sum(map(len, pieces))) > MOST_BYTES:
        raise SettingError(
            "the model is too large for an ONNX file", got=f"{size:,} bytes",
            rule=f"at most {MOST_BYTES:,}, what a message may have",
            fix="a smaller number type: model.to(tt.bfloat16), or weights of 8 bits",
        )  # fmt: skip
    with files.replacing(files.user_path(path)) as file:
        for piece in pieces:
            file.write(piece)


def tensor_of(name: str, array: np.ndarray, dtype: DType) -> Message:
    """A stored array as a message; its bytes are little-endian."""
    dense = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "name": name, "shape": list(array.shape), "number_type": CODES[dtype.name],
        "raw_data": dense.reshape(-1).view(np.uint8).data,
    }  # fmt: skip


def attribute_of(name: str, value: Any) -> Message:
    """An attribute of a node: a number, a text, a tensor's message, or a list of numbers."""
    kind = {str: "text", float: "float", dict: "tensor", list: "ints", tuple: "ints"}.get(
        type(value), "int"
    )
    if kind == "ints" and any(isinstance(x, float) for x in value):
        kind = "floats"
    stored: Any = value.encode() if kind == "text" else value
    return {"name": name, kind: stored, "type": _CODES_OF_ATTRIBUTES[kind]}


def _mapped(path: Path | str, **options: Any) -> memoryview:
    with files.reading(path, **options) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))


def _refuse(tensor: Message, problem: str, got: object, rule: str) -> Any:
    raise FileFormatError(
        f"array {short(tensor['name'])} of an ONNX file: {problem}", got=got, rule=rule,
        fix="fetch or export the file again",
    )  # fmt: skip


def _array(tensor: Message, path: Path) -> tuple[np.ndarray, DType]:
    shape, code = tuple(tensor["shape"]), tensor["number_type"]
    if len(shape) > MOST_AXES or any(not 0 <= n < 1 << 40 for n in shape):
        _refuse(tensor, "this is no shape", short(shape), f"at most {MOST_AXES} sizes >= 0")
    count = math.prod(shape)
    four = code in (UINT4, INT4)
    if not four and code not in NUMBER_TYPES:
        rule = "one of " + ", ".join(NUMBER_TYPES.values()) + ", int4"
        _refuse(tensor, "its number type is none of ours", f"type {code}", rule)
    dtype = dtype_named("int8" if code == INT4 else "uint8" if four else NUMBER_TYPES[code])
    stored = np.dtype(np.uint8) if four else dtype.storage.newbyteorder("<")
    wanted = -(-count // 2) if four else count * stored.itemsize
    raw = _bytes(tensor, path, stored, dtype)
    if len(raw) != wanted:
        rule = f"{wanted} bytes for {shape} of {dtype.name}"
        _refuse(tensor, "its bytes are not those of its shape", f"{len(raw)} bytes", rule)
    array = np.frombuffer(raw, stored)
    if dtype.name == "bool" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        _refuse(tensor, "a truth value is none", "a byte above 1", "0 or 1")
    if four:
        halves = np.stack([array & 15, array >> 4], -1).reshape(-1)[:count]
        # Of two's complement in 4 bits, 8 to 15 are -8 to -1.
        array = halves if code == UINT4 else (halves ^ 8).astype(np.int8) - np.int8(8)
    return array.astype(dtype.storage, copy=False).reshape(shape), dtype


def _bytes(tensor: Message, path: Path, stored: np.dtype, dtype: DType) -> Any:
    """Where the numbers of a tensor lie: in this file in one of several fields, or beside it."""
    if tensor["location"] == EXTERNAL:
        return _external(tensor, path)
    if len(tensor["raw_data"]):
        return tensor["raw_data"]
    if dtype.name in ("float32", "float64"):
        return tensor["float_data" if dtype.name == "float32" else "double_data"]
    numbers = tensor[
        "int64_data" if dtype.name == "int64" else "uint64_data" if dtype.name == "uint32" else
        "int32_data"
    ]  # fmt: skip
    if dtype.name == "float16" or dtype is bfloat16:
        stored = np.dtype("<u2")  # their bits
    info = np.iinfo(stored) if stored.kind in "iu" else None
    if info is not None and numbers and not info.min <= min(numbers) <= max(numbers) <= info.max:
        rule = f"{info.min} to {info.max}"
        _refuse(tensor, "a number does not fit its type", short(numbers), rule)
    return np.array(numbers, stored).tobytes()


def _external(tensor: Message, path: Path) -> memoryview:
    facts = {entry["key"]: entry["value"] for entry in tensor["external_data"]}
    name = facts.get("location", "")
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        rule = "the name of a file beside the model, without a folder"
        _refuse(tensor, "its numbers lie outside the model's folder", short(name), rule)
    try:
        with files.open_folder(path.parent) as folder:
            data = _mapped(name, folder=folder, shown=path.parent / name)
    except OSError as error:
        raise files.unreadable(path.parent / name, error) from None
    offset, length = facts.get("offset", "0"), facts.get("length", "")
    digits = all(x.isascii() and x.isdigit() and len(x) < 20 for x in (offset, length or "0"))
    start = int(offset) if digits else len(data)
    end = start + int(length) if digits and length else len(data)
    if not digits or not start <= end <= len(data):
        rule = f"an offset and a length within the {len(data)} bytes of {short(name)}"
        _refuse(tensor, "its numbers are not in that file", f"{offset}, {length}", rule)
    return data[start:end]
