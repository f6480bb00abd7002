"""What `tito` knows of data sets."""

import numpy as np
import pytest

from tinytorch.base.errors import SettingError
from tinytorch.cli.recipes import DATA_SETS, data_set, recipe_for


def test_ten_classes_each():
    """Ground truth: ten different names for labels 0..9."""
    assert all(len(set(known.classes)) == 10 for known in DATA_SETS.values())


def test_digits_are_as_described():
    """Ground truth: the shipped files."""
    known = DATA_SETS["digits"]
    test = known.load("test", None, None)
    images, labels = test.take(np.arange(3))
    assert images.shape == (3, *known.shape) and len(test) == known.test_batch
    assert labels.max() < len(known.classes) and known.transform() is None


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_official_files_are_as_described(name, official_data):
    """Ground truth: the official files: sizes, shapes, numbers in [0, 1]."""
    known = DATA_SETS[name]
    for split, size in (("train", {"mnist": 60_000, "cifar10": 50_000}[name]), ("test", 10_000)):
        data = known.load(split, official_data, None)
        images, labels = data.take(np.arange(4))
        assert len(data) == size and images.shape == (4, *known.shape)
        assert images.dtype == np.float32 and 0 <= images.min() and images.max() <= 1
        assert labels.dtype == np.int64


def test_pictures_in_colour_are_cropped_and_mirrored():
    """Ground truth: the same shape and type; a picture is found again, shifted by at most four
    pixels, mirrored or not."""
    from tinytorch.data import Stream

    transform = DATA_SETS["cifar10"].transform()
    rng = np.random.default_rng(0)
    images = rng.random((8, 3, 32, 32)).astype(np.float32) + 1  # never 0, as the padding is
    changed, labels = transform((images, np.arange(8)), Stream(seed=1))
    assert changed.shape == images.shape and changed.dtype == images.dtype
    assert labels.tolist() == list(range(8))
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)))
    for i in range(8):
        windows = [padded[i, :, a : a + 32, b : b + 32] for a in range(9) for b in range(9)]
        assert any(
            np.array_equal(changed[i], w) or np.array_equal(changed[i], w[:, :, ::-1])
            for w in windows
        )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("cifar", "cifar10"), ("CIFAR-10", "cifar10"), ("fashions", "fashion"), ("mnst", "mnist")],
)
def test_the_nearest_name_is_proposed(typed, meant):
    """Ground truth: what was meant (training.md: "cifar" was answered with digits)."""
    with pytest.raises(SettingError, match=f"fix:  tito train {meant}$"):
        data_set(typed)
    with pytest.raises(SettingError, match="--model resnet20"):
        recipe_for("digits", "resnet")
