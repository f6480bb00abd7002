"""classifiers.py: MLP, LeNet, CNN: settings, errors, counts.

The vision transformer: tests/test_every_model.py.
"""

import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.models import CNN, MLP, LeNet


def weights(model) -> int:
    return sum(p.size for p in model.parameters())


def test_parameter_counts():
    """Closed form, layer by layer."""
    assert weights(MLP([784, 256, 128, 10])) == 785 * 256 + 257 * 128 + 129 * 10
    conv = 9 * (32 + 32 * 32 + 32 * 64 + 64 * 64)
    assert weights(CNN(28)) == conv + 2 * (2 * 32 + 2 * 64) + 64 * 49 * 10 + 10


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: MLP([10]), "sizes name the features"),
        (lambda: MLP([10, 0]), r"sizes\[1\] is not a whole number"),
        (lambda: CNN(3, widths=(4, 4)), "image is too small for so many stages"),
        (lambda: CNN(8, widths=(4, -1)), "widths is not a whole number"),
    ],
)
def test_bad_sizes_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


def test_numbers_of_weights():
    """Closed form, layer by layer: the paper's 32 x 32, and MNIST's 28 padded to it, agree."""
    count = 6 * 26 + 16 * 151 + 120 * 401 + 84 * 121 + 10 * 85
    for size in (28, 32):
        assert sum(p.size for p in LeNet(size).parameters()) == count


@pytest.mark.parametrize("size", [4, 8, 15, 16, 31, 33])
def test_any_size_from_four_on(size):
    """Ground truth: its docstring."""
    assert LeNet(size, channels=2, classes=3)(tt.zeros(2, 2, size, size)).shape == (2, 3)


def test_pictures_that_do_not_fit_are_named():
    """Ground truth: the ranges in the docstring."""
    with pytest.raises(SettingError, match="the image is too small"):
        LeNet(2)
    with pytest.raises(SettingError, match="classes is not a whole number"):
        LeNet(classes=0)
    with pytest.raises(ShapeError, match="the pictures do not fit"):
        LeNet(28)(tt.zeros(2, 1, 32, 32))
