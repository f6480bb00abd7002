"""given.py: what is taken as numbers, as classes, as names; what is refused."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import ArgumentError, ShapeError
from tinytorch.inspection.given import check_names, floats, numbers_of_classes


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2]],
        np.array([[1, 2]], np.float16),
        tt.Tensor([[1.0, 2.0]], requires_grad=True),
        tt.Tensor([[1.0, 2.0]]).astype(tt.bfloat16),
    ],
)
def test_arrays_tensors_and_lists_are_numbers(given):
    """Ground truth: the numbers 1 and 2, which every type holds."""
    found = floats("f", "x", given, "(N, K)")
    assert found.tolist() == [[1, 2]] and found.dtype == np.float64


@pytest.mark.parametrize(
    ("given", "kind", "phrase"),
    [
        ([1, 2], ShapeError, r"another shape(.|\n)*\(N, K\)"),
        ([[]], ShapeError, "no axis of length 0"),
        ([["a"]], ArgumentError, "no numbers"),
        ([[np.nan, 1, np.inf]], ArgumentError, "2 of 3 are NaN or infinite"),
    ],
)
def test_what_is_no_array_of_numbers_is_named(given, kind, phrase):
    """Ground truth: the docstring."""
    with pytest.raises(kind, match=phrase):
        floats("f", "x", given, "(N, K)")


@pytest.mark.parametrize("given", [[0, -1], [0, 1.5], [0, 3]])
def test_what_is_no_class_is_named(given):
    """Ground truth: classes are 0, 1, 2; the place and the number are told."""
    with pytest.raises(ArgumentError, match=rf"labels\[1\] = {given[1]:g}(.|\n)*from 0 to 2"):
        numbers_of_classes("f", "labels", given, 3)


def test_names_fit_or_are_numbers():
    """Ground truth: the docstring."""
    assert check_names("f", None, 2) == ["0", "1"] and check_names("f", ("a", "b"), 2) == ["a", "b"]
    with pytest.raises(ArgumentError, match="1 names"):
        check_names("f", ["a"], 2)
