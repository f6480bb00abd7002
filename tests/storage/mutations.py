"""Damaged files made at random: from a sound safetensors file, or a sound checkpoint.

Knows bytes and JSON; who reads them is the caller's business.
"""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable

DTYPES = ["BOOL", "U8", "I16", "U16", "F16", "BF16", "F32", "F64", "I64", "U64", "F8_E4M3", "C64"]
NUMBERS = [-1, 0, 1, 2, 7, 2**31, 2**32, 2**62, 2**63, 2**64, 2**64 - 8, 10**30, 0.5, 1e300]
ODD = [None, True, "8", [], {}, [1, 2, 3], {"a": 1}, "\ud800", "\0"]


def parts(content: bytes) -> tuple[bytes, bytes]:
    """Header text and data of a sound file."""
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def joined(text: bytes, data: bytes, length: int | None = None) -> bytes:
    """A file of this header and data; `length` may lie."""
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def flipped(content: bytes, choose: random.Random) -> bytes:
    """Some bits of the first part changed, where the header is."""
    changed = bytearray(content)
    for _ in range(choose.randint(1, 4)):
        changed[choose.randrange(min(len(changed), 2000))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def cut(content: bytes, choose: random.Random) -> bytes:
    """The end missing."""
    return content[: choose.randrange(len(content))]


def spliced(content: bytes, choose: random.Random) -> bytes:
    """A piece repeated, removed, or replaced by noise."""
    a, b = sorted(choose.randrange(len(content)) for _ in range(2))
    piece = choose.choice([b"", content[a:b] * 2, choose.randbytes(choose.randint(1, 40))])
    return content[:a] + piece + content[b:]


def lying(content: bytes, choose: random.Random) -> bytes:
    """Another length of the header."""
    text, data = parts(content)
    length = choose.choice(
        [0, 1, len(text) - 1, len(text) + 1, len(text) + 8, 100_000_001, 2**63, 2**64 - 1,
         choose.randrange(2 * len(content))]
    )  # fmt: skip
    return joined(text, data, length)


def retyped(content: bytes, choose: random.Random) -> bytes:
    """A digit, bracket or quote of the header replaced by another."""
    text, data = parts(content)
    changed = bytearray(text)
    for _ in range(choose.randint(1, 3)):
        changed[choose.randrange(len(changed))] = choose.choice(b'0123456789[]{},:"-.eE \\tn\xff')
    return joined(bytes(changed), data)


def reworded(content: bytes, choose: random.Random) -> bytes:
    """A field of the header set to something else, the JSON valid."""
    text, data = parts(content)
    table = json.loads(text)
    for _ in range(choose.randint(1, 2)):
        name = choose.choice([n for n in table if n != "__metadata__"])
        fields = table[name] if isinstance(table[name], dict) else {}
        match choose.randrange(8):
            case 0:
                fields["dtype"] = choose.choice(DTYPES + ODD)
            case 1:
                fields["shape"] = choose.choice([[choose.choice(NUMBERS)] * choose.randint(0, 4)])
            case 2:
                fields["data_offsets"] = [choose.choice(NUMBERS), choose.choice(NUMBERS)]
            case 3:
                start, end = (choose.randrange(len(data) + 9) for _ in range(2))
                fields["data_offsets"] = [start, end]
            case 4:
                fields[choose.choice(["dtype", "shape", "data_offsets", "new"])] = choose.choice(
                    [*ODD, *NUMBERS]
                )
            case 5:
                fields.pop(choose.choice(["dtype", "shape", "data_offsets"]), None)
            case 6:
                table[choose.choice(["__metadata__", "new", ""])] = choose.choice([fields, *ODD])
            case 7:
                fields["shape"] = [n for n in [2, 0, 2**62, 3] if choose.random() < 0.6]
    return joined(json.dumps(table).encode("utf-8", "surrogatepass"), data)


def twice(content: bytes, choose: random.Random) -> bytes:
    """A key that stands twice, or white space where none may be."""
    text, data = parts(content)
    body = text.rstrip()[1:-1]
    return joined(
        choose.choice(
            [b"{" + body + b"," + body + b"}", b" " + text, b"\n" + text, b"\xef\xbb\xbf" + text,
             text + b"\0", text + b"{}", b"[" + text + b"]", b"{}", b""]
        ),
        data,
    )  # fmt: skip


def foreign(content: bytes, choose: random.Random) -> bytes:
    """Another format altogether."""
    return choose.choice(
        [pickle.dumps({"weight": [1.0]}, choose.randrange(6)), b"PK\x03\x04" + content,
         b"\x89HDF\r\n\x1a\n" + content, b"GGUF" + content, choose.randbytes(200), b""]
    )  # fmt: skip


KINDS: list[Callable[[bytes, random.Random], bytes]] = [
    flipped, cut, spliced, lying, retyped, reworded, twice, foreign
]  # fmt: skip


def mutated(content: bytes, choose: random.Random) -> tuple[str, bytes]:
    """A kind of damage, and the damaged file."""
    kind = choose.choice(KINDS)
    return kind.__name__, kind(content, choose)


def changed_value(value, choose: random.Random):
    """A JSON value with one thing in it replaced, moved or removed."""
    if isinstance(value, dict) and value and choose.random() < 0.9:
        key = choose.choice(list(value))
        if choose.random() < 0.2:
            new = choose.choice(
                ["$array", "$typed", "$tuple", "$dict", "$float", "$x", "dtype", ""]
            )
            return {new if k == key else k: v for k, v in value.items()}
        return {**value, key: changed_value(value[key], choose)}
    if isinstance(value, list) and value and choose.random() < 0.9:
        at = choose.randrange(len(value))
        return [*value[:at], changed_value(value[at], choose), *value[at + 1 :]]
    marks = [{"$array": "nowhere"}, {"$scalar": "x", "dtype": "O", "shape": []}, {"$tuple": {}}]
    return choose.choice([*ODD, *NUMBERS, *marks, [[[]]], {"": value}])
