"""Sorting kernels against NumPy's stable sort, bit for bit: every way, number type and layout."""

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import graph_of, program_of, run
from tests.kernels.line_samples import DTYPES, TARGETS, every_target, generator, kind, stored
from tests.kernels.lowered_runner import run_lowered, untouched
from tinytorch.base.dtypes import float32, int64
from tinytorch.codegen.kernel import LEAST_TILES, Operand
from tinytorch.kernels.sorting import COUNTED, SHARED, SortSpec, lower_sort
from tinytorch.primitives import TABLE

# shape, axis: counted (one element, one vector, ragged, lines side by side), byte by byte, shared
SHORT = [((1,), 0), ((7,), 0), ((5, 19), 0), ((5, 19), 1), ((3, 4, 33), 1), ((2, COUNTED), 1)]
LINES = [((3, COUNTED + 1), 1), ((200, 3), 0), ((2, 3, 257), 2)]
SHARED_LINES = [((SHARED,), 0), ((2, SHARED + 4099), 1), ((SHARED + 1, 2), 0)]


def awkward(shape, dtype, seed=0):
    """Many equal numbers, both zeros, infinities, NaN of both signs; of integers the extremes."""
    rng = generator(seed)
    if dtype in ("bfloat16", "float16", "float32", "float64"):
        x = rng.normal(size=shape).astype("float32" if dtype == "bfloat16" else dtype).round(1)
        for number in (np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf):
            x[rng.random(shape) < 0.06] = number
        return x
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    for number in (limits.min, limits.max, 0, 1):
        x[rng.random(shape) < 0.1] = number
    return x


def assert_sorted(x, dtype, axis, target, threads=(1, 3)):
    """The definition's answer, to the last bit, for both rows."""
    held = stored(x, dtype)
    for name in ("sort", "argsort"):
        graph = graph_of(name, [held], {"axis": axis})
        wanted = TABLE[name].evaluate((held,), (kind(x, dtype),), {"axis": axis})
        program = program_of(graph, target)
        assert not program.host_calls
        for count in threads:
            (out,), _ = run(program, graph, {graph.arguments[0]: held}, count)
            assert out.dtype == wanted.dtype and out.shape == wanted.shape
            same = out.tobytes() == np.ascontiguousarray(wanted).tobytes()
            assert same, (name, dtype, x.shape, axis, count)


@every_target
@pytest.mark.parametrize("shape, axis", [*SHORT, *LINES])
def test_lines_of_every_length(shape, axis, target):
    """Ground truth: NumPy's stable sort, bit for bit: order of zeros and bits of NaN too."""
    assert_sorted(awkward(shape, "float32"), "float32", axis, target)


@pytest.mark.parametrize("dtype", [*DTYPES, "int16", "int32", "uint32"])
@pytest.mark.parametrize(
    "shape, axis", [((3, 40), 1), ((300, 2), 0), ((2, 219), 1), ((SHARED + 7,), 0)], ids=str
)
def test_every_kind_of_number(shape, axis, dtype):
    """Ground truth: NumPy's stable sort, bit for bit."""
    assert_sorted(awkward(shape, dtype), dtype, axis, TARGETS[0])


@every_target
@pytest.mark.parametrize("shape, axis", SHARED_LINES, ids=str)
def test_long_lines_are_shared(shape, axis, target):
    """Ground truth: NumPy's stable sort; a line's work lies in several tiles of its kernels."""
    assert_sorted(awkward(shape, "float32"), "float32", axis, target, threads=(1, 2, 3))


@pytest.mark.parametrize("lines", [1, LEAST_TILES])
def test_who_shares_a_line(lines):
    """Invariant: a line is cut in parts where there are fewer lines than threads could take."""
    dense = Operand(float32, (SHARED,))
    spec = SortSpec((lines,), SHARED, dense, 1, Operand(float32, (SHARED,)), 1, False)
    steps = lower_sort(TARGETS[0], spec).steps
    tiles = max(step.kernel.tiles for step in steps)
    assert tiles >= LEAST_TILES and (len(steps) == 1) == (lines > 1)


@every_target
@pytest.mark.parametrize("n", [9, 130, SHARED])
def test_any_strides_and_offsets(n, target):
    """Ground truth: NumPy on the same views, a line read backwards; nothing beside is written."""
    x = awkward((3, 2 * n + 1), "float32")
    out = untouched((n + 2, 5), np.int64)
    spec = SortSpec(
        (3,), n, Operand(float32, (2 * n + 1,), 2 * n - 1), -2, Operand(int64, (1,), 5 + 1), 5, True
    )
    run_lowered(target, lower_sort(target, spec), {"x": x, "out": out})
    wanted = np.argsort(x[:, 2 * n - 1 :: -2], 1, kind="stable")
    np.testing.assert_array_equal(out[1 : n + 1, 1:4], wanted.T)
    out[1 : n + 1, 1:4] = 77
    assert (out == 77).all()


def test_descending_needs_no_host_call():
    """Ground truth: NumPy on the reversed line; `sort` and `topk` of Tensors, compiled."""
    x = awkward((4, 50), "float32")
    f = tt.compile(lambda x: (*tt.sort(x, 1, descending=True), *tt.topk(x, 3, 1)))
    values, places, best, at = (t.numpy() for t in f(tt.Tensor(x)))
    backwards = 49 - np.argsort(x[:, ::-1], 1, kind="stable")[:, ::-1]
    np.testing.assert_array_equal(places, backwards)
    np.testing.assert_array_equal(values, np.take_along_axis(x, backwards, 1))
    np.testing.assert_array_equal(at, backwards[:, :3])
    np.testing.assert_array_equal(best, values[:, :3])
    assert "host calls: 0" in f.explain()
