"""Loaders and splits beside PyTorch's: the same batches, the same lengths, its data sets taken."""

import numpy as np
import pytest
import torch
import torch.utils.data as peer

from tinytorch.data import ArrayDataset, DataLoader, random_split

pytestmark = pytest.mark.peer
X = np.arange(66, dtype=np.float32).reshape(11, 3, 2)
Y = np.arange(11)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 20])
def test_batches(batch_size, drop_last):
    """Ground truth: torch.utils.data.DataLoader without shuffling."""
    ours = DataLoader(ArrayDataset(X, Y), batch_size, drop_last=drop_last)
    pairs = peer.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    theirs = peer.DataLoader(pairs, batch_size, drop_last=drop_last)
    assert len(ours) == len(theirs)
    for (x, y), (v, w) in zip(ours, theirs, strict=True):
        assert np.array_equal(x, v.numpy()) and np.array_equal(y, w.numpy())
        assert x.dtype == np.float32 and y.dtype == np.int64


@pytest.mark.parametrize("settings", [{}, {"workers": 2}], ids=str)
def test_data_sets_written_for_pytorch(settings):
    """Ground truth: the arrays inside a TensorDataset."""
    pairs = peer.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    seen = list(DataLoader(pairs, 4, shuffle=True, seed=2, **settings))
    assert sorted(np.concatenate([y for _, y in seen])) == list(range(11))
    for x, y in seen:
        assert isinstance(x, np.ndarray) and np.array_equal(x, X[y])


@pytest.mark.parametrize("fractions", [[0.5, 0.5], [0.3, 0.3, 0.4], [1 / 3] * 3, [0.99, 0.01]])
@pytest.mark.parametrize("n", [100, 101, 103, 1000])
def test_lengths_of_a_split_by_fractions(n, fractions):
    """Ground truth: torch.utils.data.random_split."""
    ours = [len(p) for p in random_split(range(n), fractions)]
    assert ours == [len(p) for p in peer.random_split(range(n), fractions)]
