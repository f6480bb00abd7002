"""Data sets: samples by their numbers."""

import numpy as np
import pytest

from tinytorch.base.errors import IndexRangeError, SettingError, ShapeError
from tinytorch.data import ArrayDataset, ImageDataset


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


def test_images_become_numbers_from_0_to_1():
    """Ground truth: byte / largest, within one rounding of float32 (the scale is rounded once)."""
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    data = ImageDataset(images, np.arange(4))
    taken, labels = data.take(np.array([3, 1]))
    assert taken.shape == (2, 1, 8, 8) and taken.dtype == np.float32
    assert labels.tolist() == [3, 1] and labels.dtype == np.int64
    exact = images[[3, 1]][:, None] / 255
    # the scale 1/255 and the product are rounded: two half units in the last place
    assert np.abs(taken - exact).max() <= np.finfo(np.float32).eps
    assert np.array_equal(data[3][0], taken[0])


def test_bad_images_are_named():
    """Ground truth: the constructor's documented ranges."""
    with pytest.raises(ShapeError, match="images and labels"):
        ImageDataset(np.zeros((2, 4), np.uint8), np.zeros(2, int))
    with pytest.raises(ShapeError, match="images and labels"):
        ImageDataset(np.zeros((2, 4, 4), np.uint8), np.zeros(3, int))
    with pytest.raises(SettingError, match="largest"):
        ImageDataset(np.zeros((2, 4, 4), np.uint8), np.zeros(2, int), largest=0)
