"""The exponential inside attention, where the argument is never above zero.

Knows vectors, never what they stand for. Cheaper than `codegen.vector_math.exp` because overflow
cannot happen, the base is two (the change of base is in the scale of the logits) and results below
2**-126 may be off by 2**-127: added to a sum that holds a 1, that vanishes. From 2**-127 down they
are 0, whatever they are multiplied by.
"""

from __future__ import annotations

from tinytorch.codegen.builder import Function, Value, element, lanes, vector
from tinytorch.codegen.polynomial import muladd
from tinytorch.codegen.vector_math import log

# 2**r on [-1/2, 1/2], lowest power first. float: the polynomial of least relative error, 7.5e-8
# (Remez exchange); double: Taylor's terms ln(2)**k / k!, whose 14th is 4e-18 at r = 1/2.
_FLOAT = (
    1.0,
    0.6931469670647609,
    0.24022119723839974,
    0.055507132734978495,
    0.009675541334453752,
    0.0013276471992533978,
)
_LN2 = 0.6931471805599453
LOG2_E = 1.4426950408889634  # factor from units of 1 to units of log 2


def _taylor(terms: int) -> tuple[float, ...]:
    out = [1.0]
    for k in range(1, terms):
        out.append(out[-1] * _LN2 / k)
    return tuple(out)


_DOUBLE = _taylor(14)


def exp2_nonpositive(f: Function, x: Value) -> Value:
    """2**x for x <= 0 (a little above is fine), within 2 units in the last place; NaN stays NaN.

    Adding 1.5 * 2**(mantissa bits) rounds x to an integer that stands in the low bits of the sum:
    shifted into the exponent's place and added as an integer, it multiplies by that power of two.
    -127 leaves nothing of the exponent of 1: that is 0.
    """
    type, n = element(x.type), lanes(x.type)
    wide = type == "double"
    bits, mantissa, lowest = ("i64", 52, -1023.0) if wide else ("i32", 23, -127.0)
    whole = vector(n, bits)
    floor = f.const(x.type, lowest)
    x = f.select(f.compare("lt", x, floor), floor, x, "bounded")  # NaN compares false: kept
    magic = f.const(x.type, 1.5 * 2.0**mantissa)
    shifted = f.add(x, magic, "shifted")
    r = f.sub(x, f.sub(shifted, magic), "r")
    series = _DOUBLE if wide else _FLOAT
    p = f.const(x.type, series[-1])
    for c in reversed(series[:-1]):
        p = muladd(f, p, r, f.const(x.type, c))
    power = f.op("shl", f.bitcast(shifted, whole), f.const(whole, mantissa), "power")
    return f.bitcast(f.add(f.bitcast(p, whole), power), x.type, "exp2")


def log_of_sum(f: Function, largest: Value, total: Value) -> Value:
    """ln(total * 2**largest): the natural log-sum-exp of logits kept in units of log 2."""
    return f.add(f.mul(largest, f.const(largest.type, _LN2)), log(f, total), "lse")
