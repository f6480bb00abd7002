"""Batches of data sets that give one sample at a time."""

import numpy as np
import pytest

from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import DataLoader
from tinytorch.data.dataset import take


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


@pytest.mark.parametrize("dataset", [np.zeros((4, 2)), iter([1, 2]), 7, {1, 2}], ids=repr)
def test_what_is_no_data_set_is_named(dataset):
    """Ground truth: the documented ways; an array's own `take` flattens it."""
    with pytest.raises(SettingError, match="this is not a data set"):
        DataLoader(dataset, 2)


def test_a_data_set_without_samples():
    """Ground truth: an epoch of no batches, for each way of taking samples and of working."""
    for settings in ({}, {"workers": 2}, {"shuffle": True}):
        loader = DataLoader([], 4, **settings)
        assert list(loader) == [] and len(loader) == 0 and loader.epoch == 1
