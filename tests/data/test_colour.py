"""Colours, scale and mixing: closed forms with the choices of an equal stream."""

import numpy as np
import pytest

from tinytorch.base.errors import DataError, SettingError, ShapeError
from tinytorch.data import ColorJitter, Mixup, Normalize, Stream

RNG = np.random.default_rng(1)
BYTES = RNG.integers(0, 256, (12, 3, 4, 5), dtype=np.uint8)
X = (BYTES / 255).astype(np.float32)
EPS = np.finfo(np.float32).eps


@pytest.mark.parametrize("x", [BYTES, X], ids=["bytes", "numbers"])
def test_normalize(x):
    """Ground truth: (x - mean) / std in float64."""
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.5])
    (out,) = Normalize(mean, std)((x,), Stream())
    want = (BYTES / 255 - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    # three roundings of numbers up to max |x / std| = 5 and their difference
    assert out.dtype == np.float32 and np.abs(out - want).max() <= 3 * 5 * EPS


def test_normalize_without_settings_makes_numbers():
    """Ground truth: byte / 255; numbers stay."""
    assert np.abs(Normalize()((BYTES,), Stream())[0] - BYTES / 255).max() <= EPS
    assert np.array_equal(Normalize()((X,), Stream())[0], X)


def grey(x):
    return (x * np.array([0.2989, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("setting", ["brightness", "contrast", "saturation"])
def test_one_colour_step(setting):
    """Ground truth: the documented formula in float64."""
    (out,) = ColorJitter(**{setting: 0.4})((X, np.arange(12)), Stream(2))[:1]
    f = Stream(2).uniform(12, 0.6, 1.4).reshape(12, 1, 1, 1)
    toward = {
        "brightness": 0.0,
        "contrast": grey(X).mean(axis=(1, 2, 3), keepdims=True),
        "saturation": grey(X),
    }[setting]
    want = np.clip(f * X + (1 - f) * toward, 0, 1)
    # a sum of 20 rounded numbers below 1.4, then two products and a sum
    assert out.dtype == np.float32 and np.abs(out - want).max() <= 1.4 * 24 * EPS


def test_colours_are_never_turned_round():
    """Ground truth: a factor is not negative, however far it may reach: white stays above black."""
    x = np.broadcast_to(np.array([0.0, 1.0]), (200, 3, 1, 2))
    (out,) = ColorJitter(0, 3.0)((x,), Stream(1))
    assert (out[..., 1] >= out[..., 0]).all()


def test_all_colour_steps_in_order():
    """Ground truth: three jitters of one setting each, on one stream."""
    stream = Stream(3)
    (want,) = ColorJitter(0.5)((X,), stream)
    (want,) = ColorJitter(0, 0.5)((want,), stream)
    (want,) = ColorJitter(0, 0, 0.5)((want,), stream)
    assert np.array_equal(ColorJitter(0.5, 0.5, 0.5)((X,), Stream(3))[0], want)


def test_grey_images():
    """Ground truth: brightness and contrast need no colours; saturation does."""
    assert ColorJitter(0.5, 0.5)((X[:, :1],), Stream())[0].shape == (12, 1, 4, 5)
    with pytest.raises(ShapeError, match="saturation needs colours"):
        ColorJitter(saturation=0.5)((X[:, :1],), Stream())


def test_mixup():
    """Ground truth: a loop over images; share and partner from an equal stream."""
    labels = np.arange(12) % 4
    x, y = Mixup(0.4, classes=4)((X, labels), Stream(4))
    stream = Stream(4)
    share, other = stream.beta(0.4, 0.4), stream.permutation(12)
    assert 0 < share < 1
    for i in range(12):
        want = share * X[i] + (1 - share) * X[other[i]]
        assert np.abs(x[i] - want).max() <= 2 * EPS  # the share and the sum are rounded
        row = np.zeros(4)
        row[labels[i]] += share
        row[labels[other[i]]] += 1 - share
        assert np.abs(y[i] - row).max() <= 2 * EPS
    assert x.dtype == y.dtype == np.float32


@pytest.mark.parametrize(
    "make",
    [
        lambda: Normalize(np.nan, 1),
        lambda: Normalize(0, 0),
        lambda: Normalize([], 1),
        lambda: ColorJitter(-0.1),
        lambda: Mixup(0, 10),
        lambda: Mixup(0.2, 1),
    ],
)
def test_bad_settings_are_named(make):
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match="is (outside its range|not a whole number|empty)"):
        make()


def test_bad_batches_are_named():
    """Ground truth: as many settings as channels; labels that are classes."""
    with pytest.raises(ShapeError, match="channels do not fit"):
        Normalize([0.5, 0.5], 1)((X,), Stream())
    with pytest.raises(ShapeError, match="images and labels"):
        Mixup(0.2, 10)((X,), Stream())
    with pytest.raises(DataError, match="not a class number"):
        Mixup(0.2, 10)((X, np.full(12, 10)), Stream())


def test_the_kept_factors_are_those_of_the_images_at_hand():
    """Ground truth: one normalizer for each kind of image; the last factors are kept."""
    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (2, 3, n, n)).astype(np.uint8) for n in (2, 4))
    one = Normalize([0.5, 0.25, 0.0], [0.5, 1.0, 2.0])
    for images in (small, small, large, small.astype(np.float32), small, large):
        (found,) = one((images,), Stream())
        (expected,) = Normalize([0.5, 0.25, 0.0], [0.5, 1.0, 2.0])((images,), Stream())
        assert found.shape == images.shape and np.array_equal(found, expected)
