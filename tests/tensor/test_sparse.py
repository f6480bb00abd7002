"""Sparse matrices as functions of Tensors."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.tensor.sparse import compressed_rows, sparse_linear


@pytest.mark.parametrize("shape", [(7, 11), (3, 40000), (5, 1)])
def test_rows_of_places(shape):
    """Ground truth: NumPy's nonzero and a search in its rows; the narrowest columns."""
    w = np.random.default_rng(0).random(shape) < 0.2
    w[1] = False
    rows, wanted = np.nonzero(w)
    columns, starts = compressed_rows(tt.tensor(np.flatnonzero(w)), shape)
    assert columns.dtype is (tt.int32 if shape[1] > 1 << 15 else tt.int16)
    np.testing.assert_array_equal(columns.numpy(), wanted)
    np.testing.assert_array_equal(starts.numpy(), np.searchsorted(rows, np.arange(len(w) + 1)))


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (0, 2)])
def test_any_axes_in_front(lead):
    """Ground truth: NumPy's product with the whole matrix; compiled too."""
    random = np.random.default_rng(1)
    w = (random.standard_normal((6, 9)) * (random.random((6, 9)) < 0.4)).astype(np.float32)
    values = tt.Tensor(w[w != 0])
    columns, starts = compressed_rows(tt.tensor(np.flatnonzero(w)), w.shape)
    x = tt.Tensor(random.standard_normal((*lead, 9)).astype(np.float32))
    for call in (sparse_linear, tt.compile(sparse_linear)):
        found = call(x, values, columns, starts)
        assert found.shape == (*lead, 6)
        np.testing.assert_allclose(found.numpy(), x.numpy() @ w.T, rtol=1e-5, atol=1e-6)


def test_a_length_known_at_run_time():
    """Ground truth: eager, for several lengths of one program."""
    places = tt.tensor([0, 2, 5])
    columns, starts = compressed_rows(places, (2, 3))
    values = tt.tensor([1.0, 2.0, 3.0])
    compiled = tt.compile(
        lambda x: sparse_linear(x, values, columns, starts).relu().sum(0),
        dynamic_shapes={"x": (tt.dim("T", max=20), None)},
    )
    for length in (1, 7, 20):
        x = tt.Tensor(np.random.default_rng(length).standard_normal((length, 3), np.float32))
        wanted = sparse_linear(x, values, columns, starts).relu().sum(0)
        np.testing.assert_allclose(compiled(x).numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6)
