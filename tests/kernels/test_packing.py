"""Copies into the order of register tiles, against NumPy: vectors, AMX tiles, rows of blocks.

AMX packing needs no AMX: its code is vectors. Numbers are whole and small, so that bfloat16 holds
them exactly; what must not be read is NaN.
"""

import numpy as np
import pytest

from tests.kernels.lowered_runner import AVX2, VECTOR_TARGETS, WITHOUT_AMX, run_body, untouched
from tinytorch.base.dtypes import (
    OF_NUMPY,
    bfloat16,
    float32,
    from_bfloat16,
    round_to_bfloat16,
)
from tinytorch.kernels.packing import (
    Rows,
    Strip,
    StripCopy,
    amx_paired,
    amx_pairs,
    amx_rounded,
    amx_turned,
    load_row_piece,
    pack_amx_pairs,
    pack_amx_rows,
    pack_rows,
    pack_strip,
    pack_transposed,
    pack_words,
    transpose,
)

every_target = pytest.mark.parametrize("target", VECTOR_TARGETS)
WIDE = WITHOUT_AMX  # AMX tiles are there only beside AVX-512
# how a matrix of (lanes, depth) lies: its lanes side by side, its depth, or neither
LAYOUTS = ["lanes", "depth", "apart"]


def whole(shape, seed=0):
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float32)


def laid_out(x, layout):
    """(memory with NaN where there is no number of x, lane stride, depth stride)."""
    lanes, depth = x.shape
    if layout == "apart":
        memory = np.full((lanes, 2 * depth + 1), np.nan, np.float32)
        memory[:, : 2 * depth : 2] = x
        return memory, 2 * depth + 1, 2
    along = np.full((lanes + 1, depth) if layout == "depth" else (depth + 1, lanes), np.nan)
    along[:-1] = x if layout == "depth" else x.T
    along = along.astype(np.float32)
    return along, *((depth, 1) if layout == "depth" else (1, lanes))


def transposed(target, lanes, type):
    """A square turned by the code."""

    def body(f, p):
        rows = [
            f.load(f.at(p["x"], f.index(i * lanes), type), f"<{lanes} x {type}>")
            for i in range(lanes)
        ]
        for i, row in enumerate(transpose(f, rows)):
            f.store(row, f.at(p["out"], f.index(i * lanes), type))

    x = np.arange(lanes**2, dtype=np.float32 if type == "float" else np.float64)
    out = np.zeros_like(x)
    run_body(target, body, {"x": x, "out": out})
    return x.reshape(lanes, lanes), out.reshape(lanes, lanes)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("type", ["float", "double"])
def test_squares(lanes, type):
    """Ground truth: NumPy's transpose."""
    x, out = transposed(WITHOUT_AMX, lanes, type)
    np.testing.assert_array_equal(out, x.T)


def test_no_square_is_refused():
    """Two vectors of four lanes cannot be turned in registers."""

    def body(f, p):
        transpose(f, [f.const("<4 x float>", 0.0)] * 2)

    with pytest.raises(ValueError, match="a square is needed"):
        run_body(AVX2, body, {"out": np.zeros(1)})


@every_target
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first", [0, 8])
@pytest.mark.parametrize("k0, depth", [(0, 21), (3, 16), (5, 2)])
def test_strips(target, layout, first, k0, depth):
    """Ground truth: NumPy's transpose; lanes past the end may hold anything but what is not there.

    A copy that is not deep enough for squares of vectors is made number by number.
    """
    target = VECTOR_TARGETS[target]
    step, width, lanes = target.lanes(float32), 16, 19
    x = whole((lanes, 21), 1)
    memory, lane_stride, depth_stride = laid_out(x, layout)
    strip = Strip(float32, lane_stride, depth_stride, lanes, float32)

    def body(f, p):
        copy = StripCopy(
            strip, p["x"], f.index(first), width, f.index(k0), f.index(depth), p["out"],
            whole=first + width <= lanes,
        )  # fmt: skip
        pack_strip(f, copy, step, deep=depth >= step)

    out = untouched((depth + 1, width), np.float32)
    run_body(target, body, {"x": memory, "out": out})
    there = min(lanes - first, width)
    np.testing.assert_array_equal(out[:depth, :there], x[first : first + there, k0 : k0 + depth].T)
    assert np.isfinite(out).all() and (out[depth] == 77).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strips_of_other_types_are_rounded(dtype, layout):
    """Ground truth: the definition of bfloat16, which `round_to` names, then float32."""
    x = np.random.default_rng(0).standard_normal((16, 16)).astype(dtype)
    memory, lane_stride, depth_stride = laid_out(x.astype(np.float32), layout)
    strip = Strip(OF_NUMPY[np.dtype(dtype)], lane_stride, depth_stride, 16, float32, bfloat16)

    def body(f, p):
        zero = f.index(0)
        copy = StripCopy(strip, p["x"], zero, 16, zero, f.index(16), p["out"], True)
        pack_strip(f, copy, 16, True)

    out = untouched((16, 16), np.float32)
    run_body(WIDE, body, {"x": memory.astype(dtype), "out": out})
    kept = memory.astype(dtype)
    assert kept.dtype == dtype
    expected = from_bfloat16(round_to_bfloat16(x.astype(np.float32)))
    np.testing.assert_array_equal(out, expected.T)


def in_order(x, order):
    """(lanes, depth) numbers as lines of pairs, or as tiles of 16 lanes by 32: (depth, lanes)."""
    lanes, depth = x.shape
    if order == "lines":
        return np.ascontiguousarray(x.reshape(lanes, depth // 2, 2).transpose(1, 0, 2)).reshape(-1)
    tiles = x.reshape(lanes // 16, 16, depth // 32, 32).transpose(2, 0, 1, 3)
    if order == "paired tiles":
        tiles = tiles.reshape(*tiles.shape[:3], 16, 2).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(tiles).reshape(-1)


@pytest.mark.parametrize("order", ["tiles", "paired tiles", "lines"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("depth, even", [(64, True), (64, False), (45, False), (3, False)])
@pytest.mark.parametrize("lanes, stored", [(32, "float32"), (21, "float32"), (21, "bfloat16")])
def test_strips_of_bfloat16(order, layout, depth, even, lanes, stored):
    """Ground truth: NumPy's reshape; zeros end the summed axis, lanes past the end are finite."""
    x = np.zeros((32, -(-depth // 32) * 32), np.float32)
    x[:lanes, :depth] = whole((lanes, depth), 1)
    memory, lane_stride, depth_stride = laid_out(x[:lanes, :depth], layout)
    dtype = bfloat16 if stored == "bfloat16" else float32
    memory = round_to_bfloat16(memory) if dtype is bfloat16 else memory
    strip = Strip(dtype, lane_stride, depth_stride, lanes, bfloat16)

    def body(f, p):
        zero = f.index(0)
        copy = StripCopy(strip, p["x"], zero, 32, zero, f.index(depth), p["out"], whole=lanes == 32)
        pack_words(f, copy, 16, order, even)

    out = untouched(x.size, np.uint16)
    run_body(WIDE, body, {"x": memory, "out": out})
    got = from_bfloat16(out)
    there = np.zeros((32, x.shape[1]), bool)
    there[:lanes] = True
    kept = in_order(there, order)
    np.testing.assert_array_equal(got[kept], in_order(x, order)[kept])
    assert np.isfinite(got).all()
    beyond = np.zeros_like(there)
    beyond[:, depth:] = True
    assert not got[in_order(beyond, order)].any()


# ---- rows of blocks


@every_target
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("columns", [1, 16, 21])
@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_rows(target, stride, columns, stored):
    """Ground truth: NumPy; a packed row ends in zeros, numbers become float32."""
    target = VECTOR_TARGETS[target]
    n = target.lanes(float32)
    width, rows = -(-columns // n) * n, 3
    x = np.full((rows, columns * stride + 40), np.nan, stored)
    x[:, : columns * stride : stride] = whole((rows, columns), 1)
    type = "half" if stored is np.float16 else "float"

    def body(f, p):
        source = Rows(lambda i: f.at(p["x"], f.mul(i, f.index(x.shape[1])), type), type, stride)
        pack_rows(f, n, source, p["out"], "float", (f.index(rows), columns), width)

    out = untouched((rows + 1, width), np.float32)
    run_body(target, body, {"x": x, "out": out})
    expected = np.zeros((rows, width), np.float32)
    expected[:, :columns] = x[:, : columns * stride : stride]
    np.testing.assert_array_equal(out[:rows], expected)
    assert (out[rows] == 77).all()


@every_target
@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("columns", [1, 16, 21])
def test_turned_rows(target, scale, columns):
    """Ground truth: NumPy's transpose, times the scale: exact for powers of two."""
    target = VECTOR_TARGETS[target]
    n = target.lanes(float32)
    x = whole((2 * n, columns), 1)

    def body(f, p):
        rows = Rows(lambda i: f.at(p["x"], f.mul(i, f.index(columns)), "float"), "float", 1)
        pack_transposed(f, n, rows, p["out"], "float", (2 * n, columns), scale)

    out = untouched((columns + 1, 2 * n), np.float32)
    run_body(target, body, {"x": x, "out": out})
    np.testing.assert_array_equal(out[:columns], scale * x.T)
    assert (out[columns] == 77).all()


def test_one_number_of_a_row():
    """Closed form: a vector of one lane is a number."""

    def body(f, p):
        f.store(load_row_piece(f, p["x"], "half", 5, 1, 1, "float"), p["out"])

    out = np.zeros(1, np.float32)
    run_body(AVX2, body, {"x": np.array([1.5], np.float16), "out": out})
    assert out[0] == 1.5


@pytest.mark.parametrize("exist, columns", [(64, 64), (5, 40), (1, 3)])
def test_amx_rows(exist, columns):
    """Ground truth: NumPy; rows and columns that do not exist are 0, and are not read."""
    x = np.full((exist, columns + 9), np.nan, np.float32)
    x[:, :columns] = whole((exist, columns), 1)
    stored = round_to_bfloat16(x)

    def body(f, p):
        rows = Rows(lambda i: f.at(p["x"], f.mul(i, f.index(columns + 9)), "i16"), "bfloat", 1)
        pack_amx_rows(f, rows, (f.index(exist), columns), p["out"], (64, 64))
        pack_amx_pairs(f, rows, (f.index(exist), columns), p["pairs"], (64, 64))

    out, pairs = (untouched((64, 64), np.uint16) for _ in range(2))
    run_body(WIDE, body, {"x": stored, "out": out, "pairs": pairs})
    assert np.array_equal(pairs.reshape(32, 64, 2), out.reshape(32, 2, 64).swapaxes(1, 2))
    expected = np.zeros((64, 64), np.float32)
    expected[:exist, :columns] = x[:, :columns]
    np.testing.assert_array_equal(from_bfloat16(out), expected)


def test_pairs_and_turned_pairs():
    """Ground truth: NumPy's reshape and transpose."""
    x = np.arange(64 * 32, dtype=np.uint16).reshape(64, 32)

    def body(f, p):
        amx_pairs(f, p["x"], p["pairs"], (64, 32))
        amx_turned(f, p["pairs"], p["turned"], (32, 32))
        amx_turned(f, p["pairs"], p["apart"], (32, 32), 48)

    made = {name: untouched(64 * 48, np.uint16) for name in ("pairs", "turned", "apart")}
    run_body(WIDE, body, {"x": x, **made})
    pairs = x.reshape(32, 2, 32).swapaxes(1, 2)  # (pair, column, 2)
    np.testing.assert_array_equal(made["pairs"][: 64 * 32], pairs.reshape(-1))
    turned = pairs.swapaxes(0, 1)
    np.testing.assert_array_equal(made["turned"][: 64 * 32], turned.reshape(-1))
    apart = made["apart"].reshape(32, 48, 2)
    np.testing.assert_array_equal(apart[:, :32], turned)
    assert (apart[:, 32:] == 77).all()


def test_two_vectors_as_bfloat16():
    """Ground truth: round_to_bfloat16, one after the other and in pairs."""
    x = np.random.default_rng(2).standard_normal((2, 16)).astype(np.float32)

    def body(f, p):
        first, second = (
            f.load(f.at(p["x"], f.index(at), "float"), "<16 x float>") for at in (0, 16)
        )
        f.store(amx_rounded(f, first, second), p["rounded"])
        f.store(amx_paired(f, first, second), p["paired"])

    rounded, paired = np.zeros((2, 16), np.uint16), np.zeros((16, 2), np.uint16)
    run_body(WIDE, body, {"x": x, "rounded": rounded, "paired": paired})
    np.testing.assert_array_equal(rounded, round_to_bfloat16(x))
    np.testing.assert_array_equal(paired, round_to_bfloat16(x).T)
