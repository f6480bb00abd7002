"""Micro-kernels alone: what packs their operands and what multiplies them, against NumPy.

Numbers are whole and small: products and sums are exact in every type.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.lowered_runner import AMX, VECTOR_TARGETS, run_kernel, untouched
from tinytorch.base.dtypes import OF_NUMPY, bfloat16, float32, round_to_bfloat16
from tinytorch.codegen.kernel import Operand, named_kernel
from tinytorch.kernels.gemm_arithmetic import AmxTiles, Dot, MultiplyAdd, Sums, arithmetic_of
from tinytorch.kernels.gemm_plan import GemmSpec
from tinytorch.kernels.packing import StripCopy

TARGETS = {"amx": AMX, **VECTOR_TARGETS}


def spec_of(m, n, k, dtype, b=None):
    """A product of dense rows; b: strides of its rows and columns."""
    return GemmSpec(
        (), m, n, k, Operand(dtype, (k, 1)), Operand(dtype, b or (n, 1)), Operand(float32, (n, 1))
    )


def whole(shape, seed):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


def block(target, arithmetic, a, b, sums, before=None):
    """What the micro-kernel makes of one block of rows and one panel, packed if they must be."""
    spec, plan = arithmetic.spec, arithmetic.plan
    micro = arithmetic.micro_kernel(sums)
    packed = arithmetic.packed
    width = sums.vectors * plan.lanes
    k = -(-spec.k // arithmetic.granule) * arithmetic.granule
    strips = {
        "a": (arithmetic.strip(spec.a, *spec.a.strides, spec.m), plan.stride_a, plan.pack_a),
        "b": (arithmetic.strip(spec.b, *reversed(spec.b.strides), spec.n), width, plan.pack_b),
    }

    def body(f, p):
        arithmetic.begin(f)
        given = {}
        zero, depth = f.index(0), f.index(spec.k)
        for side, (strip, lanes, how) in strips.items():
            given[side] = p[side]
            copy = StripCopy(strip, p[side], zero, lanes, zero, depth, p["packed_" + side], False)
            if how != "direct":
                arithmetic.pack(f, side, copy, spec.k >= plan.lanes)
                given[side] = p["packed_" + side]
            elif side == "a":
                arithmetic.pack_rest(f, copy, f.index(sums.rows))
        rest = f.index(min(spec.n, width))
        arguments = (given["a"], given["b"], p["c"], depth, rest, p["packed_a"])
        f.call("void", f"@@.{micro.suffix}", *arguments)

    buffers = {
        "a": a, "b": b, "c": untouched((32, sums.row), np.float32) if before is None else before,
        "packed_a": np.zeros(plan.stride_a * (k + 32), packed.storage),
        "packed_b": np.zeros(width * (k + 32), packed.storage),
    }  # fmt: skip
    kernel = named_kernel(
        "block", tuple(buffers), body, tiles=1, scratch=4096,
        helpers=lambda name: [micro.write(f"{name}.{micro.suffix}")],
    )  # fmt: skip
    run_kernel(target, kernel, buffers)
    return buffers["c"]


@pytest.mark.parametrize("target", VECTOR_TARGETS)
@pytest.mark.parametrize("how", [("direct", "direct"), ("tile", "tile"), ("direct", "tile")])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_multiply_add(target, how, dtype):
    """Ground truth: NumPy; operands in place or packed, a panel that ends within a vector."""
    if dtype is np.float16 and "direct" in how:
        how = ("tile", "tile")  # what must be converted is packed
    target = VECTOR_TARGETS[target]
    m, k = 3, 21
    n = target.lanes(float32) + 1
    spec = spec_of(m, n, k, OF_NUMPY[np.dtype(dtype)])
    plan = replace(arithmetic_of(target, spec).plan, vectors=2, pack_a=how[0], pack_b=how[1])
    a, b = whole((m, k), 1).astype(dtype), whole((k, n), 2).astype(dtype)
    row = 2 * plan.lanes
    sums = Sums(m, 2, how[1] == "direct", row, False)
    c = block(target, MultiplyAdd(spec, plan), a, b, sums)
    np.testing.assert_array_equal(c[:m, :n], a.astype(float) @ b.astype(float))
    assert (c[m:] == 77).all()
    again = block(target, MultiplyAdd(spec, plan), a, b, replace(sums, add=True), c)
    np.testing.assert_array_equal(again[:m, :n], 2 * (a.astype(float) @ b.astype(float)))


@pytest.mark.parametrize("target", VECTOR_TARGETS)
@pytest.mark.parametrize("k", [2, 16, 37])
def test_dot(target, k):
    """Ground truth: NumPy; columns along k, a panel with fewer columns than lanes."""
    target = VECTOR_TARGETS[target]
    lanes = target.lanes(float32)
    a = whole((1, k), 1).astype(np.float32)
    for n in (lanes, lanes - 1):
        b = whole((n, k), 2).astype(np.float32)
        spec = spec_of(1, n, k, float32, (1, k))
        arithmetic = arithmetic_of(target, spec)
        assert isinstance(arithmetic, Dot)
        c = block(target, arithmetic, a, b, Sums(1, 1, n < lanes, lanes, False))
        np.testing.assert_array_equal(c[0, :n], (a @ b.T)[0])


@pytest.mark.parametrize("rows", [16, 19, 32])
@pytest.mark.parametrize("how", ["direct", "tile"])
@pytest.mark.parametrize("k", [32, 96, 70, 5])
@pytest.mark.parametrize("vectors", [1, 2])
def test_amx_tiles(rows, how, k, vectors):
    """Ground truth: NumPy; rows in place, whose last, incomplete, 32 of k are packed apart, or
    packed; a block of fewer rows than two tiles."""
    n = 16 * vectors - 3
    spec = spec_of(rows, n, k, bfloat16)
    arithmetic = arithmetic_of(AMX, spec)
    assert isinstance(arithmetic, AmxTiles)
    plan = replace(arithmetic.plan, vectors=vectors, pack_a=how)
    a, b = whole((rows, k), 1).astype(np.float32), whole((k, n), 2).astype(np.float32)
    arithmetic = AmxTiles(spec, plan)
    sums = Sums(rows, vectors, False, 16 * vectors, False)
    stored = round_to_bfloat16(a), round_to_bfloat16(b)
    c = block(AMX, arithmetic, *stored, sums)
    np.testing.assert_array_equal(c[:rows, :n], a @ b)
    again = block(AMX, arithmetic, *stored, replace(sums, add=True), c.copy())
    np.testing.assert_array_equal(again[:rows, :n], 2 * (a @ b))


def test_who_multiplies():
    """Ground truth: one row along k is a dot product, bfloat16 goes to AMX tiles, all else to
    multiply-adds."""
    assert isinstance(arithmetic_of(AMX, spec_of(9, 9, 9, bfloat16)), AmxTiles)
    assert isinstance(arithmetic_of(AMX, spec_of(9, 9, 9, float32)), MultiplyAdd)
    assert isinstance(arithmetic_of(TARGETS["avx2"], spec_of(9, 9, 9, bfloat16)), MultiplyAdd)
    assert isinstance(arithmetic_of(AMX, spec_of(1, 9, 9, bfloat16, (1, 9))), Dot)
