"""Elementary functions as inline LLVM IR: exp, log, tanh, erf, gelu, sin, cos, pow and their kin.

Knows floating-point bits and polynomials, never tensors or loops. Every function takes the
Function under construction and a Value of type float or double, scalar or vector, and returns a
Value of that type; a lane's result is the same whatever the width, but for erf, gelu and its slope,
which full AVX-512 vectors look up. No library function is called.

Largest errors, in units in the last place, measured in tests/codegen/test_vector_math.py:

    function       float  double    method
    exp              1.2    1.2     n ln 2 + r, polynomial in r, two powers of two (denormals exact)
    log              1      1       2^k m, polynomial in m - 1 (double: atanh series, fdlibm's form)
    tanh             2.5    2.5     expm1(2|x|) / (expm1(2|x|) + 2)
    erf              1.2    1.5     polynomial below 1, 1 - exp(-x^2) * polynomial above
                     2.8            (by table, on AVX-512)
    gelu           3 |x|   3 |x|    x (1 + erf) / 2, in units of 1; on AVX-512 by table
    gelu_slope         4       4    by erf and exp, in units of 1; on AVX-512 by table
    sin, cos         1.5    2       reduction in double; above 2^23 exact (Payne and Hanek 1983)
    pow              0.5    1.2     exp(y log x); log in twice the precision
    sqrt, floor, ceil, round        exact; rsqrt is 1 / sqrt: two roundings

Infinities, NaN, signed zeros, overflow and gradual underflow follow C99 Annex F.

    >>> from tinytorch.codegen.builder import Function
    >>> f = Function("example", [("x", "<16 x float>")], "<16 x float>")
    >>> f.ret(exp(f, f.x))
    >>> "call" in f.finish() and "@expf" not in f.finish()
    True
"""

from __future__ import annotations

import math

from tinytorch.codegen.builder import Function, Value, constant_text, element, lanes, mangle, vector
from tinytorch.codegen.math_coefficients import (
    DOUBLE,
    ERF_PIECES,
    FLOAT,
    GELU_PIECES,
    HALF_PI,
    LN2_DOUBLE,
    LN2_FLOAT,
    SLOPE_PIECES,
    TWO_OVER_PI,
    TWO_THIRDS,
)
from tinytorch.codegen.target import Target

__all__ = [
    "absolute", "ceil", "copysign", "cos", "erf", "exp", "floor", "gelu", "gelu_slope", "log",
    "muladd", "pow", "round", "rsqrt", "sin", "sqrt", "tanh",
]  # fmt: skip

_TABLES = {"float": FLOAT, "double": DOUBLE}
_INTEGER = {"float": "i32", "double": "i64"}
_MANTISSA = {"float": 23, "double": 52}  # IEEE 754 binary32 and binary64: bits of the fraction
_BIAS = {"float": 127, "double": 1023}
_LN2 = {"float": LN2_FLOAT, "double": LN2_DOUBLE}
# exp(x) rounds to 0 below the first and is infinite above the second: logarithms of half the
# smallest denormal and of the largest number, rounded outwards
_EXP_RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}
_TANH_ONE = {"float": 10.0, "double": 20.0}  # from here 1 - tanh(x) is below half a unit of 1
# 1 - erf(3.87) = 4.4e-8, less than half of 2^-23 / 2 above which floats are 1 - 2^-24
_ERF_FULL = 3.87
# beyond, P(normal number < x) rounds to 0 or 1; within a unit of 1 the slope of gelu too
_GELU_FULL = 5.75
_ERF_ONE = {"float": 4.0, "double": 6.0}  # from here 1 - erf(x) is below half a unit of 1
_SMALLEST_NORMAL = {"float": 2.0**-126, "double": 2.0**-1022}


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


def sqrt(f: Function, x: Value) -> Value:
    """The square root, correctly rounded; NaN below 0."""
    return f.intrinsic("sqrt", x.type, x, stem="sqrt")


def rsqrt(f: Function, x: Value) -> Value:
    """1 / sqrt(x)."""
    return f.div(f.const(x.type, 1.0), sqrt(f, x), "rsqrt")


def floor(f: Function, x: Value) -> Value:
    """The largest integer not above x."""
    return f.intrinsic("floor", x.type, x)


def ceil(f: Function, x: Value) -> Value:
    """The smallest integer not below x."""
    return f.intrinsic("ceil", x.type, x)


def round(f: Function, x: Value) -> Value:
    """The nearest integer, ties to even, as NumPy rounds."""
    return f.intrinsic("roundeven", x.type, x)


def absolute(f: Function, x: Value) -> Value:
    """|x|; clears the sign of zero and NaN too."""
    return f.intrinsic("fabs", x.type, x, stem="absolute")


def copysign(f: Function, size: Value, sign: Value) -> Value:
    """The magnitude of one with the sign bit of the other."""
    return f.intrinsic("copysign", size.type, size, sign)


def exp(f: Function, x: Value, *, target: Target | None = None, nonpositive: bool = False) -> Value:
    """e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2.

    Args:
        f: function under construction.
        x: float or double, scalar or vector.
        target: default that of `f`; AVX-512 vectors of 64 bytes use its scaling instruction.
        nonpositive: the caller promises x <= 0 (or NaN): no check against overflow.

    Cost: 18 vector instructions; 13 with an AVX-512 `target`, 12 with `nonpositive` too.
    """
    low, high = (f.const(x.type, limit) for limit in _EXP_RANGE[element(x.type)])
    if not nonpositive:
        x = f.select(f.compare("gt", x, high), high, x, "clamped")
    x = f.select(f.compare("lt", x, low), low, x, "clamped")
    shifted, n, r = _reduce_by_ln2(f, x)
    p = _exp_polynomial(f, r)
    target = target or f.target
    if target is not None and target.name == "avx512" and _is_full(x.type):
        return scale_avx512(f, p, n)
    return _scale(f, p, shifted)


def log(f: Function, x: Value) -> Value:
    """The natural logarithm; -inf at 0, NaN below.

    Cost: about 25 vector instructions; in double one of them is a division.
    """
    k, m = _split(f, x)
    f1 = f.sub(m, f.const(x.type, 1.0), "f")
    square = f.mul(f1, f1, "f.square")
    half_square = f.mul(square, f.const(x.type, 0.5))
    high, low = (f.const(x.type, c) for c in _LN2[element(x.type)])
    if element(x.type) == "float":
        tail = f.mul(f.mul(square, f1), polynomial(f, "LOG", f1))
        tail = f.sub(muladd(f, k, low, tail), half_square)
        result = muladd(f, k, high, f.add(f1, tail))
    else:  # fdlibm e_log.c: f - (f^2/2 - s (f^2/2 + R)), so that the leading terms stay exact
        s = f.div(f1, f.add(f1, f.const(x.type, 2.0)), "s")
        z = f.mul(s, s, "z")
        r = f.mul(z, polynomial(f, "LOG", z))
        inner = muladd(f, s, f.add(half_square, r), f.mul(k, low))
        result = f.sub(f.mul(k, high), f.sub(f.sub(half_square, inner), f1))
    return _log_of_special(f, x, result)


def tanh(f: Function, x: Value) -> Value:
    """expm1(2|x|) / (expm1(2|x|) + 2), with the sign of x.

    Cost: about 20 vector instructions, one of them a division.
    """
    limit = f.const(x.type, _TANH_ONE[element(x.type)])
    size = absolute(f, x)
    size = f.select(f.compare("gt", size, limit), limit, size)
    grown = _expm1_of_nonnegative(f, f.add(size, size))
    return copysign(f, f.div(grown, f.add(grown, f.const(x.type, 2.0))), x)


def erf(f: Function, x: Value) -> Value:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Cost: about 45 vector instructions; both branches are computed. In double one division. With an
        AVX-512 target 20, for full vectors of float.
    """
    type = element(x.type)
    if _looks_up(f, x):
        total, beyond = _by_table(f, x, ERF_PIECES, 0.25, _ERF_FULL)
        one = copysign(f, f.const(x.type, 1.0), x)
        return f.select(beyond, one, f.mul(total, x))
    one, limit = f.const(x.type, 1.0), f.const(x.type, _ERF_ONE[type])
    size = absolute(f, x)
    size = f.select(f.compare("gt", size, limit), limit, size)
    z = f.mul(size, size, "z")
    small = muladd(f, x, polynomial(f, "ERF", z), x)
    if type == "float":  # v in [-1, 1] for |x| in [1, 4]
        v = f.mul(f.sub(size, f.const(x.type, 2.5)), f.const(x.type, 1 / 1.5), "v")
    else:  # v in [-1, 1], linear in 1 / (|x| + 3) for |x| in [1, 6]
        inverse = f.div(one, f.add(size, f.const(x.type, 3.0)))
        low, high = 1 / 9, 1 / 4
        scale = f.const(x.type, 2 / (high - low))
        v = muladd(f, inverse, scale, f.const(x.type, -(low + high) / (high - low)))
    rest = f.mul(exp(f, f.neg(z), nonpositive=True), polynomial(f, "ERFC", v), "erfc")
    large = copysign(f, f.sub(one, rest), x)
    return f.select(f.compare("lt", size, one), small, large)


def _looks_up(f: Function, x: Value) -> bool:
    """Whether one instruction looks a number up for each lane, among 16."""
    full = element(x.type) == "float" and _is_full(x.type)
    return full and f.target is not None and f.target.name == "avx512"


def _by_table(
    f: Function, x: Value, pieces: tuple[tuple[float, ...], ...], width: float, most: float
) -> tuple[Value, Value]:
    """A function of |x| by the polynomial of the nearest piece, and where |x| is above `most`.

    Adding 1.5 * 2^23 leaves the nearest integer in the last bits of the sum, where the lookup reads
    its four. A NaN goes through unharmed.
    """
    size = absolute(f, x)
    beyond = f.compare("gt", size, f.const(x.type, most), stem="beyond")
    magic = f.const(x.type, 1.5 * 2**23)
    shifted = f.fma(size, f.const(x.type, 1 / width), magic)
    piece = f.bitcast(shifted, vector(16, "i32"), "piece")
    t = f.fma(f.sub(shifted, magic), f.const(x.type, -width), size, "t")
    total = f.const(x.type, 0.0)
    for row in reversed(pieces):
        listed = ", ".join(f"float {constant_text('float', c)}" for c in row)
        table = Value(f"<{listed}>", x.type)
        c = f.call(x.type, "llvm.x86.avx512.permvar.sf.512", table, piece, stem="c")
        total = c if row is pieces[-1] else f.fma(total, t, c)
    return total, beyond


def gelu(f: Function, x: Value) -> Value:
    """x P(normal number < x); the limit 0 at -inf.

    Cost: about 50 vector instructions; full float vectors with an AVX-512 target 19.
    """
    zero, half = f.const(x.type, 0.0), f.const(x.type, 0.5)
    if _looks_up(f, x):
        ratio, beyond = _by_table(f, x, GELU_PIECES, 0.375, _GELU_FULL)
        within = f.mul(x, f.fma(ratio, x, half))
        return f.select(beyond, f.select(f.compare("gt", x, zero), x, zero), within, "gelu")
    share = _below(f, x)
    return f.select(f.compare("eq", share, zero), zero, f.mul(x, share), "gelu")


def gelu_slope(f: Function, x: Value) -> Value:
    """The slope of gelu: P(normal number < x) + x exp(-x^2 / 2) / sqrt(2 pi).

    Cost: about 65 vector instructions; full float vectors with an AVX-512 target 20.
    """
    zero, one, half = (f.const(x.type, c) for c in (0.0, 1.0, 0.5))
    if _looks_up(f, x):
        ratio, beyond = _by_table(f, x, SLOPE_PIECES, 0.375, _GELU_FULL)
        end = f.select(f.compare("gt", x, zero), one, zero)
        return f.select(beyond, end, f.fma(ratio, x, half), "slope")
    density = exp(f, f.mul(f.mul(x, x), f.const(x.type, -0.5)), nonpositive=True)
    moved = f.mul(f.mul(x, f.const(x.type, 1 / math.sqrt(2 * math.pi))), density)
    moved = f.select(f.compare("eq", density, zero), zero, moved)
    return f.add(_below(f, x), moved, "slope")


def _below(f: Function, x: Value) -> Value:
    """P(normal number < x)."""
    grown = f.add(erf(f, f.mul(x, f.const(x.type, math.sqrt(0.5)))), f.const(x.type, 1.0))
    return f.mul(grown, f.const(x.type, 0.5), "below")


def pow(f: Function, x: Value, y: Value) -> Value:
    """x to the power y, C99's special cases: NaN for negative x with y not an integer, x^0 = 1.

    Cost: float about 120 vector instructions, double about 150, two of them divisions.
    """
    size = absolute(f, x)
    if element(x.type) == "float":
        wide = vector(lanes(x.type), "double")
        product = f.mul(f.convert(y, wide), log(f, f.convert(size, wide)))
        result = f.convert(exp(f, product), x.type)
    else:
        result = _pow_double(f, size, y)
    one, zero = f.const(x.type, 1.0), f.const(x.type, 0.0)
    integer = f.compare("eq", floor(f, y), y, stem="integer")
    half = f.mul(y, f.const(x.type, 0.5))
    odd = f.op("and", integer, f.compare("ne", floor(f, half), half), "odd")
    result = f.select(odd, copysign(f, result, x), result)
    negative = f.op("and", f.compare("lt", x, zero), f.compare("gt", x, f.const(x.type, -math.inf)))
    fraction = f.op("xor", integer, f.const(integer.type, 1))
    result = f.select(f.op("and", negative, fraction), f.const(x.type, math.nan), result)
    infinite = f.compare("eq", absolute(f, y), f.const(x.type, math.inf))
    unit = f.op("and", infinite, f.compare("eq", size, one))
    unit = f.op("or", unit, f.op("or", f.compare("eq", x, one), f.compare("eq", y, zero)), "unit")
    return f.select(unit, one, result)


# pieces


def _reduce_by_ln2(f: Function, x: Value) -> tuple[Value, Value, Value]:
    """(shifted, n, r): x = n ln 2 + r. The low bits of `shifted` hold n + 2 * bias."""
    type = element(x.type)
    # adding 1.5 * 2^23 leaves the nearest integer in the low bits of the fraction
    magic = f.const(x.type, 1.5 * 2.0 ** _MANTISSA[type] + 2 * _BIAS[type])
    shifted = muladd(f, x, f.const(x.type, 1 / math.log(2)), magic, "shifted")
    n = f.sub(shifted, magic, "n")
    r = x
    for part in _LN2[type]:
        r = muladd(f, n, f.const(x.type, -part), r, "r")
    return shifted, n, r


def _exp_polynomial(f: Function, r: Value) -> Value:
    """e^r = 1 + r (1 + r q(r)) for |r| <= ln 2 / 2."""
    one = f.const(r.type, 1.0)
    return muladd(f, muladd(f, polynomial(f, "EXP", r), r, one), r, one, "exp")


def _scale(f: Function, p: Value, shifted: Value) -> Value:
    """p * 2^n in two exact factors, so that only the last product rounds, once, into denormals."""
    type = element(p.type)
    integers = vector(lanes(p.type), _INTEGER[type])
    width = f.const(integers, _MANTISSA[type])
    both = f.bitcast(shifted, integers)  # n + 2 bias in its low bits
    first = f.op("lshr", both, f.const(integers, 1), "first")
    second = f.sub(both, first, "second")
    for exponent in (first, second):
        factor = f.bitcast(f.op("shl", exponent, width), p.type, "power")
        p = f.mul(p, factor, "scaled")
    return p


def _is_full(type: str) -> bool:
    return lanes(type) * (4 if element(type) == "float" else 8) == 64


def scale_avx512(f: Function, p: Value, n: Value) -> Value:
    """p * 2^n by vscalefps / vscalefpd: the same bits as `_scale`."""
    letter, mask = ("s", "i16") if element(p.type) == "float" else ("d", "i8")
    name = f"llvm.x86.avx512.mask.scalef.p{letter}.512"
    f.declarations.add(
        f"declare {p.type} @{name}({p.type}, {p.type}, {p.type}, {mask}, i32 immarg)"
    )
    given = f"{p.type} {p.text}, {p.type} {n.text}, {p.type} zeroinitializer, {mask} -1, i32 4"
    return f.define(p.type, f"call {p.type} @{name}({given})", "scaled")


def _expm1_of_nonnegative(f: Function, x: Value) -> Value:
    """e^x - 1 for 0 <= x <= 40 without cancellation: 2^n (e^r - 1) + (2^n - 1)."""
    type = element(x.type)
    shifted, _, r = _reduce_by_ln2(f, x)
    p = muladd(f, f.mul(r, r), polynomial(f, "EXP", r), r, "expm1")
    integers = vector(lanes(x.type), _INTEGER[type])
    exponent = f.sub(f.bitcast(shifted, integers), f.const(integers, _BIAS[type]))
    power = f.bitcast(f.op("shl", exponent, f.const(integers, _MANTISSA[type])), x.type, "power")
    return muladd(f, power, p, f.sub(power, f.const(x.type, 1.0)), "expm1")


def _split(f: Function, x: Value) -> tuple[Value, Value]:
    """(k, m): x = 2^k m with sqrt(1/2) <= m < sqrt(2), k as a float; for x > 0, denormals too."""
    type = element(x.type)
    integers, width = vector(lanes(x.type), _INTEGER[type]), _MANTISSA[type]
    tiny = f.compare("lt", x, f.const(x.type, _SMALLEST_NORMAL[type]), stem="tiny")
    x = f.select(tiny, f.mul(x, f.const(x.type, 2.0 ** (width + 2))), x)
    # bits of sqrt(1/2): subtracting them lets the exponent field change at sqrt(1/2), not at 1
    bits = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}[type]
    base = f.const(integers, bits)
    above = f.sub(f.bitcast(x, integers), base, "above")
    k = f.convert(f.op("ashr", above, f.const(integers, width), "k"), x.type)
    k = f.select(tiny, f.sub(k, f.const(x.type, float(width + 2))), k)
    m = f.add(f.op("and", above, f.const(integers, 2**width - 1)), base, "m")
    return k, f.bitcast(m, x.type)


def _log_of_special(f: Function, x: Value, result: Value) -> Value:
    zero, infinity = f.const(x.type, 0.0), f.const(x.type, math.inf)
    # one unordered comparison finds negative numbers and NaN; +inf passes through
    ordered = f.op("and", f.compare("gt", x, zero), f.compare("lt", x, infinity), "ordered")
    at_zero = f.select(
        f.compare("eq", x, zero), f.const(x.type, -math.inf), f.const(x.type, math.nan)
    )
    special = f.select(f.compare("eq", x, infinity), infinity, at_zero)
    return f.select(ordered, result, special, "log")


def _two_product(f: Function, a: Value, b: Value) -> tuple[Value, Value]:
    """a * b as an unevaluated sum (Veltkamp and Dekker 1971), without needing a fused product."""

    def halves(x: Value) -> tuple[Value, Value]:
        grown = f.mul(x, f.const(x.type, 2.0**27 + 1))
        high = f.sub(grown, f.sub(grown, x))
        return high, f.sub(x, high)

    product = f.mul(a, b)
    (a1, a2), (b1, b2) = halves(a), halves(b)
    error = f.sub(f.mul(a1, b1), product)
    error = f.add(f.add(error, f.mul(a1, b2)), f.mul(a2, b1))
    return product, f.add(error, f.mul(a2, b2))


def _fast_two_sum(f: Function, a: Value, b: Value) -> tuple[Value, Value]:
    """a + b as an unevaluated sum, for |a| >= |b| or a = 0 (Dekker 1971)."""
    total = f.add(a, b)
    return total, f.sub(b, f.sub(total, a))


def _log_double_double(f: Function, x: Value) -> tuple[Value, Value]:
    """log(x) for finite x > 0 as high + low, relative error about 2^-65."""
    k, m = _split(f, x)
    one = f.const(x.type, 1.0)
    numerator = f.sub(m, one, "f")
    denominator = f.add(m, one)
    lost = f.sub(m, f.sub(denominator, one))
    s = f.div(numerator, denominator, "s")
    product, error = _two_product(f, s, denominator)
    rest = f.sub(f.sub(f.sub(numerator, product), error), f.mul(s, lost))
    s_low = f.div(rest, denominator, "s.low")
    z, z_low = _two_product(f, s, s)
    z_low = f.add(z_low, f.mul(f.add(s, s), s_low))
    # log(m) = 2 s + s z (2/3 + z t(z))
    high, low = _fast_two_sum(
        f, f.const(x.type, TWO_THIRDS[0]), f.mul(z, polynomial(f, "LOG_SECOND", z))
    )
    low = f.add(low, f.const(x.type, TWO_THIRDS[1]))
    u, u_low = _two_product(f, z, high)
    u_low = f.add(u_low, f.add(f.mul(z, low), f.mul(z_low, high)))
    v, v_low = _two_product(f, s, u)
    v_low = f.add(v_low, f.add(f.mul(s, u_low), f.mul(s_low, u)))
    twice, twice_low = f.add(s, s), f.add(s_low, s_low)
    high, low = _fast_two_sum(f, twice, v)
    low = f.add(low, f.add(v_low, twice_low))
    total, error = _fast_two_sum(f, f.mul(k, f.const(x.type, LN2_DOUBLE[0])), high)
    error = f.add(error, f.add(low, f.mul(k, f.const(x.type, LN2_DOUBLE[1]))))
    return _fast_two_sum(f, total, error)


def _pow_double(f: Function, x: Value, y: Value) -> Value:
    """x^y for x >= 0 in double; infinities and zeros through the logarithm's special values."""
    # beyond 2^66 the result is 0, 1 or infinite for every x; the limit keeps the splitting finite
    limit = f.const(x.type, 2.0**66)
    y = f.select(f.compare("gt", y, limit), limit, y)
    y = f.select(f.compare("lt", y, f.neg(limit)), f.neg(limit), y)
    high, low = _log_double_double(f, x)
    high = _log_of_special(f, x, high)
    product, error = _two_product(f, high, y)
    product = f.mul(high, y)
    error = f.add(error, f.mul(low, y))
    useful = f.compare("lt", absolute(f, product), f.const(x.type, 800.0))
    error = f.select(useful, error, f.const(x.type, 0.0), "error")
    least, most = (f.const(x.type, c) for c in _EXP_RANGE["double"])
    product = f.select(f.compare("gt", product, most), most, product)
    product = f.select(f.compare("lt", product, least), least, product)
    shifted, _, r = _reduce_by_ln2(f, product)
    return _scale(f, _exp_polynomial(f, f.add(r, error)), shifted)


# --- sine and cosine ---

# x = n pi / 2 + r is found in double precision: up to 2^23 by subtracting pi / 2 in parts (Cody and
# Waite 1980), beyond, lane by lane and behind a branch, with as many bits of 2 / pi as it takes
# (Payne and Hanek 1983).

_REDUCED = 2.0**23  # up to here the products n * HALF_PI[i] (24 + 29 bits) are exact in double


def sin(f: Function, x: Value) -> Value:
    """The sine of x radians. Cost: about 40 vector instructions (float: half of them in double)."""
    result = _sin_or_cos(f, x, 0)
    tiny = f.const(
        x.type, 2.0**-30
    )  # x^3 / 6 is below half a unit: sin(x) = x, zeros keep their sign
    return f.select(f.compare("lt", f.intrinsic("fabs", x.type, x), tiny), x, result)


def cos(f: Function, x: Value) -> Value:
    """The cosine of x radians. Cost: as sin."""
    return _sin_or_cos(f, x, 1)


def _sin_or_cos(f: Function, x: Value, quarter: int) -> Value:
    """sin(x + quarter pi / 2)."""
    wide = vector(lanes(x.type), "double")
    r, n = _reduce_by_half_pi(f, f.convert(x, wide), compensate=element(x.type) == "double")
    if element(x.type) == "float":
        r = f.convert(r, x.type)
        n = f.convert(n, vector(lanes(x.type), "i32"))
    n = f.add(n, f.const(n.type, quarter))
    one = f.const(x.type, 1.0)
    z = f.mul(r, r, "z")
    sine = muladd(f, f.mul(r, z), polynomial(f, "SIN", z), r, "sine")
    half = muladd(f, z, f.const(x.type, -0.5), one)
    cosine = muladd(f, f.mul(z, z), polynomial(f, "COS", z), half, "cosine")
    if element(x.type) == "double":  # what 1 - z / 2 lost in rounding
        lost = muladd(f, z, f.const(x.type, -0.5), f.sub(one, half))
        cosine = f.add(half, muladd(f, f.mul(z, z), polynomial(f, "COS", z), lost), "cosine")

    def is_clear(bit: int) -> Value:
        found = f.op("and", n, f.const(n.type, bit))
        return f.compare("eq", found, f.const(n.type, 0))

    result = f.select(is_clear(1), sine, cosine)
    return f.select(is_clear(2), result, f.neg(result), ("sin", "cos")[quarter])


def _reduce_by_half_pi(f: Function, x: Value, compensate: bool) -> tuple[Value, Value]:
    """(r, n): x = n pi / 2 + r, |r| <= pi / 4, for double x; n is right in its two lowest bits."""
    magic = f.const(x.type, 1.5 * 2.0**52)
    shifted = muladd(f, x, f.const(x.type, 2 / math.pi), magic, "shifted")
    n = f.sub(shifted, magic, "n")
    r, lost = x, f.const(x.type, 0.0)
    for part in HALF_PI[:3]:
        product = f.mul(n, f.const(x.type, part))  # exact: 24 + 29 bits
        following = f.sub(r, product, "r")
        if compensate and part != HALF_PI[0]:
            lost = f.add(lost, f.sub(f.sub(r, following), product))
        r = following
    if compensate:
        r = f.add(r, muladd(f, n, f.const(x.type, -HALF_PI[3]), lost), "r")
    quadrant = f.bitcast(shifted, vector(lanes(x.type), "i64"), "quadrant")
    return _reduce_large_lanes(f, x, r, quadrant)


def _reduce_large_lanes(f: Function, x: Value, r: Value, n: Value) -> tuple[Value, Value]:
    """Replace (r, n) in the lanes where 2^23 < |x| < inf, one by one, by the exact reduction."""
    count = lanes(x.type)
    size = f.intrinsic("fabs", x.type, x)
    large = f.op(
        "and",
        f.compare("gt", size, f.const(x.type, _REDUCED)),
        f.compare("lt", size, f.const(x.type, math.inf)),
        "large",
    )
    some = (
        large
        if count == 1
        else f.intrinsic("vector.reduce.or", "i1", large, suffix=mangle(large.type))
    )
    name = f.fresh("large.lanes")
    before = f.current_block
    f.branch_if(some, f"{name}.then", f"{name}.done")
    f.block(f"{name}.then")
    f.declarations.update((_PAYNE_HANEK, *_NEEDED))
    pair = "{ double, i64 }"
    new_r, new_n = r, n
    for lane in range(count):
        scalar = x if count == 1 else f.extract(x, lane)
        both = f.define(
            pair, f'call {pair} @"tinytorch.payne_hanek"(double {scalar.text})', "reduced"
        )
        exact_r = f.define("double", f"extractvalue {pair} {both.text}, 0", "exact.r")
        exact_n = f.define("i64", f"extractvalue {pair} {both.text}, 1", "exact.n")
        new_r = exact_r if count == 1 else f.insert(new_r, exact_r, lane)
        new_n = exact_n if count == 1 else f.insert(new_n, exact_n, lane)
    new_r = f.select(large, new_r, r)
    new_n = f.select(large, new_n, n)
    f.branch(f"{name}.done")
    f.block(f"{name}.done")

    def merge(old: Value, new: Value, stem: str) -> Value:
        pairs = f'[{old.text}, %"{before}"], [{new.text}, %"{name}.then"]'
        return f.define(old.type, f"phi {old.type} {pairs}", stem)

    return merge(r, new_r, "r"), merge(n, new_n, "quadrant")


# One line each: a module has every declaration once, whoever asks for it.
_NEEDED = (
    "declare i64 @llvm.fshl.i64(i64, i64, i64)",
    "declare i128 @llvm.ctlz.i128(i128, i1)",
    "declare i128 @llvm.abs.i128(i128, i1)",
    "declare double @llvm.copysign.f64(double, double)",
)


def _payne_hanek() -> str:
    """The text of tinytorch.payne_hanek: double x, |x| >= 2^23, to (r, n), r rounded three times.

    Source: Payne and Hanek, Radian reduction for trigonometric functions, SIGNUM Newsletter 1983.
    x = M 2^e with an integer M of 53 bits. Bits of 2 / pi of weight 2^(2 - e) and more contribute
    multiples of 4 to x * 2 / pi and are left out; the next 192 are multiplied by M. The two highest
    bits of the product are n mod 4, the others the fraction: at least 60 of them beyond the longest
    run of zeros that a double can meet (62, Muller, Elementary Functions, 2006, table 11.1).
    """
    words = ", ".join(f"i64 {w - 2**64 if w >= 2**63 else w}" for w in (0, *TWO_OVER_PI))
    count = len(TWO_OVER_PI) + 1
    return f"""
@"tinytorch.two_over_pi" = internal constant [{count} x i64] [{words}]
define internal {{ double, i64 }} @"tinytorch.payne_hanek"(double %x) nounwind noinline {{
  %bits = bitcast double %x to i64
  %shifted = lshr i64 %bits, 52
  %biased = and i64 %shifted, 2047
  %ordinary = icmp ult i64 %biased, 2047
  %exponent = select i1 %ordinary, i64 %biased, i64 1075
  %low = and i64 %bits, 4503599627370495
  %m = or i64 %low, 4503599627370496
  %place.signed = sub i64 %exponent, 1013
  %reached = icmp sgt i64 %place.signed, 0
  %place = select i1 %reached, i64 %place.signed, i64 0
  %word = lshr i64 %place, 6
  %shift = and i64 %place, 63
  %at0 = getelementptr i64, ptr @"tinytorch.two_over_pi", i64 %word
  %at1 = getelementptr i64, ptr %at0, i64 1
  %at2 = getelementptr i64, ptr %at0, i64 2
  %at3 = getelementptr i64, ptr %at0, i64 3
  %t0 = load i64, ptr %at0
  %t1 = load i64, ptr %at1
  %t2 = load i64, ptr %at2
  %t3 = load i64, ptr %at3
  %w0 = call i64 @llvm.fshl.i64(i64 %t0, i64 %t1, i64 %shift)
  %w1 = call i64 @llvm.fshl.i64(i64 %t1, i64 %t2, i64 %shift)
  %w2 = call i64 @llvm.fshl.i64(i64 %t2, i64 %t3, i64 %shift)
  %m.wide = zext i64 %m to i128
  %w0.wide = zext i64 %w0 to i128
  %w1.wide = zext i64 %w1 to i128
  %w2.wide = zext i64 %w2 to i128
  %p0 = mul i128 %m.wide, %w0.wide
  %p0.up = shl i128 %p0, 64
  %p1 = mul i128 %m.wide, %w1.wide
  %p2 = mul i128 %m.wide, %w2.wide
  %p2.down = lshr i128 %p2, 64
  %p01 = add i128 %p0.up, %p1
  %p = add i128 %p01, %p2.down
  %half = shl i128 1, 125
  %rounded = add i128 %p, %half
  %n.wide = lshr i128 %rounded, 126
  %n.size = trunc i128 %n.wide to i64
  %fraction = shl i128 %p, 2
  %size = call i128 @llvm.abs.i128(i128 %fraction, i1 false)
  %zeros = call i128 @llvm.ctlz.i128(i128 %size, i1 false)
  %leading = shl i128 %size, %zeros
  %top.wide = lshr i128 %leading, 64
  %top = trunc i128 %top.wide to i64
  %number = uitofp i64 %top to double
  %zeros.low = trunc i128 %zeros to i64
  %scale.exponent = sub i64 959, %zeros.low
  %scale.bits = shl i64 %scale.exponent, 52
  %scale = bitcast i64 %scale.bits to double
  %turns = fmul double %number, %scale
  %radians = fmul double %turns, {math.pi / 2!r}
  %fraction.negative = icmp slt i128 %fraction, 0
  %x.negative = icmp slt i64 %bits, 0
  %negative = xor i1 %fraction.negative, %x.negative
  %minus = fneg double %radians
  %r = select i1 %negative, double %minus, double %radians
  %n.minus = sub i64 0, %n.size
  %n = select i1 %x.negative, i64 %n.minus, i64 %n.size
  %first = insertvalue {{ double, i64 }} poison, double %r, 0
  %both = insertvalue {{ double, i64 }} %first, i64 %n, 1
  ret {{ double, i64 }} %both
}}"""


_PAYNE_HANEK = _payne_hanek()
