"""Protocol buffers: messages of numbered fields, read and written by a table of their names.

Knows bytes and tables, never what the fields mean. Whatever the bytes are, reading gives a message
or a FileFormatError: a length is compared with the bytes that there are before it is believed,
messages nest only as deep as the table does, and no more of them are made than `MOST_MESSAGES`.

Source: https://protobuf.dev/programming-guides/encoding/. A field is a key (its number and a wire
type) and a value: a number in groups of 7 bits, 4 or 8 bytes, or a length and so many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tinytorch.base.errors import FileFormatError, short

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5  # wire types
_EMPTY = {"int": 0, "float": 0.0, "text": "", "bytes": b""}
MOST_MESSAGES = 1 << 20  # a thousand times what large models have; each takes 2 bytes in a file


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Args:
        name: its key in the message.
        kind: "int" (a number of 64 bits with a sign), "float" (of 4 bytes), "text" (UTF-8),
            "bytes", "floats" or "doubles" (many, kept as the bytes they are), or the name of a
            message.
        many: whether it is a list.
    """

    name: str
    kind: str
    many: bool = False

    @property
    def missing(self) -> Any:
        """What a message has where the field is not written."""
        if self.many:
            return []
        return _EMPTY.get(self.kind, b"" if self.kind in ("floats", "doubles") else None)


Schema = Mapping[str, Mapping[int, Field]]
Message = dict[str, Any]


class Decoder:
    """Reads messages of a schema.

    Args:
        schema: the fields of each message by number; others are skipped, as the format asks.
        what: the kind of file, for messages.
    """

    def __init__(self, schema: Schema, what: str):
        self.schema, self.what, self._made = schema, what, 0

    def refuse(self, problem: str, got: object, rule: str) -> NoReturn:
        """Raise the error of bytes that are no such message."""
        raise FileFormatError(
            f"this is not a valid {self.what}: {problem}", got=got, rule=rule,
            fix="fetch or export the file again; it is damaged, or something else",
        )  # fmt: skip

    def message(self, data: memoryview, kind: str) -> Message:
        """The fields of a message by name; those that are not written have their empty value."""
        self._made += 1
        if self._made > MOST_MESSAGES:
            self.refuse("it has too many parts", self._made, f"at most {MOST_MESSAGES}")
        fields = self.schema[kind]
        found: Message = {field.name: field.missing for field in fields.values()}
        for number, wire, value in self._values(data, kind):
            field = fields.get(number)
            if field is None:
                continue
            values = self._read(field, wire, value, kind)
            if field.many:
                found[field.name] += values
            elif field.kind in ("floats", "doubles"):
                found[field.name] = b"".join((found[field.name], *values))
            elif values:
                found[field.name] = values[-1]
        return found

    def _values(self, data: memoryview, kind: str) -> Iterator[tuple[int, int, Any]]:
        at = 0
        while at < len(data):
            key, at = self._varint(data, at, kind)
            number, wire = key >> 3, key & 7
            if not number or wire not in (VARINT, EIGHT, LENGTH, FOUR):
                rule = "whole numbers, 4 bytes, 8 bytes, or a length and bytes, of fields from 1 on"
                self.refuse(f"a field of {kind} is of no kind", f"{number}, {wire}", rule)
            if wire == VARINT:
                value, at = self._varint(data, at, kind)
                yield number, wire, value
                continue
            size = 8 if wire == EIGHT else 4
            if wire == LENGTH:
                size, at = self._varint(data, at, kind)
            if size > len(data) - at:
                rule = f"{size} bytes, as is said before them"
                self.refuse(f"it ends within {kind}", f"{len(data) - at} bytes", rule)
            yield number, wire, data[at : at + size]
            at += size

    def _varint(self, data: memoryview, at: int, kind: str) -> tuple[int, int]:
        value = 0
        for i, byte in enumerate(data[at : at + 10]):
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value & (1 << 64) - 1, at + i + 1
        self.refuse(f"a number of {kind} does not end", f"{len(data) - at} bytes", "1 to 10 bytes")

    def _read(self, field: Field, wire: int, value: Any, kind: str) -> list[Any]:
        """What one occurrence of a field adds: lists of numbers may stand in one piece."""
        wrong = f"field {field.name} of {kind} is of another kind"
        if field.kind == "int":
            if wire == VARINT:
                return [_signed(value)]
            if wire != LENGTH or not field.many:
                self.refuse(wrong, f"wire type {wire}", "a whole number")
            values, at = list[int](), 0
            while at < len(value):
                number, at = self._varint(value, at, kind)
                values.append(_signed(number))
            return values
        if field.kind in ("float", "floats", "doubles"):
            size, single = (8, EIGHT) if field.kind == "doubles" else (4, FOUR)
            if wire not in (single, LENGTH) or len(value) % size:
                self.refuse(wrong, f"wire type {wire}, {short(value)}", f"numbers of {size} bytes")
            return [x for (x,) in struct.iter_unpack("<f", value)] if size == 4 and (
                field.kind == "float") else [value]  # fmt: skip
        if wire != LENGTH:
            self.refuse(wrong, f"wire type {wire}", "a length, and so many bytes")
        if field.kind == "bytes":
            return [value]
        if field.kind != "text":
            return [self.message(value, field.kind)]
        try:
            return [str(value, "utf-8")]
        except UnicodeDecodeError as error:
            self.refuse(f"field {field.name} of {kind} is no text", error, "UTF-8")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def encoded(message: Message, kind: str, schema: Schema) -> list[Any]:
    """A message as pieces of bytes, to be written one behind the other; nothing is copied.

    Args:
        message: its fields by name; one that is left out, None or [] is not written.
        kind: of message.
        schema: the fields by number.

    >>> table = {"Point": {1: Field("x", "int"), 2: Field("name", "text")}}
    >>> b"".join(encoded({"x": 150, "name": "hi"}, "Point", table)).hex()
    '08960112026869'
    """
    pieces: list[Any] = []
    for number, field in schema[kind].items():
        value = message.get(field.name)
        if value is None or field.many and not value:
            continue
        values = value if field.many else [value]
        if field.kind == "int" and not field.many:
            pieces.append(_bytes_of(number << 3 | VARINT) + _bytes_of(value))
        elif field.kind == "float" and not field.many:
            pieces.append(_bytes_of(number << 3 | FOUR) + struct.pack("<f", value))
        elif field.kind == "int":
            _add(pieces, number, [b"".join(map(_bytes_of, values))])
        elif field.kind == "float":
            _add(pieces, number, [struct.pack(f"<{len(values)}f", *values)])
        else:
            for one in values:
                if field.kind == "text":
                    _add(pieces, number, [one.encode()])
                elif field.kind in schema:
                    _add(pieces, number, encoded(one, field.kind, schema))
                else:
                    _add(pieces, number, [one])
    return pieces


def _add(pieces: list[Any], number: int, content: list[Any]) -> None:
    pieces.append(_bytes_of(number << 3 | LENGTH) + _bytes_of(sum(map(len, content))))
    pieces.extend(content)


def _bytes_of(value: int) -> bytes:
    """A whole number in groups of 7 bits, the lowest first."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))
