"""Computes the table of `tinytorch/codegen/erf_table.py` and prints that file.

erf(x) / x on |x| <= 3.87 in 16 pieces of width 1/4 around the multiples of 1/4; each piece is the
polynomial of degree 4 in t = 8 (|x| - centre) that interpolates at the Chebyshev nodes of [-1, 1],
in 40 digits. Needs mpmath:

    python scripts/erf_table.py > tinytorch/codegen/erf_table.py
"""

import struct

from mpmath import mp

mp.dps = 40
DEGREE, PIECES = 4, 16

HEAD = '''"""erf(x) / x in 16 pieces, for processors that look 16 numbers up in one instruction.

Knows numbers only: written by scripts/erf_table.py, which says how. COEFFICIENTS[j][k] belongs to
t**j on the piece around k / 4, with t = 8 (|x| - k / 4).
"""
'''


def ratio(x):
    """erf(x) / x, continued to 0."""
    return mp.erf(x) / x if x else 2 / mp.sqrt(mp.pi)


def piece(centre):
    """The coefficients around one centre, lowest first."""
    nodes = [mp.cos(mp.pi * (2 * k + 1) / (2 * (DEGREE + 1))) for k in range(DEGREE + 1)]
    powers = mp.matrix(DEGREE + 1, DEGREE + 1)
    values = mp.matrix(DEGREE + 1, 1)
    for i, t in enumerate(nodes):
        values[i] = ratio(centre + t / 8)
        for j in range(DEGREE + 1):
            powers[i, j] = t**j
    return list(mp.lu_solve(powers, values))


def as_float32(x):
    """The nearest float32, in as many digits as it takes; 0 for what 40 digits leave of it."""
    x = mp.mpf(0) if abs(x) < mp.mpf("1e-30") else x
    return repr(struct.unpack("<f", struct.pack("<f", float(x)))[0])


table = [piece(mp.mpf(k) / 4) for k in range(PIECES)]
print(HEAD)
print("COEFFICIENTS = (")
for j in range(DEGREE + 1):
    print("    (")
    for row in range(0, PIECES, 4):
        print("        " + ", ".join(as_float32(p[j]) for p in table[row : row + 4]) + ",")
    print("    ),")
print(")")
