"""shapes.py: axes that join and come apart, NumPy's functions, closed forms, errors."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F


@pytest.mark.parametrize(("first", "last"), [(1, -1), (0, -1), (1, 2), (-2, -1), (0, 0)])
def test_neighbouring_axes_join_and_come_apart(first, last):
    """Ground truth: NumPy's reshape; Unflatten undoes it."""
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    low, high = first % 4, last % 4
    joined = nn.Flatten(first, last)(tt.Tensor(x))
    sizes = x.shape[low : high + 1]
    assert joined.shape == (*x.shape[:low], int(np.prod(sizes)), *x.shape[high + 1 :])
    apart = nn.Unflatten(low - len(joined.shape), sizes)(joined)
    assert np.array_equal(apart.numpy(), x)


def test_numbers_without_features_are_one_feature_each():
    """Ground truth: the product of no sizes is 1; an empty batch stays empty."""
    assert nn.Flatten()(tt.zeros(3)).shape == (3, 1)
    assert nn.Flatten()(tt.zeros(0, 3, 4)).shape == (0, 12)


def test_mistakes_with_axes_are_named():
    """Ground truth: the docstrings."""
    with pytest.raises(SettingError, match="start_dim is no axis"):
        nn.Flatten("first")
    with pytest.raises(ShapeError, match="does not have these axes"):
        nn.Flatten(2)(tt.zeros(2, 3))
    with pytest.raises(ShapeError, match="does not come apart"):
        nn.Unflatten(1, (2, 2))(tt.zeros(3, 5))
    assert repr(nn.Flatten(0, 1)) == "Flatten(start_dim=0, end_dim=1)"


def test_an_empty_batch_is_flattened():
    """Ground truth: the shapes of the docstrings, with N = 0."""
    assert nn.Flatten()(tt.zeros(0, 4, 6, 6)).shape == (0, 144)


@pytest.mark.parametrize("pad", [(), (1, 2), (0, 0, 3, 1), (1, 0, 0, 2, 4, 0)])
def test_pad(pad):
    """Ground truth: numpy.pad, the last axis first."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    widths = [(0, 0)] * (3 - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    expected = np.pad(x, widths, constant_values=7.0)
    assert np.array_equal(F.pad(tt.Tensor(x), pad, value=7.0).numpy(), expected)


def test_negative_padding_cuts_off():
    """Ground truth: a slice."""
    x = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(F.pad(tt.Tensor(x), (-1, 2, 0, -2)).numpy(), [[1, 2, 3, 0, 0]])
    assert F.pad(tt.Tensor(x), (-2, -2)).shape == (3, 0)


def test_interpolate():
    """Ground truth: numpy.repeat along both axes."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    expected = x.repeat(2, 2).repeat(3, 3)
    assert np.array_equal(F.interpolate(tt.Tensor(x), scale_factor=(2, 3)).numpy(), expected)


def test_interpolate_between_numbers():
    """Closed forms: a line stays a line between its ends; cubic keeps a line too; means."""
    line = tt.Tensor([[[0.0, 2.0, 4.0, 6.0]]])
    assert F.interpolate(line, 7, mode="linear", align_corners=True).tolist() == [
        [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    ]
    assert F.interpolate(line, 8, mode="linear").tolist() == [
        [[0.0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.0]]
    ]
    assert F.interpolate(line, 2, mode="area").tolist() == [[[1.0, 5.0]]]
    assert F.interpolate(line, 3, mode="nearest").tolist() == [[[0.0, 2.0, 4.0]]]
    assert F.interpolate(line, 3, mode="nearest-exact").tolist() == [[[0.0, 4.0, 6.0]]]
    plane = line.reshape(1, 1, 4, 1) + tt.zeros(1, 1, 4, 4)
    cubic = F.interpolate(plane, (7, 4), mode="bicubic", align_corners=True)
    assert cubic.numpy()[0, 0, 2:5, 0] == pytest.approx([2.0, 3.0, 4.0], abs=1e-5)


@pytest.mark.parametrize(("mode", "numpys"), [
    ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap"),
])  # fmt: skip
def test_padding_with_numbers_of_its_own(mode, numpys):
    """Ground truth: numpy.pad; the gradient counts how often each number is there."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    expected = np.pad(x, ((0, 0), (2, 1), (1, 3)), numpys)
    for pad in (F.pad, tt.compile(F.pad)):
        found = pad(tt.Tensor(x), (1, 3, 2, 1), mode).numpy()
        assert np.array_equal(found, expected)
    cropped = x[..., 1:] if mode == "circular" else x  # what is cut off is no end of a circle
    expected = np.pad(cropped, ((0, 0),) * 2 + ((0, 2),), numpys)
    expected = expected if mode == "circular" else expected[..., 1:]
    assert np.array_equal(F.pad(tt.Tensor(x), (-1, 2), mode).numpy(), expected)
    g = tt.grad(lambda t: F.pad(t, (1, 3, 2, 1), mode).sum())(tt.Tensor(x)).numpy()
    places = np.pad(np.arange(12).reshape(3, 4), ((2, 1), (1, 3)), numpys)
    assert np.array_equal(g[0].ravel(), np.bincount(places.ravel(), minlength=12))


def test_mistakes_are_named():
    """Ground truth: the docstrings."""
    x = tt.zeros(2, 3)
    with pytest.raises(SettingError, match="pad: no such mode"):
        F.pad(x, (1, 1), "mirror")
    with pytest.raises(ShapeError, match="reflect has not so many numbers"):
        F.pad(x, (3, 0), "reflect")
    with pytest.raises(ShapeError, match="counts do not belong"):
        F.pad(x, (1, 1, 1))
    with pytest.raises(ShapeError, match="more is cut off"):
        F.pad(x, (-2, -2))
    with pytest.raises(SettingError, match="interpolate: this is not offered"):
        F.interpolate(tt.zeros(1, 1, 2, 2), 2, mode="linear")
    with pytest.raises(SettingError, match="no new size"):
        F.interpolate(tt.zeros(1, 1, 2, 2))
