"""GGUF files, as llama.cpp reads: facts by name, and arrays in floats or in blocks of few bits.

Knows bytes, blocks and NumPy arrays, never models. Everything that a damaged or hostile header can
say is checked before any memory is touched; arrays are mapped, and become numbers when asked for.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3; blocks:
ggml-common.h, `block_q4_0`, `block_q8_0` and `block_q6_K` (which llama-quantize takes for the head
of a model whose other weights are Q4_0).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from tinytorch.base import files
from tinytorch.base.dtypes import from_bfloat16
from tinytorch.base.errors import FileFormatError, short

FIRST = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # bytes, unless general.alignment says otherwise
MOST_ARRAYS, MOST_FACTS = 1 << 16, 1 << 16  # ten times what the largest published models have
MOST_AXES = 4  # ggml's limit
LONGEST_NAME = 1 << 16  # bytes of a fact's name: the format's own limit
GROUP = 32  # numbers of a block of Q8_0 and Q4_0


@dataclass(frozen=True)
class Kind:
    """How numbers are stored.

    Args:
        name: as in ggml.
        group: so many neighbours of a row make a block.
        size: bytes of a block.
    """

    name: str
    group: int
    size: int


KINDS = {
    0: Kind("F32", 1, 4), 1: Kind("F16", 1, 2), 2: Kind("Q4_0", GROUP, 18),
    8: Kind("Q8_0", GROUP, 34), 14: Kind("Q6_K", 256, 210), 30: Kind("BF16", 1, 2),
}  # fmt: skip
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9


def refuse(what: str, got: object, rule: str) -> NoReturn:
    """Raise the error of a file that is not valid."""
    raise FileFormatError(
        f"this is not a valid GGUF file: {what}",
        got=got,
        rule=rule,
        fix="fetch or convert the file again; it is damaged, or was not written as GGUF",
    )


@dataclass(frozen=True)
class StoredArray:
    """An array of a GGUF file, as it lies there.

    Args:
        kind: how numbers are stored.
        shape: in NumPy's order, the last axis the fastest.
        rows: the bytes, (rows, bytes of a row) of uint8; read-only.
    """

    kind: Kind
    shape: tuple[int, ...]
    rows: np.ndarray

    def numbers(self) -> np.ndarray:
        """All numbers, (*shape), float32.

        Q8_0: scale * code, of codes of 8 bits. Q4_0: scale * (code - 8), of codes of 4 bits. Q6_K:
        scale of 256 * scale of 16 * (code - 32), of codes of 6 bits.
        """
        if self.kind.name == "Q6_K":
            return _six_bits(self.rows).reshape(self.shape)
        if self.kind.group > 1:
            scales, codes = self.blocks()
            wide = codes.reshape(*scales.shape, GROUP) * scales.astype(np.float32)[..., None]
            return wide.reshape(self.shape)
        if self.kind.name == "BF16":
            return from_bfloat16(self.rows.view("<u2").astype(np.uint16)).reshape(self.shape)
        found = self.rows.view("<f4" if self.kind.name == "F32" else "<f2")
        return found.astype(np.float32, copy=False).reshape(self.shape)

    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Scales (rows, C / 32), float16, and codes (rows, C), int8, of Q8_0 or Q4_0.

        A number is its code times the scale of its block; codes of Q4_0 are in [-8, 8).
        """
        scales, codes = self.packed()
        if self.kind.name == "Q4_0":
            pairs = codes.reshape(*scales.shape, GROUP // 2)
            codes = np.concatenate([pairs & 15, pairs >> 4], -1).view(np.int8) - np.int8(8)
        return scales, codes.reshape(len(self.rows), -1)

    def packed(self) -> tuple[np.ndarray, np.ndarray]:
        """Scales as `blocks` gives them, and codes as they lie there, without the scales between.

        Of Q8_0 (rows, C), int8. Of Q4_0 (rows, C / 2), uint8: the low four bits of 16 bytes are the
        first 16 numbers of a block, plus 8, the high four bits the others.
        """
        cut = self.rows.reshape(len(self.rows), -1, self.kind.size)
        scales = np.ascontiguousarray(cut[..., :2]).view("<f2")[..., 0].astype(np.float16)
        codes = np.ascontiguousarray(cut[..., 2:]).reshape(len(self.rows), -1)
        return scales, codes.view(np.int8) if self.kind.name == "Q8_0" else codes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.numbers() if dtype is None else self.numbers().astype(dtype)

    def reordered(self, order: Callable[[np.ndarray], np.ndarray]) -> StoredArray:
        """With its rows in another order: what `order` makes of (rows, bytes)."""
        return replace(self, rows=order(self.rows))


def _six_bits(rows: np.ndarray) -> np.ndarray:
    """Blocks of 256: 128 bytes with the low four bits, 64 with the high two, 16 scales, a scale."""
    cut = rows.reshape(-1, 210)
    low, high = cut[:, :128].reshape(-1, 2, 1, 64), cut[:, 128:192].reshape(-1, 2, 1, 32)
    low = (low >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)) & 15
    high = (high >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)) & 3
    codes = (low.reshape(-1, 16, 16) | (high.reshape(-1, 16, 16) << 4)).astype(np.int8) - 32
    inner = np.ascontiguousarray(cut[:, 192:208]).view(np.int8).astype(np.float32)
    outer = np.ascontiguousarray(cut[:, 208:]).view("<f2").astype(np.float32)
    return (outer * inner)[..., None] * codes


@dataclass(frozen=True)
class GGUFFile:
    """What a GGUF file holds.

    Args:
        metadata: numbers, bools, texts, lists of texts, and NumPy arrays of numbers, by name:
            "general.architecture", "tokenizer.ggml.tokens", ...
        arrays: by name, in the order of their bytes.
        path: what messages call the file.
    """

    metadata: dict[str, Any]
    arrays: dict[str, StoredArray]
    path: str


def read(path: str | os.PathLike[str]) -> GGUFFile:
    """Read a GGUF file: header checked in full, arrays mapped into memory, not copied.

    Args:
        path: the file; of one in several parts, none is read.

    Raises:
        FileFormatError: the file is truncated, damaged, big-endian, of another version, not GGUF,
            or has arrays in a form that TinyTorch does not have.
        NotFoundError: there is no such file; a FileNotFoundError.

    Cost: the header, some 0.1 s for a vocabulary of 100,000; the arrays' bytes when they are used.
    """
    with files.reading(path, links=True) as file:
        size = os.fstat(file.fileno()).st_size
        if size < 24:
            refuse("it is too short", f"{size} bytes", "a header of at least 24 bytes")
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    reader = _GGUFReader(memory, size)
    metadata = reader.facts()
    return GGUFFile(metadata, reader.arrays(metadata), os.fspath(path))


class _GGUFReader:
    """Goes through a header; `at` is where the next byte is."""

    def __init__(self, memory: mmap.mmap, size: int):
        self.memory, self.size, self.at = memory, size, 0
        if (first := self.bytes(4, "its first bytes")) != FIRST:
            refuse("it begins otherwise", first, f"{FIRST!r}")
        version = self.number("<I")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            got = f"version {swapped}, big-endian" if swapped in VERSIONS else f"version {version}"
            refuse("it is of another version", got, "versions 2 and 3, little-endian")
        self.array_count = self.count("<Q", MOST_ARRAYS, "arrays")
        self.fact_count = self.count("<Q", MOST_FACTS, "facts")

    def bytes(self, n: int, what: str) -> bytes:
        """The next n bytes."""
        if n > self.size - self.at:
            refuse(f"it ends within {what}", f"{self.size} bytes", f"{self.at + n} bytes or more")
        self.at += n
        return self.memory[self.at - n : self.at]

    def number(self, code: str) -> Any:
        """The next number."""
        return struct.unpack(code, self.bytes(struct.calcsize(code), "a number"))[0]

    def count(self, code: str, most: int, what: str) -> int:
        """The next number, as a count of something that takes at least a byte each."""
        n = self.number(code)
        if n > min(most, self.size - self.at):
            refuse(f"its number of {what} is impossible", n, f"at most {most}, and a byte for each")
        return n

    def text(self, what: str, most: int) -> str:
        """The next string."""
        n = self.count("<Q", most, f"bytes of {what}")
        try:
            return self.bytes(n, what).decode()
        except UnicodeDecodeError as error:
            refuse(f"{what} is no UTF-8", error, "texts in UTF-8")

    def facts(self) -> dict[str, Any]:
        """All metadata."""
        found: dict[str, Any] = {}
        for _ in range(self.fact_count):
            name = self.text("a fact's name", LONGEST_NAME)
            if name in found:
                refuse("a fact stands twice", short(name), "every name is there once")
            found[name] = self.value(name, self.number("<I"))
        return found

    def value(self, name: str, kind: int) -> Any:
        """The value of a fact."""
        if kind == _STRING:
            return self.text(f"the text of {short(name)}", self.size)
        if kind == _ARRAY:
            return self.values(name)
        if kind not in _SCALARS:
            refuse(f"the kind of {short(name)} is unknown", kind, "0 to 12")
        if kind == _BOOL:
            return self._truth(name, self.number("<B"))
        return self.number(_SCALARS[kind])

    def values(self, name: str) -> Any:
        """A list of texts, or an array of numbers."""
        kind = self.number("<I")
        n = self.count("<Q", self.size, f"values of {short(name)}")
        if kind == _STRING:
            return [self.text(f"a text of {short(name)}", self.size) for _ in range(n)]
        if kind not in _SCALARS:
            rule = "numbers, bools and texts; lists in lists are in no published file"
            refuse(f"the values of {short(name)} are of an unknown kind", kind, rule)
        dtype = np.dtype(np.uint8 if kind == _BOOL else _SCALARS[kind])
        raw = self.bytes(n * dtype.itemsize, f"the values of {short(name)}")
        found = np.frombuffer(raw, dtype)
        if kind == _BOOL:
            self._truth(name, int(found.max(initial=0)))
            return found.astype(bool)
        return found.astype(dtype.newbyteorder("="))

    @staticmethod
    def _truth(name: str, byte: int) -> bool:
        if byte > 1:
            refuse(f"{short(name)} is no truth value", byte, "0 or 1")
        return bool(byte)

    def arrays(self, metadata: dict[str, Any]) -> dict[str, StoredArray]:
        """All arrays, mapped."""
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment % 8:
            refuse("its alignment is impossible", short(alignment), "a multiple of 8 bytes")
        table = [self._entry() for _ in range(self.array_count)]
        start = -(-self.at // alignment) * alignment
        found: dict[str, StoredArray] = {}
        at = 0
        for name, kind, shape, offset in table:
            if name in found:
                refuse("an array stands twice", short(name), "every name is there once")
            if offset != at:
                got = f"{short(name)} at byte {offset}"
                refuse("arrays overlap or leave holes", got, f"the next one begins at byte {at}")
            count = 1
            for n in shape:
                count *= n
            length = count // kind.group * kind.size
            if start + at + length > self.size:
                got, rule = f"{self.size} bytes", f"{start + at + length} bytes for {short(name)}"
                refuse("it ends early", got, f"{rule} {shape} of {kind.name}")
            found[name] = self._mapped(kind, shape, start + at, length)
            at = -(-(at + length) // alignment) * alignment
        if self.size > start + at:
            got = f"{self.size} bytes"
            refuse("bytes belong to no array", got, f"at most {start + at} bytes")
        return found

    def _entry(self) -> tuple[str, Kind, tuple[int, ...], int]:
        name = self.text("an array's name", LONGEST_NAME)
        axes = self.number("<I")
        if not 1 <= axes <= MOST_AXES:
            refuse(f"array {short(name)} has no valid shape", f"{axes} axes", f"1 to {MOST_AXES}")
        shape = tuple(self.number("<Q") for _ in range(axes))[::-1]
        number = self.number("<I")
        if number not in KINDS:
            raise FileFormatError(
                f"array {short(name)} is stored in a way that TinyTorch does not have",
                got=f"ggml type {number}",
                rule="one of " + ", ".join(kind.name for kind in KINDS.values()),
                fix="llama-quantize model-f16.gguf model-q8_0.gguf q8_0",
            )
        kind = KINDS[number]
        if any(not 1 <= n < 2**40 for n in shape) or shape[-1] % kind.group:
            rule = f"sizes of at least 1, the last of {kind.name} a multiple of {kind.group}"
            refuse(f"array {short(name)} has no valid shape", shape, rule)
        return name, kind, shape, self.number("<Q")

    def _mapped(self, kind: Kind, shape: tuple[int, ...], at: int, length: int) -> StoredArray:
        width = shape[-1] // kind.group * kind.size
        rows = np.frombuffer(self.memory, np.uint8, length, at).reshape(-1, width)
        return StoredArray(kind, shape, rows)
