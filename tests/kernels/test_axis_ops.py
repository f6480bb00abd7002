"""Kernels along one axis against the table's definitions, and alone on lines of any layout."""

import numpy as np
import pytest

from tests.compiler.graph_runner import assert_defined
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
from tinytorch.base.dtypes import dtype_named, float32, int64
from tinytorch.codegen.kernel import Operand
from tinytorch.kernels.axis_ops import (
    extreme_position,
    over_lines,
    running_sum,
)


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


@every_target
@pytest.mark.parametrize("beside", [(5,), (3, 37), (37, 3), (1, 1), (2, 1, 9)], ids=str)
def test_every_line_is_run_once(beside, target):
    """Ground truth: counting; a kernel that adds 1 to each line, whichever axis is innermost."""
    out = np.zeros((*beside, 2), np.float32)
    strides = tuple(s // 4 for s in out.strides[:-1])

    def body(line):
        f = line.f
        for i in range(2):
            value = f.add(line.load("out", f.index(i)), f.const(line.zero("out").type, 1.0))
            line.store(value, "out", f.index(i))

    kernel = over_lines(
        "add_one", target, beside, {"out": Operand(float32, strides)}, body, elements=2,
        written=("out",),
    )  # fmt: skip
    run_kernel(target, kernel, {"out": out})
    assert (out == 1).all()


@every_target
@pytest.mark.parametrize("n", [3, 16, 21])
def test_neighbouring_lines_share_a_vector(n, target):
    """Ground truth: NumPy's cumsum along the first axis: lines lie side by side, the last vector
    of them is cut off, and what is repeated along them is read once for all."""
    x, out = whole((4, n), "float32"), untouched((5, n), np.float32)
    side = Operand(float32, (1,))
    run_kernel(target, running_sum(target, (n,), 4, side, n, side, n), {"x": x, "out": out})
    np.testing.assert_array_equal(out[:4], np.cumsum(x, 0))
    assert (out[4] == 77).all()
    position = untouched((n,), np.int64)
    repeated = Operand(float32, (0,))
    kernel = extreme_position(target, (n,), 4, repeated, n, Operand(int64, (1,)), True)
    run_kernel(target, kernel, {"x": x, "out": position})
    assert (position == x[:, 0].argmax()).all()


@every_target
@pytest.mark.parametrize("largest", [True, False])
def test_the_first_nan_is_the_extreme(largest, target):
    """Ground truth: NumPy's argmax and argmin, which a NaN wins; equal numbers: the first."""
    x = np.array([[1, 5, 5, 0, 0], [1, np.nan, 9, np.nan, -9], [np.inf, 2, -np.inf, np.inf, 0]])
    x = x.astype(np.float32)
    out = untouched((3,), np.int64)
    operand = Operand(float32, (5,))
    kernel = extreme_position(target, (3,), 5, operand, 1, Operand(int64, (1,)), largest)
    run_kernel(target, kernel, {"x": x, "out": out})
    assert out.tolist() == (x.argmax(1) if largest else x.argmin(1)).tolist()
