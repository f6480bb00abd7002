"""The types of LLVM IR as text: their sizes, vectors of them, and constants.

Knows spellings and bits, never instructions.
"""

from __future__ import annotations

import re
import struct

import numpy as np

from tinytorch.base.dtypes import round_to_bfloat16

INTS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64}
FLUSHES = "  ; flushes"  # ends a conversion to bfloat16 that may take subnormal numbers for 0
FLOATS = {"half": 2, "bfloat": 2, "float": 4, "double": 8}


def lanes(type: str) -> int:
    """Elements of a vector type, 1 for a scalar."""
    match = re.match(r"<(\d+) x ", type)
    return int(match[1]) if match else 1


def element(type: str) -> str:
    """Element type of a vector type; a scalar type itself."""
    return type[type.index(" x ") + 3 : -1] if type[0] == "<" else type


def vector(n: int, type: str) -> str:
    """The type of n elements: the scalar type itself for n = 1."""
    return type if n == 1 else f"<{n} x {type}>"


def size_of(type: str) -> int:
    """Bytes in memory of a scalar type (i1 is stored as a byte)."""
    return FLOATS.get(type) or max(1, INTS[type] // 8)


def mangle(type: str) -> str:
    """The suffix LLVM's intrinsics use for a type: v16f32, i64, ..."""
    if type == "void":
        return ""
    names = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64", "ptr": "p0"}
    e = element(type)
    short = names.get(e, e)
    return f"v{lanes(type)}{short}" if type[0] == "<" else short


def constant_text(type: str, number) -> str:
    """A scalar constant as IR text; floats as the exact bits of the type they are rounded to."""
    if type == "i1":
        return "true" if number else "false"
    if type in INTS:
        return str(int(number))
    if type == "float":  # rounded to float32, overflow to infinity included
        with np.errstate(over="ignore"):
            number = float(np.float32(number))
    elif type == "half":
        with np.errstate(over="ignore"):
            return f"0xH{int(np.float16(number).view(np.uint16)):04X}"
    elif type == "bfloat":
        return f"0xR{int(round_to_bfloat16(np.asarray(number, np.float32))):04X}"
    return f"0x{struct.unpack('<Q', struct.pack('<d', float(number)))[0]:016X}"
