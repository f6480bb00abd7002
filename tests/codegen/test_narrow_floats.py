"""Ground truth: NumPy's float16, and bfloat16 rounded by bits (base/dtypes.py); to the bit."""

import ctypes
from functools import lru_cache

import numpy as np
import pytest

from tinytorch.base.dtypes import from_bfloat16, round_to_bfloat16
from tinytorch.codegen import engine
from tinytorch.codegen.builder import Function, vector
from tinytorch.codegen.target import Target, runnable_names

LANES = 8


@lru_cache
def compiled(op, source, to, target, n):
    f = Function("k", [("x", "ptr"), ("out", "ptr"), ("n", "i64")])
    with f.loop("i", 0, f.n, n) as i:
        x = f.load(f.at(f.x, i.index, source), vector(n, source))
        wide = vector(n, to)
        made = f.define(wide, f"{op} {x.type} {x.text} to {wide}")
        f.store(made, f.at(f.out, i.index, to))
    text = "\n".join([*sorted(f.declarations), f.finish()])
    library = engine.load([engine.compile_text(text, Target.named(target))], ["k"])
    return library, ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, ctypes.c_int64)(library["k"])


def converted(op, source, to, target, x, dtype, n=LANES):
    out = np.empty(x.shape, dtype)
    assert x.size % n == 0
    compiled(op, source, to, target, n)[1](x.ctypes.data, out.ctypes.data, x.size)
    return out


def floats_around(step):
    """Every pattern of the bits that are kept, with what is dropped below, at and above half.

    `step` is the number of dropped bits of a float32.
    """
    kept = np.arange(2 ** (32 - step), dtype=np.uint32) << np.uint32(step)
    half = 1 << (step - 1)
    low = np.array([0, 1, half - 1, half, half + 1, 2 * half - 1], np.uint32)
    return (kept[:, None] | low).reshape(-1).view(np.float32)


@pytest.mark.parametrize("lanes", [1, LANES, 16])
@pytest.mark.parametrize("target", runnable_names())
def test_to_bfloat16(target, lanes):
    """Every bfloat16, and the float32 numbers on both sides of every tie between two; subnormal
    numbers too, which an instruction of AVX-512 takes for 0."""
    x = floats_around(16)
    x = x[np.isfinite(x)]
    x = x[: x.size // lanes * lanes]
    got = converted("fptrunc", "float", "bfloat", target, x, np.uint16, lanes)
    np.testing.assert_array_equal(got, round_to_bfloat16(x))


@pytest.mark.parametrize("target", runnable_names())
def test_to_float16(target):
    """The ties between every two float16, denormal ones too; overflow; NaN stays NaN."""
    x = floats_around(13)[: 6 * (1 << 19)]
    x = x[(np.abs(x) > 2.0**-26) | ~np.isfinite(x)]
    x = x[: x.size // LANES * LANES]
    got = converted("fptrunc", "float", "half", target, x, np.float16)
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
    np.testing.assert_array_equal(got.view(np.uint16)[x == x], want.view(np.uint16)[x == x])
    assert np.isnan(got[x != x]).all()


@pytest.mark.parametrize("target", runnable_names())
def test_from_narrow_floats(target):
    """Every number that is no NaN comes back exactly."""
    bits = np.arange(2**16, dtype=np.uint16)
    for kind, wide in (
        ("bfloat", from_bfloat16(bits)),
        ("half", bits.view(np.float16).astype(np.float32)),
    ):
        got = converted("fpext", kind, "float", target, bits, np.float32)
        np.testing.assert_array_equal(got, wide)
