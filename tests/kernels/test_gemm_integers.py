"""Products of bytes, exact: int8 and uint8 against int64 NumPy, on every target this machine runs.

Sums are int32 and wrap, so that the low 32 bits of NumPy's int64 sums are the only right answer.
"""

import numpy as np
import pytest

from tests.kernels.lowered_runner import (
    AMX,
    FEWER_BYTES,
    HERE,
    VECTOR_TARGETS,
    run_lowered,
    untouched,
)
from tinytorch.base.dtypes import int8, int32, uint8
from tinytorch.codegen.kernel import Operand
from tinytorch.kernels.gemm import lower_gemm
from tinytorch.kernels.gemm_plan import GemmSpec

TARGETS = {"amx": AMX, **FEWER_BYTES, **VECTOR_TARGETS}
every_target = pytest.mark.parametrize("target", TARGETS)
TYPES = {"int8": int8, "uint8": uint8}
# Two products of the extremes fit in no int16: an instruction that adds up pairs of bytes there
# would saturate (VPMADDUBSW), and one that adds up in int32 with saturation (VPDPBUSDS) shows in
# long sums of them.
EXTREMES = {"int8": (-128, 127, -1, 1), "uint8": (0, 255, 128, 127)}
ROWS, COLUMNS, APART = "rows", "columns", "apart"


def stored(shape, type, seed, extreme):
    """Numbers of a type: any, or the extremes only."""
    rng = np.random.default_rng(seed)
    if extreme:
        return rng.choice(EXTREMES[type], shape).astype(type)
    limits = np.iinfo(type)
    return rng.integers(limits.min, limits.max + 1, shape).astype(type)


def laid_out(x, layout):
    """(memory, Operand) of numbers that lie along rows, along columns, or apart and backwards."""
    dtype = TYPES[x.dtype.name]
    if layout == COLUMNS:
        memory = np.ascontiguousarray(x.swapaxes(-1, -2))
        view = memory.swapaxes(-1, -2)
    elif layout == ROWS:
        memory = view = np.ascontiguousarray(x)
    else:
        *batch, r, c = x.shape
        memory = np.full((*batch, 2 * r, 3 * c), 99, x.dtype)
        view = memory[..., ::2, ::3][..., ::-1, :]
        view[...] = x
    offset = view.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    return memory, Operand(dtype, view.strides, offset)


def multiply(
    target, shape, batch=(), types=("int8", "int8"), layouts=(ROWS, ROWS), *, extreme=True,
    threads=(1,),
):  # fmt: skip
    """Run one product and compare every number."""
    m, n, k = shape
    a, b = (
        stored((*batch, m, k), types[0], 1, extreme),
        stored((*batch, k, n), types[1], 2, extreme),
    )
    (base_a, at_a), (base_b, at_b) = laid_out(a, layouts[0]), laid_out(b, layouts[1])
    out = untouched((*batch, m, n), np.int32)
    at_out = Operand(int32, tuple(s // 4 for s in out.strides))
    lowered = lower_gemm(target, GemmSpec(batch, m, n, k, at_a, at_b, at_out))
    run_lowered(target, lowered, {"a": base_a, "b": base_b, "out": out}, threads)
    exact = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    np.testing.assert_array_equal(out, exact)


@every_target
@pytest.mark.parametrize("extreme", [True, False])
@pytest.mark.parametrize("a", TYPES)
@pytest.mark.parametrize("b", TYPES)
def test_types(target, a, b, extreme):
    """Ground truth: int64 NumPy; both signs of both operands, the ends of their ranges alone."""
    for shape in ((37, 53, 29), (64, 64, 128)):
        multiply(TARGETS[target], shape, types=(a, b), extreme=extreme)


@every_target
@pytest.mark.parametrize("a", [ROWS, COLUMNS, APART])
@pytest.mark.parametrize("b", [ROWS, COLUMNS, APART])
def test_layouts(target, a, b):
    """Ground truth: int64 NumPy; any strides, negative ones and an offset among them."""
    multiply(TARGETS[target], (37, 43, 70), layouts=(a, b), extreme=False)


@pytest.mark.parametrize("target", [HERE.name, "vector128"])
def test_ragged_sizes(target):
    """Ground truth: int64 NumPy; rows, columns and depths from 1 to 70."""
    for i in range(1, 71, 3):
        layouts = (ROWS, COLUMNS) if i % 2 else (COLUMNS, ROWS)
        multiply(TARGETS[target], (i, 71 - i, 1 + i * 7 % 70), layouts=layouts)


@every_target
@pytest.mark.parametrize("a", TYPES)
@pytest.mark.parametrize("b", TYPES)
def test_few_rows(target, a, b):
    """Ground truth: int64 NumPy; one and two rows with a weight of shape (out, in)."""
    for shape in ((1, 37, 200), (2, 64, 64), (2, 3, 33)):
        multiply(TARGETS[target], shape, (3,), (a, b), (ROWS, COLUMNS))


@every_target
@pytest.mark.parametrize("types", [("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8")])
def test_few_long_rows(target, types):
    """Ground truth: int64 NumPy; so deep that widened rows are gone through in parts, which end at
    k's end, behind it and before it."""
    for shape in ((8, 21, 2048), (8, 3, 1024), (5, 13, 3011), (1, 37, 8192 + 16)):
        multiply(TARGETS[target], shape, (), types, (ROWS, COLUMNS), threads=(1, 2))


@every_target
def test_sums_wrap(target):
    """Closed form: 140,000 products of (-128)^2 pass 2^31 and come out 2^32 too small."""
    m, n, k = 3, 5, 140_000
    a, b = np.full((m, k), -128, np.int8), np.full((k, n), -128, np.int8)
    out = untouched((m, n), np.int32)
    spec = GemmSpec(
        (), m, n, k, Operand(int8, (k, 1)), Operand(int8, (n, 1)), Operand(int32, (n, 1))
    )
    lowered = lower_gemm(TARGETS[target], spec)
    run_lowered(TARGETS[target], lowered, {"a": a, "b": b, "out": out})
    assert (out == k * 128 * 128 - 2**32).all()


@every_target
def test_sums_longer_than_a_stretch(target):
    """Ground truth: int64 NumPy; k is summed in several stretches, several tiles beside it."""
    multiply(TARGETS[target], (70, 75, 9001))
    multiply(TARGETS[target], (70, 40, 9001), types=("uint8", "int8"), layouts=(COLUMNS, COLUMNS))


@every_target
@pytest.mark.parametrize("layouts", [(ROWS, ROWS), (COLUMNS, COLUMNS)])
def test_batches(target, layouts):
    """Ground truth: int64 NumPy; two batch axes, several products in one tile."""
    multiply(TARGETS[target], (9, 18, 33), (3, 25), layouts=layouts)


@every_target
def test_repeated_operands(target):
    """Ground truth: NumPy's broadcasting; a stride of 0 repeats a matrix along a batch axis."""
    a, b = stored((4, 1, 20, 40), "int8", 1, True), stored((1, 5, 40, 30), "int8", 2, True)
    out = untouched((4, 5, 20, 30), np.int32)
    spec = GemmSpec(
        (4, 5), 20, 30, 40, Operand(int8, (800, 0, 40, 1)), Operand(int8, (0, 1200, 30, 1)),
        Operand(int32, (3000, 600, 30, 1)),
    )  # fmt: skip
    run_lowered(TARGETS[target], lower_gemm(TARGETS[target], spec), {"a": a, "b": b, "out": out})
    exact = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    np.testing.assert_array_equal(out, exact)


@every_target
def test_any_number_of_threads(target):
    """Ground truth: int64 NumPy; several tiles, rows read in place and copied."""
    for n in (1, 2, 3) if TARGETS[target] is not AMX else (1,):
        multiply(TARGETS[target], (150, 170, 300), threads=(n,))
        multiply(TARGETS[target], (150, 170, 300), types=("uint8", "int8"), threads=(n,))
