"""Ground truth: NumPy's long double and the C library's erf, at dense and special inputs.

Bounds are in units in the last place of the result. They are those of the table in vector_math's
docstring, which are the largest seen against 60-digit arithmetic, rounded up; the truth here is
itself within one unit of double, so the bounds for double have one added.
"""

import ctypes
import math
from functools import lru_cache

import numpy as np
import pytest

from tests.primitives.truths import TRUTHS
from tinytorch.codegen import engine, vector_math
from tinytorch.codegen.builder import Function, vector
from tinytorch.codegen.target import Target, runnable_names

LONG = np.longdouble
TYPES = {"float": np.float32, "double": np.float64}
BOUND = {
    "exp": 1.2, "log": 1.0, "tanh": 2.5, "erf": 1.5, "sin": 2.0, "cos": 2.0, "pow": 1.2,
    "sqrt": 0.5, "rsqrt": 1.5, "floor": 0, "ceil": 0, "round": 0,
}  # fmt: skip
UNARY = [name for name in BOUND if name != "pow"]
SPECIAL = [
    0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.5, -0.5, 2.5, 1e-45, -1e-45, 5e-324,
    1e-310, 1e-40, -1e-40, 3e38, -3e38, 1.7e308, 88.72, 88.73, -87.4, -103.2, -103.9, -104.1, 709.7,
    710.0, -740.0, -745.0, -746.0, 8388607.5, 8388609.0,
]  # fmt: skip


@lru_cache
def compiled(name, type, target, lanes, arguments=1, told=False):
    f = Function("k", [(f"x{i}", "ptr") for i in range(arguments)] + [("out", "ptr"), ("n", "i64")])
    with f.loop("i", 0, f.n, lanes) as i:
        wide = vector(lanes, type)
        xs = [f.load(f.at(getattr(f, f"x{j}"), i.index, type), wide) for j in range(arguments)]
        f.target = Target.named(target) if told else None
        f.store(getattr(vector_math, name)(f, *xs), f.at(f.out, i.index, type))
    text = "\n".join([*sorted(f.declarations), f.finish()])
    image = engine.compile_text(text, Target.named(target))
    library = engine.load([image], ["k"])
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arguments + 1), ctypes.c_int64)
    return library, signature(library["k"])


def apply(name, target, *arrays, lanes=None, told=False):
    dtype = arrays[0].dtype
    type = {np.dtype(d): t for t, d in TYPES.items()}[dtype]
    lanes = lanes or Target.named(target).vector_bytes // dtype.itemsize
    _, function = compiled(name, type, target, lanes, len(arrays), told)
    n = arrays[0].size
    padded = -(-n // lanes) * lanes
    arrays = [np.concatenate([a, np.ones(padded - n, dtype)]) for a in arrays]
    out = np.empty(padded, dtype)
    function(*(a.ctypes.data for a in arrays), out.ctypes.data, padded)
    return out[:n]


def truth(name, x):
    with np.errstate(all="ignore"):
        if name == "erf":
            return np.array([math.erf(v) for v in x], LONG)
        x = x.astype(LONG)
        if name == "rsqrt":
            return 1 / np.sqrt(x)
        return getattr(np, "rint" if name == "round" else name)(x)


def worst(got, want):
    """The largest error in units of the last place; infinite where a special result differs."""
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        unit = np.spacing(np.abs(rounded)).astype(LONG)
        error = np.abs(got.astype(LONG) - want) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    finite = np.isfinite(rounded) & np.isfinite(got)
    return np.where(finite, error, np.where(same, 0, np.inf)).max()


def inputs(dtype):
    random = np.random.default_rng(1)
    wide = 44 if dtype == np.float32 else 320
    exponents = random.uniform(-wide, wide * 0.86, 3000)
    parts = [
        SPECIAL, random.uniform(-110, 92, 3000), random.uniform(-2, 2, 3000),
        random.uniform(-1e5, 1e5, 2000), np.arange(-200, 200) * (math.pi / 2),
        np.arange(-40, 40) / 2, 1 + random.uniform(-1e-3, 1e-3, 500),
        10.0**exponents, -(10.0**exponents), random.uniform(-750, 712, 2000),
    ]  # fmt: skip
    with np.errstate(over="ignore"):
        return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("type", TYPES)
def test_error_is_within_the_stated_bound_on_every_target(name, type):
    """Ground truth: long double (erf: the C library's), over the whole range and special values."""
    x = inputs(TYPES[type])
    want = truth(name, x)
    exact = BOUND[name] in (0, 0.5)
    bound = BOUND[name] + (1 if type == "double" and not exact else 1e-3)
    for target in runnable_names():
        assert worst(apply(name, target, x), want) <= bound, target


def test_erf_by_table_is_within_its_bound():
    """Ground truth: the C library's erf, dense over every piece of the table and beyond."""
    if "avx512" not in runnable_names():
        return  # the table is for AVX-512 alone; every target's other erf is tested above
    pieces = np.linspace(-4.5, 4.5, 200_003).astype(np.float32)
    x = np.concatenate([inputs(np.float32), pieces, pieces / 64])
    assert worst(apply("erf", "avx512", x, told=True), truth("erf", x)) <= 3.0  # 2.85 seen


# Units of 1 that a lane may be off, for each |x| of gelu. The truth is itself within one of double.
OFF = {"gelu": 3.0, "gelu_slope": 4.0}


@pytest.mark.parametrize("told", [False, True], ids=["by formula", "by table"])
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("name", OFF)
def test_gelu_and_its_slope_are_within_their_bounds(name, type, told):
    """Ground truth: the C library's erfc, dense over every piece of the table and beyond."""
    dtype = TYPES[type]
    pieces = np.linspace(-6.5, 6.5, 60_003)
    x = np.concatenate([inputs(dtype), pieces, pieces / 64]).astype(dtype)
    want = TRUTHS[name][0](x.astype(np.float64))
    unit = np.finfo(dtype).eps * (np.abs(x).astype(LONG) if name == "gelu" else 1)
    unit = unit + np.finfo(dtype).smallest_subnormal
    for target in runnable_names():
        got = apply(name, target, x, told=told)
        with np.errstate(all="ignore"):
            same = (got == want.astype(dtype)) | (np.isnan(got) & np.isnan(want))
            near = np.abs(got.astype(LONG) - want) <= OFF[name] * unit
        assert (same | (near & np.isfinite(got))).all(), target


@pytest.mark.parametrize("type", TYPES)
def test_power(type):
    """Ground truth: long double powers; C99 Annex F.9.4.4 through NumPy for special values."""
    dtype = TYPES[type]
    random = np.random.default_rng(2)
    x = np.concatenate([10.0 ** random.uniform(-30, 30, 2000), random.uniform(0.5, 2, 2000)])
    y = np.concatenate([random.uniform(-9, 9, 2000), random.uniform(-90, 90, 2000)])
    if type == "double":
        y[2000:] *= 10
    x, y = x.astype(dtype), y.astype(dtype)
    special = np.array(
        [0, -0.0, 1, -1, 2, -2, 0.5, 3, -3, math.inf, -math.inf, math.nan, 2.5, 1e30]
    )
    sx, sy = (a.ravel() for a in np.meshgrid(special.astype(dtype), special.astype(dtype)))
    with np.errstate(all="ignore"):
        want, special_want = np.power(x.astype(LONG), y.astype(LONG)), np.power(sx, sy)
    for target in runnable_names():
        assert worst(apply("pow", target, x, y), want) <= BOUND["pow"] + 0.5, target
        got = apply("pow", target, sx, sy)
        assert worst(got, special_want.astype(LONG)) <= 2, target  # NumPy's own power is rounded
        numbers = ~np.isnan(special_want)
        assert (np.signbit(got) == np.signbit(special_want))[numbers].all(), target


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "floor", "ceil", "round", "sqrt"])
@pytest.mark.parametrize("type", TYPES)
def test_zeros_keep_their_sign(name, type):
    """Ground truth: C99 Annex F: odd functions and roundings of -0 are -0."""
    x = np.array([0.0, -0.0], TYPES[type])
    for target in runnable_names():
        got = apply(name, target, x)
        assert (got == 0).all() and np.signbit(got).tolist() == [False, True], target


@pytest.mark.parametrize("name", UNARY)
def test_a_lane_does_not_know_its_width(name):
    """Invariant: scalar code and every vector width give the same bits."""
    x = inputs(np.float32)[::7]
    target = runnable_names()[0]
    results = [apply(name, target, x, lanes=n).view(np.uint32) for n in (1, 4, 16, 32)]
    nan = np.isnan(apply(name, target, x))
    for other in results[1:]:
        assert ((results[0] == other) | nan).all()


@pytest.mark.parametrize("type", TYPES)
def test_exp_told_its_target_gives_the_same_bits(type):
    """Invariant: the scaling instruction of AVX-512 rounds as the two factors do."""
    x = inputs(TYPES[type])
    for target in runnable_names():
        plain, told = apply("exp", target, x), apply("exp", target, x, told=True)
        assert np.array_equal(plain, told, equal_nan=True)


def test_exp_of_nonpositive_needs_no_upper_check():
    """Invariant: on x <= 0 the promise changes no bit."""
    f = Function("f", [("x", "<4 x float>")], "<4 x float>")
    vector_math.exp(f, f.x)
    checked = len(f.lines)
    vector_math.exp(f, f.x, nonpositive=True)
    assert len(f.lines) - checked < checked


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_huge_arguments_are_reduced_exactly(name):
    """Ground truth: 60-digit values computed with mpmath 1.3, among them the double nearest to a
    multiple of pi / 2 (Muller, Elementary Functions, 2006: 6381956970095103 * 2^797)."""
    x = np.array([6381956970095103.0 * 2.0**797, 1e22, 1e300, -1e22, 2.0**1000])
    want = {
        "sin": [1.0, -0.8522008497671888, -0.8178819121159085, 0.8522008497671888,
                -0.15920170308624243],
        "cos": [-4.687165924254624e-19, 0.5232147853951389, -0.5753861119575491, 0.5232147853951389,
                0.9872460775989134],
    }[name]  # fmt: skip
    for target in runnable_names():
        assert apply(name, target, x) == pytest.approx(want, rel=5e-16), target
