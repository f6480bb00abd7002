"""How the reductions start, combine and end: sum, prod, max, min, any, all.

Knows IR values, never loops. The order of combination is fixed by the code, so a result never
depends on threads. Sums of float16 and bfloat16 accumulate in float32 and are rounded once.
"""

from __future__ import annotations

from math import isfinite

from tinytorch.base.dtypes import DType, bfloat16, bool_, float16, float32
from tinytorch.base.errors import CompileError
from tinytorch.codegen.builder import INTS, Function, Value, element, lanes
from tinytorch.compiler.loops import elementwise
from tinytorch.compiler.loops.expression import Reduce
from tinytorch.primitives.primitive import TABLE


def accumulator(dtype: DType) -> DType:
    """The type in which results of `dtype` are added up, and parts of them kept."""
    return float32 if dtype in (float16, bfloat16) else dtype


def identity(f: Function, r: Reduce, type: str) -> Value:
    """What combining with leaves a value unchanged."""
    scalar = element(type)
    _, start = _combination(r.kind)
    if isfinite(start):
        return f.const(type, int(start))
    sign = -1 if start < 0 else 1
    if scalar in INTS:
        if r.dtype is bool_:
            return f.const(type, 0 if sign < 0 else 1)
        bits = INTS[scalar]
        low, high = (
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            if r.dtype.kind == "i"
            else (0, (1 << bits) - 1)
        )
        return f.const(type, low if sign < 0 else high)
    return f.const(type, sign * float("inf"))


def combine(f: Function, kind: str, dtype: DType, a: Value, b: Value) -> Value:
    """One step: a (so far) with b (new). A NaN stays for max and min."""
    row, _ = _combination(kind)
    return elementwise.RULES[row](f, (a, b), dtype)


def _combination(kind: str) -> tuple[str, float]:
    """The elementwise row that combines two parts, and what a reduction begins with."""
    found = TABLE[kind].combines
    if found is None:
        raise CompileError.own_fault(
            "a row is reduced that is no reduction", got=kind, rule="the row says what combines"
        )
    return found


def tree(f: Function, kind: str, dtype: DType, v: Value) -> Value:
    """All lanes of a vector combined, halves first."""
    while lanes(v.type) > 1:
        half = lanes(v.type) // 2
        low = f.shuffle(v, v, range(half), "low")
        high = f.shuffle(v, v, range(half, 2 * half), "high")
        if half == 1:
            low, high = f.extract(v, 0), f.extract(v, 1)
        v = combine(f, kind, dtype, low, high)
    return v
