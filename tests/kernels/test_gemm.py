"""Matrix product kernels against float64 NumPy, on every target this machine runs."""

from dataclasses import dataclass

import numpy as np
import pytest

from tests.kernels.lowered_runner import AMX, PLAIN, VECTOR_TARGETS, run_lowered, untouched
from tinytorch.base.dtypes import (
    bfloat16,
    float16,
    float32,
    float64,
    from_bfloat16,
    round_to_bfloat16,
)
from tinytorch.codegen.engine import module_text
from tinytorch.codegen.kernel import Operand, RaggedRows, offset_of
from tinytorch.codegen.target import Target
from tinytorch.kernels.gemm import lower_gemm
from tinytorch.kernels.gemm_plan import GemmSpec

HOST = Target.host()
# AMX tiles are emulated where the processor has none
TARGETS = {"amx": AMX, "plain": PLAIN, **VECTOR_TARGETS}
# m, n, k: ones, primes, sizes around registers and tiles, none of them a multiple of the other
SHAPES = [(1, 1, 1), (3, 7, 5), (37, 53, 29), (64, 32, 64), (97, 10, 31), (2, 131, 17), (61, 1, 40)]
STANDARD = ("rows", "rows")


def laid_out(array, layout):
    """The array in memory of a given layout: (buffer, Operand)."""
    dtype = {"float64": float64, "float32": float32, "float16": float16, "uint16": bfloat16}[
        array.dtype.name
    ]
    rank = array.ndim
    if layout == "rows":
        view = np.ascontiguousarray(array)
    elif layout == "columns":
        view = np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    else:  # every second row and third column of something larger, read backwards, not at its start
        *batch, r, c = array.shape
        room = np.full((*batch, 2 * r + 3, 3 * c + 2), 99, array.dtype)
        view = room[..., 2 : 2 * r + 2 : 2, 1 : 3 * c + 1 : 3][..., ::-1, :]
        view[...] = array
    base = view if view.base is None else view.base
    while base.base is not None:
        base = base.base
    first = (
        view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    ) // array.itemsize
    strides = tuple(s // array.itemsize for s in view.strides)
    assert len(strides) == rank
    return base, Operand(dtype, strides, first)


def numbers(shape, dtype, seed):
    """Normal numbers as they are stored, and what they are in float64."""
    x = np.random.default_rng(seed).standard_normal(shape)
    if dtype is bfloat16:
        stored = round_to_bfloat16(x.astype(np.float32))
        return stored, from_bfloat16(stored).astype(np.float64)
    stored = x.astype(dtype.storage)
    return stored, stored.astype(np.float64)


def multiply(
    target, shape, batch=(), layouts=STANDARD, dtype=float32, out_dtype=None, threads=(1,), **more
):
    """Run one product; gives the result, the exact one, and the bound on their difference."""
    m, n, k = shape
    out_dtype = out_dtype or (dtype if dtype is float64 else float32)
    a, exact_a = numbers((*batch, m, k), dtype, 1)
    b, exact_b = numbers((*batch, k, n), dtype, 2)
    if more.get("round_to") is bfloat16:
        exact_a, exact_b = (
            from_bfloat16(round_to_bfloat16(x.astype(np.float32))).astype(np.float64)
            for x in (a, b)
        )
    (base_a, at_a), (base_b, at_b) = laid_out(a, layouts[0]), laid_out(b, layouts[1])
    out = untouched((*batch, m, n), out_dtype.storage)
    at_out = Operand(out_dtype, tuple(s // out.itemsize for s in out.strides))
    lowered = lower_gemm(target, GemmSpec(batch, m, n, k, at_a, at_b, at_out, **more))
    run_lowered(target, lowered, {"a": base_a, "b": base_b, "out": out}, threads)
    # k products and k - 1 sums, each with a relative error of at most eps / 2 (Higham, Accuracy and
    # Stability of Numerical Algorithms, 3.5); AMX truncates inner sums, which doubles it
    eps = np.finfo(np.float64 if dtype is float64 else np.float32).eps
    bound = (k + 1) * eps * (np.abs(exact_a) @ np.abs(exact_b))
    return out, exact_a @ exact_b, bound


def right(result):
    """Whether every element is within its bound."""
    out, exact, bound = result
    assert out.shape == exact.shape
    return (np.abs(out - exact) <= bound).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(target, shape):
    """Ground truth: float64 NumPy, with the bound of a float32 sum of k products."""
    assert right(multiply(TARGETS[target], shape))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("a", ["rows", "columns", "scattered"])
@pytest.mark.parametrize("b", ["rows", "columns", "scattered"])
def test_layouts(target, a, b):
    """Ground truth: float64 NumPy; any strides, negative ones and an offset among them."""
    assert right(multiply(TARGETS[target], (37, 43, 35), layouts=(a, b)))


@pytest.mark.parametrize("dtype", [float64, float16, bfloat16])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layouts", [STANDARD, ("columns", "columns"), ("scattered", "scattered")])
def test_number_types(target, dtype, layouts):
    """Ground truth: float64 NumPy on the stored numbers, which the narrow types hold exactly."""
    assert right(multiply(TARGETS[target], (37, 21, 70), dtype=dtype, layouts=layouts))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layouts", [STANDARD, ("columns", "columns"), ("scattered", "scattered")])
def test_operands_rounded_while_read(target, layouts):
    """Ground truth: float64 NumPy on operands rounded to bfloat16 by `round_to_bfloat16`."""
    assert right(multiply(TARGETS[target], (37, 21, 70), layouts=layouts, round_to=bfloat16))


@pytest.mark.parametrize("target", TARGETS)
def test_bfloat16_result(target):
    """Ground truth: float64 NumPy; storing rounds once more, by at most 2^-8 of the value."""
    out, exact, bound = multiply(TARGETS[target], (20, 40, 96), dtype=bfloat16, out_dtype=bfloat16)
    out = from_bfloat16(out)
    assert (np.abs(out - exact) <= bound + np.abs(exact) * 2**-8).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16])
def test_few_rows_are_dot_products(target, dtype):
    """Ground truth: float64 NumPy; one and two rows with a weight of shape (out, in)."""
    for shape in ((1, 37, 70), (2, 64, 2), (2, 3, 33)):
        assert right(multiply(TARGETS[target], shape, (3,), ("rows", "columns"), dtype))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, bfloat16])
def test_rows_of_bfloat16_in_place(target, dtype):
    """Ground truth: float64 NumPy; k a multiple of 32, so AMX reads a in place, last rows too."""
    for m in (16, 17, 31, 33, 65):
        assert right(multiply(TARGETS[target], (m, 20, 64), dtype=dtype))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, bfloat16])
def test_sums_longer_than_a_stretch(target, dtype):
    """Ground truth: float64 NumPy; k is summed in several stretches, several tiles beside it."""
    assert right(
        multiply(TARGETS[target], (70, 75, 4801), dtype=dtype, layouts=("rows", "columns"))
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16])
@pytest.mark.parametrize("shape", [(70, 389, 900), (389, 70, 900)])
def test_rows_far_apart(target, dtype, shape):
    """Ground truth: float64 NumPy; both operands' rows lie along the summed axis, as in a weight's
    gradient, either matrix is the narrower one, and no size is a multiple of anything."""
    assert right(multiply(TARGETS[target], shape, layouts=("columns", "rows"), dtype=dtype))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(45, 300, 300), (1400, 70, 1024)])
def test_rows_that_collide(target, shape):
    """Ground truth: float64 NumPy; rows of b far apart, and rows of a 4 KB apart."""
    assert right(multiply(TARGETS[target], shape))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, bfloat16])
@pytest.mark.parametrize("layouts", [STANDARD, ("columns", "columns")])
def test_batches(target, dtype, layouts):
    """Ground truth: float64 NumPy; two batch axes, several products in one tile."""
    assert right(multiply(TARGETS[target], (9, 18, 33), (3, 25), dtype=dtype, layouts=layouts))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, bfloat16])
def test_repeated_operands(target, dtype):
    """Ground truth: NumPy's broadcasting; a stride of 0 repeats a matrix along a batch axis."""
    a, exact_a = numbers((4, 1, 20, 40), dtype, 1)
    b, exact_b = numbers((1, 5, 40, 30), dtype, 2)
    out = untouched((4, 5, 20, 30), np.float32)
    spec = GemmSpec(
        (4, 5), 20, 30, 40,
        Operand(dtype, (800, 0, 40, 1)), Operand(dtype, (0, 1200, 30, 1)),
        Operand(float32, (3000, 600, 30, 1)),
    )  # fmt: skip
    run_lowered(TARGETS[target], lower_gemm(TARGETS[target], spec), {"a": a, "b": b, "out": out})
    bound = 41 * 2**-23 * (np.abs(exact_a) @ np.abs(exact_b))
    assert (np.abs(out - exact_a @ exact_b) <= bound).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, bfloat16])
def test_no_products(target, dtype):
    """Closed form: an empty sum is 0."""
    out, _, _ = multiply(TARGETS[target], (5, 21, 0), dtype=dtype)
    assert (out == 0).all()


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3)])
def test_no_results(shape):
    """Closed form: nothing is computed, and nothing fails."""
    out, exact, _ = multiply(HOST, shape)
    assert out.shape == exact.shape


@dataclass(frozen=True)
class Count:
    """An epilogue that adds 1 to a counter for each output element, and stores the sum."""

    out: Operand
    arguments: tuple[str, ...] = ("count", "out")
    key: str = "count"

    def emit(self, f, value, index, mask, pointers):
        at = offset_of(f, self.out, index)
        place = f.at(pointers["count"], at, "float")
        old = f.load(place, value.type, mask=mask)
        f.store(f.add(old, f.const(value.type, 1.0)), place, mask=mask)
        f.store(value, f.at(pointers["out"], at, "float"), mask=mask)

    def prefetch(self, f, index, pointers):
        """It asks for nothing ahead."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, bfloat16])
@pytest.mark.parametrize("shape", [(37, 53, 29), (64, 64, 64), (33, 40, 5000), (1, 3, 2)])
def test_epilogue_is_called_once_for_each_element(target, dtype, shape):
    """Ground truth: a counter for each element, which must be 1, and float64 NumPy."""
    m, n, k = shape
    a, exact_a = numbers((2, m, k), dtype, 1)
    b, exact_b = numbers((2, k, n), dtype, 2)
    out, count = untouched((2, m, n), np.float32), np.zeros((2, m, n), np.float32)
    at_out = Operand(float32, (m * n, n, 1))
    spec = GemmSpec(
        (2,), m, n, k, Operand(dtype, (m * k, k, 1)), Operand(dtype, (k * n, n, 1)), at_out
    )
    lowered = lower_gemm(TARGETS[target], spec, Count(at_out))
    run_lowered(TARGETS[target], lowered, {"a": a, "b": b, "out": out, "count": count})
    assert (count == 1).all()
    bound = (k + 1) * 2**-23 * (np.abs(exact_a) @ np.abs(exact_b))
    assert (np.abs(out - exact_a @ exact_b) <= bound).all()


@pytest.mark.parametrize("target", TARGETS)
def test_same_bits_for_any_number_of_threads(target):
    """Invariant: tiles do not know who runs them."""
    found = [
        multiply(TARGETS[target], (150, 170, 300), dtype=bfloat16, threads=(n,))[0]
        for n in (1, 2, 3)
    ]
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_equal_products_are_one_kernel():
    """Invariant: a name follows from the code, so equal products share it and others do not."""

    def names(n):
        out = Operand(float32, (n, 1))
        spec = GemmSpec((), 40, n, 30, Operand(float32, (30, 1)), Operand(float32, (n, 1)), out)
        return [s.kernel for s in lower_gemm(HOST, spec).steps]

    assert module_text(names(50)) == module_text([*names(50), *names(50)])
    assert not {k.name for k in names(50)} & {k.name for k in names(51)}


def test_operations_of_a_product():
    """Closed form: a multiplication and an addition for each of b m n k."""
    operand = Operand(float32, (0, 0, 0), 0)
    assert GemmSpec((2, 3), 5, 7, 11, operand, operand, operand).flops == 2 * 6 * 5 * 7 * 11


FIRST = (RaggedRows("length.T", 40, 2, 80),)  # of (40, 2) the first ones
RUNS = (RaggedRows("length.T", 128, 1, 384),)  # of (3, 128) the first of each run
BOTH = (RaggedRows("length.B", 3, 128, 384), *RUNS)
LONG = (RaggedRows("length.T", 4160, 1, 8320),)  # runs of which a stretch is no more than a part


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, float64, bfloat16])
@pytest.mark.parametrize("layouts", [STANDARD, ("columns", "columns"), ("columns", "rows")])
@pytest.mark.parametrize("summed", [FIRST, RUNS, BOTH])
def test_a_sum_ends_at_a_length(target, dtype, layouts, summed):
    """Ground truth: float64 NumPy on the places that count; NaN lies on all others."""
    for shape, lengths in (
        ((37, 53), {"B": 3, "T": 40}),
        ((37, 53), {"B": 2, "T": 17}),
        ((1, 40), {"B": 2, "T": 21}),
        ((1, 40), {"B": 1, "T": 1}),
    ):
        ended(TARGETS[target], shape, dtype, layouts, summed, lengths)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, bfloat16])
def test_runs_longer_than_a_stretch(target, dtype):
    """Ground truth: float64 NumPy."""
    ended(TARGETS[target], (20, 40), dtype, ("columns", "rows"), LONG, {"T": 3000})


def ended(target, shape, dtype, layouts, summed, lengths):
    (m, n), k = shape, summed[0].rows
    places, counts = np.arange(k), np.ones(k, bool)
    for rows in summed:
        counts &= places // rows.inner % rows.bound < lengths[rows.argument[-1]]
    nan = round_to_bfloat16(np.full(1, np.nan, "f4"))[0] if dtype is bfloat16 else np.nan
    (a, exact_a), (b, exact_b) = numbers((m, k), dtype, 1), numbers((k, n), dtype, 2)
    a[:, ~counts] = b[~counts] = nan
    exact_a, exact_b = exact_a[:, counts], exact_b[counts]
    (base_a, at_a), (base_b, at_b) = laid_out(a, layouts[0]), laid_out(b, layouts[1])
    out_dtype = dtype if dtype is float64 else float32
    out = untouched((m, n), out_dtype.storage)
    spec = GemmSpec((), m, n, k, at_a, at_b, Operand(out_dtype, (n, 1)), summed=summed)
    buffers = {f"length.{name}": np.array([x]) for name, x in lengths.items()}
    run_lowered(target, lower_gemm(target, spec), {"a": base_a, "b": base_b, "out": out} | buffers)
    eps = np.finfo(out_dtype.storage).eps
    bound = (k + 1) * eps * (np.abs(exact_a) @ np.abs(exact_b))  # as in `multiply`
    assert (np.abs(out - exact_a @ exact_b) <= bound).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [float32, bfloat16])
def test_products_and_rows_that_nobody_needs_are_left_out(target, dtype):
    """Ground truth: the number with which results are filled is still there, NaN is not read."""
    batch, m, n, k = 3, 150, 200, 300
    (a, exact_a), (b, exact_b) = numbers((batch, m, k), dtype, 1), numbers((batch, k, n), dtype, 2)
    at_a, at_b = (Operand(dtype, tuple(s // x.itemsize for s in x.strides)) for x in (a, b))
    out = untouched((batch, m, n), np.float32)
    spec = GemmSpec((batch,), m, n, k, at_a, at_b, Operand(float32, (m * n, n, 1)))
    rows = batch * m
    needed = RaggedRows("length.B", batch, m, rows), RaggedRows("length.T", m, 1, rows)
    lengths = {"length.B": np.array([2]), "length.T": np.array([60])}
    lowered = lower_gemm(TARGETS[target], spec, needed=needed)
    run_lowered(TARGETS[target], lowered, {"a": a, "b": b, "out": out, **lengths})
    wanted = (exact_a @ exact_b)[:2, :60]
    np.testing.assert_allclose(out[:2, :60], wanted, 1e-3, 1e-3)
    assert (out[2] == 77).all() and (out[:2, 100:] == 77).all()  # a block has at most 32 rows
