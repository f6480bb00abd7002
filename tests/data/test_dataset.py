"""Data sets: samples by their numbers."""

import numpy as np
import pytest

from tinytorch.base.errors import IndexRangeError, ShapeError
from tinytorch.data import ArrayDataset


def test_take_is_indexing():
    """Ground truth: NumPy indexing of the arrays."""
    x, y = np.arange(12).reshape(6, 2), np.arange(6)
    data = ArrayDataset(x, y)
    a, b = data.take(np.array([5, 0, 0]))
    assert np.array_equal(a, x[[5, 0, 0]]) and b.tolist() == [5, 0, 0]
    assert data[-1][1] == 5
    with pytest.raises(IndexRangeError, match="no sample of that number"):
        data[6]


@pytest.mark.parametrize("arrays", [(), (np.float32(1),), (np.zeros(2), np.zeros(3))])
def test_arrays_that_do_not_belong_together(arrays):
    """Ground truth: one length of axis 0."""
    with pytest.raises(ShapeError, match="do not belong together"):
        ArrayDataset(*arrays)
