"""Evaluates the fitted polynomials of `codegen/math_coefficients.py` in LLVM IR.

Knows coefficients and Horner's rule, not what the polynomials stand for.
"""

from __future__ import annotations

from tinytorch.codegen.builder import Function, Value, element
from tinytorch.codegen.math_coefficients import DOUBLE, FLOAT

_TABLES = {"float": FLOAT, "double": DOUBLE}


def muladd(f: Function, a: Value, b: Value, c: Value, stem: str = "muladd") -> Value:
    """a * b + c, with one rounding where the target does that in one instruction, else two."""
    return f.intrinsic("fmuladd", a.type, a, b, c, stem=stem)


def polynomial(f: Function, name: str, x: Value) -> Value:
    """The polynomial `name` of the table at x, by Horner's rule."""
    *rest, last = _TABLES[element(x.type)][name]
    total = f.const(x.type, last)
    for c in reversed(rest):
        total = muladd(f, total, x, f.const(x.type, c), name.lower())
    return total
