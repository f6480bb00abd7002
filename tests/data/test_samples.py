"""Batches of data sets that give one sample at a time."""

import numpy as np
import pytest

from tinytorch.base.errors import ShapeError
from tinytorch.data import DataLoader
from tinytorch.data.samples import take


class Squares:
    """As one writes for PyTorch: a length and samples."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return np.full((2,), i, np.float32), i * i


def test_samples_are_stacked():
    """Ground truth: np.stack by hand."""
    x, y = take(Squares(), np.array([3, 1]))
    assert x.tolist() == [[3, 3], [1, 1]] and y.tolist() == [9, 1] and x.dtype == np.float32
    assert [y.tolist() for _, y in DataLoader(Squares(), 2)] == [[0, 1], [4, 9], [16]]


def test_samples_without_parts():
    """Ground truth: one array for a data set of single values."""
    (x,) = take([np.zeros(2), np.ones(2)], np.array([1]))
    assert x.tolist() == [[1, 1]]


def test_samples_that_do_not_fit_are_named():
    """Ground truth: shapes that cannot be stacked."""
    with pytest.raises(ShapeError, match="do not fit together"):
        take([np.zeros(2), np.zeros(3)], np.array([0, 1]))
