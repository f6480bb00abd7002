"""Images: bytes inside, numbers from 0 to 1 outside, labels that are class numbers."""

import numpy as np
import pytest

from tinytorch.base.errors import DataError, SettingError, ShapeError
from tinytorch.data import ImageDataset


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


def test_colours_and_bytes():
    """Ground truth: NumPy indexing; as_bytes hands out what was put in."""
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2)
    taken, _ = ImageDataset(images, np.zeros(2, int), as_bytes=True).take(np.array([1]))
    assert taken.dtype == np.uint8 and np.array_equal(taken, images[[1]])
    taken, _ = ImageDataset(images, np.zeros(2, int)).take(np.array([1]))
    assert taken.shape == (1, 3, 2, 2) and taken[0, 2, 1, 1] == np.float32(23) * np.float32(1 / 255)


def test_images_that_are_not_bytes_are_named():
    """Ground truth: the constructor's documented kinds."""
    with pytest.raises(SettingError, match="not bytes"):
        ImageDataset(np.zeros((2, 4, 4)), np.zeros(2, int))


def test_bad_labels_are_named():
    """Ground truth: the classes named; NaN is no class."""
    images = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(DataError, match="not a class number"):
        ImageDataset(images, np.array([0, 2]), classes=("cat", "dog"))
    with pytest.raises(DataError, match="not a class number"):
        ImageDataset(images, np.array([0, np.nan]))
