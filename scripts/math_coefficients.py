"""Computes the coefficients of `tinytorch/codegen/math_coefficients.py` and prints that file.

Each polynomial interpolates its function at the Chebyshev nodes of the interval, in 60 digits,
which is within a small factor of the minimax polynomial; the degree leaves an error well below a
unit in the last place of the function it serves. erf is also fitted in pieces, for processors that
look 16 numbers up in one instruction. Needs mpmath:

    python scripts/math_coefficients.py > tinytorch/codegen/math_coefficients.py
"""

import struct
from collections.abc import Iterable

from mpmath import mp

mp.dps = 60
HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.01")  # rounding of n may push r a little over ln2 / 2
QUARTER_PI = (mp.pi / 4 * mp.mpf("1.01")) ** 2
ROOT = mp.sqrt(2)
PIECES = 16


def taylor(coefficient, x, terms=30):
    """The sum of coefficient(k) * x**k."""
    return mp.fsum(coefficient(k) * x**k for k in range(terms))


def exp_tail(r):
    """(exp(r) - 1 - r) / r**2."""
    return taylor(lambda k: 1 / mp.factorial(k + 2), r)


def log_tail(f):
    """(log(1 + f) - f + f**2 / 2) / f**3."""
    small = abs(f) < mp.mpf("1e-8")
    return (
        taylor(lambda k: (-1) ** k / mp.mpf(k + 3), f)
        if small
        else (mp.log1p(f) - f + f * f / 2) / f**3
    )


def atanh_tail(z):
    """(2 * atanh(s) / s - 2) / z with z = s**2."""
    return taylor(lambda k: mp.mpf(2) / (2 * k + 3), z, 60)


def atanh_second_tail(z):
    """(2 * atanh(s) / s - 2 - 2 / 3 * z) / z**2 with z = s**2."""
    return taylor(lambda k: mp.mpf(2) / (2 * k + 5), z, 60)


def erf_tail(z):
    """erf(x) / x - 1 with z = x**2."""
    scale = 2 / mp.sqrt(mp.pi)
    return taylor(lambda k: scale * (-1) ** k / (mp.factorial(k) * (2 * k + 1)), z, 60) - 1


def erfc_scaled(start, stop):
    """v in [-1, 1] -> exp(t**2) * erfc(t), t = middle + half * v in [start, stop]."""
    middle, half = mp.mpf(start + stop) / 2, mp.mpf(stop - start) / 2
    return lambda v: mp.exp((middle + half * v) ** 2) * mp.erfc(middle + half * v)


def erfc_scaled_inverse(start, stop, shift):
    """v in [-1, 1] -> exp(t**2) * erfc(t), where v is linear in 1 / (t + shift): smoother."""
    low, high = 1 / mp.mpf(stop + shift), 1 / mp.mpf(start + shift)

    def value(v):
        t = 1 / ((low + high) / 2 + (high - low) / 2 * v) - shift
        return mp.exp(t * t) * mp.erfc(t)

    return value


def sin_tail(z):
    """(sin(r) / r - 1) / z with z = r**2."""
    return taylor(lambda k: (-1) ** (k + 1) / mp.factorial(2 * k + 3), z)


def cos_tail(z):
    """(cos(r) - 1 + z / 2) / z**2 with z = r**2."""
    return taylor(lambda k: (-1) ** k / mp.factorial(2 * k + 4), z)


FITS = [  # name, function, interval, coefficients in float32 and in float64
    ("EXP", exp_tail, (-HALF_LN2, HALF_LN2), 5, 10),
    ("LOG", log_tail, (1 / ROOT - 1, ROOT - 1), 9, None),
    ("LOG", atanh_tail, (mp.mpf(0), ((ROOT - 1) / (ROOT + 1)) ** 2), None, 8),
    ("LOG_SECOND", atanh_second_tail, (mp.mpf(0), ((ROOT - 1) / (ROOT + 1)) ** 2), None, 9),
    ("ERF", erf_tail, (mp.mpf(0), mp.mpf(1)), 7, 13),
    ("ERFC", erfc_scaled(1, 4), (mp.mpf(-1), mp.mpf(1)), 12, None),
    ("ERFC", erfc_scaled_inverse(1, 6, 3), (mp.mpf(-1), mp.mpf(1)), None, 17),
    ("SIN", sin_tail, (mp.mpf(0), QUARTER_PI), 3, 7),
    ("COS", cos_tail, (mp.mpf(0), QUARTER_PI), 3, 7),
]


def parts(x, bits):
    """x as a list of floats with these many significant bits each (the last one has 53)."""
    out = []
    for b in bits:
        scale = mp.mpf(2) ** (b - 1 - mp.floor(mp.log(abs(x), 2)))
        piece = mp.nint(x * scale) / scale
        out.append(float(piece))
        x -= piece
    return [*out, float(x)]


def erf_ratio(x):
    """erf(x) / x, continued to 0."""
    return mp.erf(x) / x if x else 2 / mp.sqrt(mp.pi)


def normal_ratio(x):
    """(P(normal number < x) - 1 / 2) / x, continued to 0."""
    return erf_ratio(x / ROOT) / (2 * ROOT)


def slope_ratio(x):
    """(the slope of x P(normal number < x) - 1 / 2) / x, continued to 0."""
    return normal_ratio(x) + mp.npdf(x)


def piece(function, centre, width, degree):
    """Coefficients, lowest first, of the polynomial in t = |x| - centre that interpolates the
    function at the Chebyshev nodes of the piece."""
    count, half = degree + 1, width / 2
    nodes = [half * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    powers, values = mp.matrix(count, count), mp.matrix(count, 1)
    for i, t in enumerate(nodes):
        values[i] = function(centre + t)
        for j in range(count):
            powers[i, j] = t**j
    return list(mp.lu_solve(powers, values))


LOOKED_UP = [  # name, function, in words, width of a piece, degree
    ("ERF_PIECES", erf_ratio, "erf(x) / x", mp.mpf(1) / 4, 4),
    ("GELU_PIECES", normal_ratio, "(P(normal < x) - 1/2) / x", mp.mpf(3) / 8, 4),
    ("SLOPE_PIECES", slope_ratio, "(slope of x P(normal < x) - 1/2) / x", mp.mpf(3) / 8, 5),
]


def as_float32(x):
    """The nearest float32; 0 for what is left of it by rounding in 40 digits."""
    x = mp.mpf(0) if abs(x) < mp.mpf("1e-30") else x
    return struct.unpack("<f", struct.pack("<f", float(x)))[0]


def show(head: str, numbers: Iterable[str], tail: str, indent: str = "") -> None:
    """Print a list of numbers, as many on a line as fit."""
    print(f"{indent}{head}")
    line = ""
    for number in numbers:
        longer = f"{line} {number}," if line else f"{indent}    {number},"
        if len(longer) > 100:
            print(line)
            longer = f"{indent}    {number},"
        line = longer
    print(f"{line}\n{indent}{tail}")


def main():
    """Print the module."""
    print('"""Coefficients of the polynomials in `codegen/vector_math.py`, lowest power first.')
    print()
    print(
        "Knows numbers only. Written by scripts/math_coefficients.py, which says what each one is."
    )
    print('"""\n\n# fmt: off')
    tables = {"float": {}, "double": {}}
    for name, function, interval, single, double in FITS:
        for type, count in (("float", single), ("double", double)):
            if count:
                fitted, error = mp.chebyfit(function, interval, count, error=True)
                tables[type][name] = [float(c) for c in reversed(fitted)], error
    for type, rows in tables.items():
        print(f"\n{type.upper()}: dict[str, tuple[float, ...]] = {{")
        for name, (numbers, error) in rows.items():
            head = f'"{name}": (  # largest error {mp.nstr(error, 2)}'
            show(head, map(repr, numbers), "),", indent="    ")
        print("}")
    print("\n# Functions of |x| in 16 pieces, in float32: row j, column k belongs to t**j on the")
    print("# piece around k times the width, with t = |x| - k * width.")
    for name, function, words, width, degree in LOOKED_UP:
        print(f"\n# {words}; width {float(width)}\n{name} = (")
        pieces = [piece(function, k * width, width, degree) for k in range(PIECES)]
        for j in range(degree + 1):
            show("(", [repr(as_float32(p[j])) for p in pieces], "),", indent="    ")
        print(")")
    print(
        "\n# constants as sums of floats; all but the last have trailing zero bits, so that their"
    )
    print("# product with a small integer is exact")
    print(f"LN2_FLOAT = {parts(mp.log(2), [12])}")
    print(f"LN2_DOUBLE = {parts(mp.log(2), [41])}")
    show("HALF_PI = [", map(repr, parts(mp.pi / 2, [29, 29, 29])), "]")
    print(f"TWO_THIRDS = {parts(mp.mpf(2) / 3, [53])}")
    with mp.workdps(500):
        bits = int(mp.floor(mp.mpf(2) ** 1344 * 2 / mp.pi))
    words = [(bits >> (64 * i)) & (2**64 - 1) for i in range(21)][::-1]
    print("\n# the first 21 * 64 bits of 2 / pi after the point, most significant word first")
    show("TWO_OVER_PI = (", [f"0x{w:016X}" for w in words], ")")


if __name__ == "__main__":
    main()
