"""Elementary functions as inline LLVM IR: exp, log, tanh, erf, sin, cos, pow and their kin.

Knows floating-point bits and polynomials, never tensors or loops. Every function takes the
Function under construction and a Value of type float or double, scalar or vector, and returns a
Value of that type; a lane's result is the same whatever the width, but for erf, which full AVX-512
vectors look up. No library function is called.

Largest errors, in units in the last place, measured in tests/codegen/test_vector_math.py:

    function       float  double    method
    exp              1.2    1.2     n ln 2 + r, polynomial in r, two powers of two (denormals exact)
    log              1      1       2^k m, polynomial in m - 1 (double: atanh series, fdlibm's form)
    tanh             2.5    2.5     expm1(2|x|) / (expm1(2|x|) + 2)
    erf              1.2    1.5     polynomial below 1, 1 - exp(-x^2) * polynomial above
                     2.8            (by table, on AVX-512)
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

from tinytorch.codegen.builder import Function, Value, constant_text, element, lanes, vector
from tinytorch.codegen.erf_table import COEFFICIENTS
from tinytorch.codegen.math_coefficients import LN2_DOUBLE, LN2_FLOAT, TWO_THIRDS
from tinytorch.codegen.polynomial import muladd, polynomial
from tinytorch.codegen.vector_trigonometry import cos, sin

__all__ = [
    "absolute", "ceil", "copysign", "cos", "erf", "exp", "floor", "log", "muladd", "pow", "round",
    "rsqrt", "sin", "sqrt", "tanh",
]  # fmt: skip

_INTEGER = {"float": "i32", "double": "i64"}
_MANTISSA = {"float": 23, "double": 52}  # IEEE 754 binary32 and binary64: bits of the fraction
_BIAS = {"float": 127, "double": 1023}
_LN2 = {"float": LN2_FLOAT, "double": LN2_DOUBLE}
# exp(x) rounds to 0 below the first and is infinite above the second: logarithms of half the
# smallest denormal and of the largest number, rounded outwards
_EXP_RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}
_TANH_ONE = {"float": 10.0, "double": 20.0}  # from here 1 - tanh(x) is below half a unit of 1
_ERF_FULL = (
    3.87  # 1 - erf(3.87) = 4.4e-8, less than half of 2^-23 / 2 above which floats are 1 - 2^-24
)
_ERF_ONE = {"float": 4.0, "double": 6.0}  # from here 1 - erf(x) is below half a unit of 1
_SMALLEST_NORMAL = {"float": 2.0**-126, "double": 2.0**-1022}


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


def exp(f: Function, x: Value, *, target=None, nonpositive: bool = False) -> Value:
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
        return _scale_avx512(f, p, n)
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
    if type == "float" and f.target is not None and f.target.name == "avx512" and _is_full(x.type):
        return _erf_by_table(f, x)
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


def _erf_by_table(f: Function, x: Value) -> Value:
    """x times a polynomial whose coefficients are looked up by the nearest quarter of |x|.

    Adding 1.5 * 2^23 leaves the nearest integer in the last bits of the sum, where the lookup reads
    its four. Beyond 3.87 erf is nearer to 1 than to the float below; a NaN goes through unharmed.
    """
    size = absolute(f, x)
    beyond = f.compare("gt", size, f.const(x.type, _ERF_FULL))
    magic = f.const(x.type, 1.5 * 2**23)
    shifted = f.fma(size, f.const(x.type, 4.0), magic)
    piece = f.bitcast(shifted, vector(16, "i32"), "piece")
    quarters = f.sub(shifted, magic)
    t = f.fma(quarters, f.const(x.type, -2.0), f.mul(size, f.const(x.type, 8.0)), "t")
    total = f.const(x.type, 0.0)
    for row in reversed(COEFFICIENTS):
        listed = ", ".join(f"float {constant_text('float', c)}" for c in row)
        table = Value(f"<{listed}>", x.type)
        c = f.call(x.type, "llvm.x86.avx512.permvar.sf.512", table, piece, stem="c")
        total = c if row is COEFFICIENTS[-1] else f.fma(total, t, c)
    near = f.mul(total, size)
    return copysign(f, f.select(beyond, f.const(x.type, 1.0), near), x)


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


def _scale_avx512(f: Function, p: Value, n: Value) -> Value:
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

    def halves(x):
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
