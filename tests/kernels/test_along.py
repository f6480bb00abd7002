"""Kernels along one axis, and at run-time places, against the table's definitions."""

import numpy as np
import pytest

from tests.compiler.graph_runner import GraphRun, assert_defined, new_graph
from tinytorch.base.dtypes import OF_NUMPY, bfloat16, dtype_named, round_to_bfloat16
from tinytorch.base.errors import IndexRangeError
from tinytorch.codegen.target import Target
from tinytorch.primitives import TABLE

TARGETS = [Target.named(name) for name in ("avx512", "avx2", "vector128")]
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
# shape, axis: one line, lines that end within a vector, the axis first, last and in the middle
LINES = [((7,), 0), ((5, 19), 0), ((5, 19), 1), ((3, 4, 33), 1), ((2, 3, 1), 2), ((1, 6, 17), 0)]
DTYPES = ("float32", "float64", "float16", "int8", "uint8", "int64", "bfloat16")


def generator(seed):
    return np.random.Generator(np.random.PCG64(seed))


def whole(shape, dtype, seed=0):
    """Small whole numbers, so that sums are exact and equal elements occur."""
    return generator(seed).integers(0, 5, shape).astype("float32" if dtype == "bfloat16" else dtype)


def stored(x, dtype):
    return round_to_bfloat16(x) if dtype == "bfloat16" else x


def kind(x, dtype):
    return bfloat16 if dtype == "bfloat16" else OF_NUMPY[x.dtype]


@every_target
@pytest.mark.parametrize("name", ["argmax", "argmin", "cumsum"])
@pytest.mark.parametrize("shape, axis", LINES)
def test_positions_and_running_sums(name, shape, axis, target):
    """Ground truth: the definition, exactly; NaN and infinities are among the numbers."""
    x = whole(shape, "float32")
    if name != "cumsum":
        x[generator(1).random(shape) < 0.1] = np.nan
        x[generator(2).random(shape) < 0.1] = -np.inf
    assert_defined(name, [x], {"axis": axis}, target)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["argmax", "argmin", "cumsum"])
def test_every_kind_of_number(name, dtype):
    """Ground truth: the definition, exactly (whole numbers)."""
    x = whole((3, 18, 5), dtype)
    assert_defined(name, [stored(x, dtype)], {"axis": 1}, TARGETS[0], dtypes=[kind(x, dtype)])


@every_target
@pytest.mark.parametrize("shape, axis", LINES)
@pytest.mark.parametrize("count", [2, 9])
def test_picking_and_adding_along_an_axis(shape, axis, count, target):
    """Ground truth: the definition; equal and negative indices, whole numbers."""
    n = shape[axis]
    places = (*shape[:axis], count, *shape[axis + 1 :])
    index = generator(3).integers(-n, n, places).astype(np.int32)
    assert_defined("take_along", [whole(shape, "float32"), index], {"axis": axis}, target)
    g = whole(places, "float32")
    assert_defined("scatter_along", [g, index], {"axis": axis, "size": n}, target)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_of_every_kind_of_number(dtype):
    """Ground truth: the definition; narrow floats are rounded once, after the sum.

    300 ones at one place: float16 and bfloat16 sums that were rounded each time would stop at 256
    in bfloat16, and int8 wraps.
    """
    g = np.ones((300, 5), "float32" if dtype == "bfloat16" else dtype)
    index = np.zeros((300, 5), np.int64)
    kinds = [kind(g, dtype), kind(index, "int64")]
    assert_defined(
        "scatter_along", [stored(g, dtype), index], {"axis": 0, "size": 3}, TARGETS[0], kinds
    )
    assert_defined(
        "scatter_add", [stored(g, dtype), index[:, 0]], {"axis": 0, "size": 3}, TARGETS[0], kinds
    )


@every_target
@pytest.mark.parametrize(
    "rest, axis", [((70,), 0), ((3, 5), 1), ((4, 3), 2), ((2, 33), 1), ((), 0)]
)
def test_rows_added_in_a_table(rest, axis, target):
    """Ground truth: the definition for indices of two axes, in front, between and at the end."""
    index = generator(4).integers(-6, 6, (5, 2))
    g = whole((*rest[:axis], 5, 2, *rest[axis:]), "float32")
    assert_defined("scatter_add", [g, index], {"axis": axis, "size": 6}, target)
    assert_defined(
        "scatter_add",
        [np.swapaxes(g, 0, -1).copy().swapaxes(0, -1), index],
        {"axis": axis, "size": 6},
        target,
    )


@every_target
@pytest.mark.parametrize(
    "shape, part, start",
    [
        ((7,), (3,), (4,)),
        ((5, 35), (2, 33), (-3, 1)),
        ((3, 4, 5), (1, 4, 5), (2, 0, 0)),
        ((), (), ()),
    ],
)
def test_slice_at_a_run_time_place(shape, part, start, target):
    """Ground truth: the definition, exactly; negative starts count from the end."""
    arrays = [whole(shape, "float32"), whole(part, "float32", 1) + 10, np.array(start, np.int64)]
    assert_defined("slice_update", arrays, {}, target)


@every_target
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int8", "float16"])
@pytest.mark.parametrize(
    "shape, index",
    [((7,), [4, 0]), ((5, 35), [3, -1, 3]), ((3, 2, 64), [2]), ((4, 3), []), ((3, 0), [1])],
)
def test_rows_at_run_time_places(shape, index, dtype, target):
    """Ground truth: the definition, exactly; of equal places the last wins."""
    rows = whole((len(index), *shape[1:]), dtype, 1)
    assert_defined("put_rows", [whole(shape, dtype), rows, np.array(index, np.int64)], {}, target)


@pytest.mark.parametrize("start", [5, -1, -2, -8, 100])
def test_slice_outside_is_refused(start):
    """Ground truth: the definition refuses the same starts; 3 of 7 positions fit at 0 to 4."""
    arrays = [whole((7,), "float32"), whole((3,), "float32"), np.array([start])]
    with pytest.raises(IndexRangeError):
        TABLE["slice_update"].numpy(*arrays)
    graph, values = new_graph(*arrays)
    graph.results = list(graph.add(TABLE["slice_update"], tuple(values), {}))
    with pytest.raises(IndexRangeError):
        GraphRun(graph, TARGETS[0])(*arrays)


@every_target
@pytest.mark.parametrize(
    "dtype, out", [("int8", None), ("int8", "int32"), ("int64", None), ("uint8", "int32")]
)
@pytest.mark.parametrize(
    "a, b", [((3, 5), (5, 37)), ((2, 3, 4), (4, 6)), ((2, 1, 3, 0), (5, 0, 2))]
)
def test_products_of_integers(a, b, dtype, out, target):
    """Ground truth: the definition, exactly: sums wrap in the type of the output."""
    arrays = [generator(i).integers(0, 100, s).astype(dtype) for i, s in enumerate((a, b))]
    assert_defined("matmul", arrays, {"dtype": dtype_named(out)} if out else {}, target)
