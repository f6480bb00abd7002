"""Kernels at run-time places against the table's definitions, and the check of indices alone."""

import numpy as np
import pytest

from tests.compiler.graph_runner import GraphRun, assert_defined, new_graph
from tests.kernels.line_samples import (
    DTYPES,
    LINES,
    TARGETS,
    every_target,
    generator,
    kind,
    stored,
    whole,
)
from tests.kernels.lowered_runner import run_kernel, untouched
from tinytorch.base.dtypes import OF_NUMPY, float32, int64
from tinytorch.base.errors import IndexRangeError
from tinytorch.codegen.kernel import Operand
from tinytorch.kernels.gather_scatter import (
    BLOCK,
    index_check,
    put_rows,
    scatter_add,
    take_along,
)
from tinytorch.primitives import TABLE


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
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8])
@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_indices_are_checked(count, dtype, target):
    """Ground truth: Python's own rule, -size <= i < size; the first bad one is told."""
    size, signed = 11, np.dtype(dtype).kind == "i"
    good = generator(0).integers(-11 if signed else 0, 11, count + 3).astype(dtype)
    kernel = index_check(count, Operand(OF_NUMPY[np.dtype(dtype)], (1,), 3), size, 5)

    def status(index):
        out = np.zeros(2, np.int64)
        run_kernel(target, kernel, {"index": index, "status": out})
        return out.tolist()

    ends = good.copy()
    ends[3], ends[-1] = -11 if signed else 0, 10
    assert status(ends) == [0, 0]
    for bad in (11, -12 if signed else 12):
        for place in {3, count + 2}:
            index = good.copy()
            index[place] = bad
            assert status(index) == [5, bad]
    both = good.copy()
    both[:3], both[3:] = 99, 20  # those before the offset are not looked at
    assert status(both) == [5, 20]


@every_target
def test_indices_that_do_not_count_from_the_end(target):
    """Closed form: least <= i < size."""
    kernel = index_check(9, Operand(int64, (1,), 0), 4, 7, least=0)
    for index, told in (([0, 3] * 4 + [2], [0, 0]), ([1] * 8 + [-1], [7, -1]), ([4] * 9, [7, 4])):
        out = np.zeros(2, np.int64)
        run_kernel(target, kernel, {"index": np.array(index), "status": out})
        assert out.tolist() == told


@every_target
@pytest.mark.parametrize("columns", [1, 16, 70, 257])
@pytest.mark.parametrize("side_by_side", [True, False])
def test_rows_added_and_put_alone(columns, side_by_side, target):
    """Ground truth: NumPy's add.at, and assignment in order; offsets and tables beside each other;
    what belongs to no index is 0, or stays."""
    assert BLOCK > 1  # several vectors make a tile, so 70 columns end within one of them
    index = np.array([9, 2, -1, 0, 2])  # the first is no index: the offset is 1
    g = whole((2, 4, columns), "float32")
    stored_g = g if side_by_side else np.ascontiguousarray(g.swapaxes(1, 2))
    strides = (4 * columns, columns, 1) if side_by_side else (4 * columns, 1, 4)
    out = untouched((2, 3, columns), np.float32)
    kernel = scatter_add(
        target, 2, 4, 3, columns, Operand(float32, strides), Operand(int64, (1,), 1),
        Operand(float32, (3 * columns, columns, 1)),
    )  # fmt: skip
    run_kernel(target, kernel, {"g": stored_g, "index": index, "out": out})
    expected = np.zeros((2, 3, columns), np.float32)
    for b in range(2):
        np.add.at(expected[b], index[1:], g[b])
    np.testing.assert_array_equal(out, expected)
    table = untouched((3, columns), np.float32)
    kernel = put_rows(
        target, 4, 3, columns, Operand(float32, strides[1:]), Operand(int64, (1,), 1),
        Operand(float32, (columns, 1)),
    )  # fmt: skip
    run_kernel(target, kernel, {"y": stored_g, "index": index, "out": table})
    expected = untouched((3, columns), np.float32)
    for i, row in zip(index[1:], g[0], strict=True):
        expected[i] = row
    np.testing.assert_array_equal(table, expected)


@every_target
def test_elements_taken_with_strides(target):
    """Ground truth: NumPy's take_along_axis on views; the axis lies anywhere."""
    x = whole((6, 5), "float32")
    index = generator(1).integers(-6, 6, (3, 5)).astype(np.int64)
    out = untouched((3, 5), np.float32)
    kernel = take_along(
        target, (5,), 3, 6, Operand(float32, (1,)), Operand(int64, (1,)), Operand(float32, (1,)),
        (5, 5, 5),
    )  # fmt: skip
    run_kernel(target, kernel, {"x": x, "index": index, "out": out})
    np.testing.assert_array_equal(out, np.take_along_axis(x, index % 6, 0))
