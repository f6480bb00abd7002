"""row_functions.py: what a row says is what users call, read and see in their editor."""

import subprocess
import sys

import numpy as np
import pytest

import tinytorch as tt
from tests.floors import PACKAGE, ROOT
from tinytorch.base.errors import TinyTorchError
from tinytorch.primitives import NOT_DIFFERENTIABLE, TABLE
from tinytorch.primitives.elementwise import binary_row
from tinytorch.tensor.row_functions import function_of
from tinytorch.tensor.tensor import Tensor

ROWS = [row for row in TABLE.values() if row.functions]
# Elementwise rows whose function does more than the row: tensor/elementwise.py has it. The slope of
# gelu is for gradients only.
MORE_THAN_THE_ROW = {
    "absorb", "add", "cast", "ceil", "div", "floor", "gelu", "gelu_slope", "pow", "round",
    "signbit", "sub", "where",
}  # fmt: skip


def test_each_elementwise_row_is_a_function():
    """Invariant: a row without a function of its own is named here."""
    without = {n for n, row in TABLE.items() if row.elementwise and not row.functions}
    assert without == MORE_THAN_THE_ROW


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_a_function_is_its_row(row):
    """Ground truth: the row on arrays; its sentence; the method."""
    sample = next(s for s in row.samples() if s.inputs[0].size and s.inputs[0].dtype.kind in "fi")
    wanted = row(*sample.inputs)
    inputs = [tt.from_numpy(x) for x in sample.inputs]
    for name in row.functions:
        function = getattr(tt, name)
        assert name in tt.__all__ and function.__name__ == row.functions[0]
        assert function.__doc__ == row.__doc__
        np.testing.assert_array_equal(function(*inputs).numpy(), wanted)
    for name in row.methods:
        np.testing.assert_array_equal(getattr(inputs[0], name)(*inputs[1:]).numpy(), wanted)
        assert getattr(Tensor, name).__doc__ == row.__doc__


@pytest.mark.parametrize("row", [r for r in ROWS if r.kinds == "f"], ids=repr)
def test_integers_where_floats_are_wanted(row):
    """Ground truth: the same numbers as float32."""
    function = getattr(tt, row.functions[0])
    given = [tt.tensor([1, 2])] * row.infer.__code__.co_argcount
    wanted = function(*(x.float() for x in given))
    assert wanted.dtype is function(*given).dtype
    assert wanted.tolist() == function(*given).tolist()


def test_a_row_of_two_floats():
    """Ground truth: a row made here; NumPy's quotients of the same numbers as float32."""
    row = binary_row(
        "test_ratio", "f", np.divide, NOT_DIFFERENTIABLE, "a / b.", tuple,
        functions=("test_ratio",),
    )  # fmt: skip
    try:
        ratio = function_of(row)
        found = ratio(tt.tensor([1, 3]), 2)
        assert found.dtype is tt.float32 and found.tolist() == [0.5, 1.5]
        assert ratio(1.0, tt.tensor([4.0], dtype="float64")).dtype is tt.float64
    finally:
        del TABLE["test_ratio"]
    assert ratio.__name__ == ratio.__code__.co_name == "test_ratio" and ratio.__doc__ == "a / b."


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_wrong_calls_say_so_in_four_parts(row):
    """Ground truth: the form of errors: what, got, rule, fix."""
    function = getattr(tt, row.functions[0])
    for arguments in ((), (None,) * row.infer.__code__.co_argcount, (1.0,) * 3):
        with pytest.raises(TinyTorchError) as caught:
            function(*arguments)
        error = caught.value
        assert all((error.what, error.got, error.rule, error.fix)), arguments


def test_the_stub_is_what_the_table_says():
    """Ground truth: scripts/make_row_stub writes it."""
    command = [sys.executable, str(ROOT / "scripts/make_row_stub"), "--print"]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (PACKAGE / "tensor/row_functions.pyi").read_text() == written
