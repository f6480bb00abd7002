"""Class numbers: whole, not negative, below the number of classes."""

import numpy as np
import pytest

from tinytorch.base.errors import DataError
from tinytorch.data.dataset import class_numbers


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32, bool])
def test_kinds_of_numbers(dtype):
    """Ground truth: the same numbers as int64."""
    labels = class_numbers(np.array([1, 0, 1], dtype), classes=2)
    assert labels.dtype == np.int64 and labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "classes", "got"),
    [
        ([0, -1, -2], None, "-1 at place 1; 2 such"),
        ([0, 10], 10, "10 at place 1"),
        ([0.0, np.nan], 10, "nan at place 1"),
        ([np.inf], None, "inf at place 0"),
        ([0.5], 10, "0.5 at place 0"),
    ],
)
def test_what_is_no_class_number_is_named(labels, classes, got):
    """Ground truth: the first wrong label, its place and their number, counted by hand."""
    with pytest.raises(DataError, match="not a class number") as raised:
        class_numbers(np.array(labels), classes)
    assert got in raised.value.got


def test_names_are_not_numbers():
    """Ground truth: the documented kinds."""
    with pytest.raises(DataError, match="labels are not numbers"):
        class_numbers(np.array(["cat"]))


def test_no_labels():
    """Ground truth: an empty batch has no wrong label."""
    assert class_numbers(np.empty(0), 10).shape == (0,)
