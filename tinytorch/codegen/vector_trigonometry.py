"""Sine and cosine as inline LLVM IR, exactly reduced for every argument.

Knows floating-point bits and polynomials, never tensors or loops. x = n pi / 2 + r is found in
double precision: up to 2^23 by subtracting pi / 2 in parts (Cody and Waite 1980), beyond, lane by
lane and behind a branch, with as many bits of 2 / pi as it takes (Payne and Hanek 1983).
"""

from __future__ import annotations

import math

from tinytorch.codegen.builder import Function, Value, element, lanes, mangle, vector
from tinytorch.codegen.math_coefficients import HALF_PI, TWO_OVER_PI
from tinytorch.codegen.polynomial import muladd, polynomial

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
    zero, bit = f.const(n.type, 0), lambda i: f.op("and", n, f.const(n.type, i))
    result = f.select(f.compare("eq", bit(1), zero), sine, cosine)
    return f.select(f.compare("eq", bit(2), zero), result, f.neg(result), ("sin", "cos")[quarter])


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
    before = f._block
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

    def merge(old, new, stem):
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
