"""The digits that come with the package."""

import hashlib

import numpy as np
import pytest

from tinytorch.base.errors import SettingError
from tinytorch.data import load_digits
from tinytorch.data.mnist import SHIPPED, read_idx

SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"  # of its 115,008 pixels


def test_the_published_numbers():
    """Ground truth: the data set's page (1,797 images, pixels 0..16) and its class counts."""
    data = load_digits("all")
    assert len(data) == 1797 and data.images.shape == (1797, 8, 8)
    assert (data.images.min(), data.images.max()) == (0, 16)
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # UCI's optdigits.names, test part
    assert np.bincount(data.labels).tolist() == counts


def test_the_pixels_are_the_published_ones():
    """Ground truth: the sum over scikit-learn's copy, and its first image's first row."""
    images = read_idx(SHIPPED / "digits-images-idx3-ubyte.gz")
    assert images[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert int(images.sum()) == 561718
    assert hashlib.sha256(images.tobytes()).hexdigest() == SHA256


def test_the_split_is_fixed_stratified_and_complete():
    """Ground truth: counting: a fifth of each class, no image twice, none lost."""
    train, test, everything = (load_digits(s) for s in ("train", "test", "all"))
    whole = np.bincount(everything.labels)
    assert np.bincount(test.labels).tolist() == (whole // 5).tolist()
    assert (np.bincount(train.labels) + np.bincount(test.labels)).tolist() == whole.tolist()
    assert train.images.sum() + test.images.sum() == everything.images.sum()
    assert np.array_equal(test.images, load_digits("test").images)
    with pytest.raises(SettingError, match="no such split"):
        load_digits("validation")


def test_the_attribution_ships_beside_the_files():
    """Ground truth: CC BY 4.0 asks for creator, licence, and the changes made."""
    text = (SHIPPED / "ATTRIBUTION.txt").read_text()
    for needed in ("E. Alpaydin", "C. Kaynak", "CC BY 4.0", "Changes made"):
        assert needed in text
