"""Sparse matrices: what a compiled program refuses, and gradients by hand.

Values, shapes, gradients against finite differences: tests/test_every_primitive.py.
"""

import numpy as np
import pytest

import tinytorch as tt
from tests.reverse_mode import Traced, gradient
from tinytorch.base.errors import IndexRangeError
from tinytorch.primitives import sparse_matmul
from tinytorch.tensor.dispatch import apply


def of(x, values, columns, starts):
    return apply(sparse_matmul, (x, values, columns, starts), {})


WRONG = {
    "a column behind the last": ([0, 3], [0, 1, 2]),
    "a column below 0": ([0, -1], [0, 1, 2]),
    "a start that falls": ([0, 1], [0, 2, 1]),
    "a first start below 0": ([0, 1], [-1, 1, 2]),
    "a last start behind the numbers": ([0, 1], [0, 1, 3]),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_places_outside_are_refused_compiled_too(name, frozen):
    """Ground truth: eager code refuses the same; frozen, at each call until they are mended."""
    columns, starts = (tt.tensor(n) for n in WRONG[name])
    values, x = tt.ones(2), tt.ones(4, 3)
    compiled = tt.compile(lambda x: of(x, values, columns, starts), freeze=frozen)
    for call in (lambda: of(x, values, columns, starts), lambda: compiled(x), lambda: compiled(x)):
        with pytest.raises(IndexRangeError):
            call()
    columns.copy_(tt.tensor([0, 2]))
    starts.copy_(tt.tensor([0, 1, 2]))
    assert compiled(x).tolist() == [[1.0, 1.0]] * 4


def test_gradients_by_hand():
    """Closed form: w = [[a, 0, b], [0, 0, 0]], and a number c that is in no row: its slope is 0."""
    x, values = Traced(np.array([[2.0, 3.0, 5.0]])), Traced(np.array([7.0, 11.0, 13.0]))
    out = sparse_matmul(x, values, np.array([0, 2, 1]), np.array([0, 2, 2]))
    assert out.array.tolist() == [[14.0 + 55.0, 0.0]]
    g_x, g_values = gradient([(out, Traced(np.array([[1.0, 9.0]])))], [x, values])
    assert g_x.array.tolist() == [[7.0, 0.0, 11.0]]
    assert g_values.array.tolist() == [2.0, 5.0, 0.0]
