"""The UCI handwritten digits that come with TinyTorch: 1,797 images of 8x8 pixels.

Knows two files inside the package, never a network. Source and licence (CC BY 4.0):
tinytorch/data/files/ATTRIBUTION.txt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.data.idx import read_idx
from tinytorch.data.images import ImageDataset

FILES = Path(__file__).parent / "files"
LARGEST = 16  # a pixel counts the dark dots of a 4x4 block (ATTRIBUTION.txt)
TEST_EVERY = 5


def load_digits(split: str = "train") -> ImageDataset:
    """The digits data set.

    The split is fixed and stratified: within each class, in the order of the file, every fifth
    image is for testing.

    Args:
        split: "train" (1,442 images), "test" (355) or "all" (1,797).

    Returns:
        images (N, 1, 8, 8) float32 in [0, 1], labels (N,) int64 in 0..9.

    Raises:
        SettingError: no such split.

    Cost: 115 KB.

    Source: E. Alpaydin, C. Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49.

    Example:
        >>> train, test = load_digits("train"), load_digits("test")
        >>> len(train), len(test), train[0][0].shape
        (1442, 355, (1, 8, 8))
    """
    check_split(split, ("train", "test", "all"))
    images = read_idx(FILES / "digits-images-idx3-ubyte.gz")
    labels = read_idx(FILES / "digits-labels-idx1-ubyte.gz")
    for_testing = _every_fifth_of_each_class(labels)
    if split != "all":
        chosen = for_testing if split == "test" else ~for_testing
        images, labels = images[chosen], labels[chosen]
    return ImageDataset(images, labels, LARGEST, classes="0123456789")


def _every_fifth_of_each_class(labels: np.ndarray) -> np.ndarray:
    chosen = np.zeros(len(labels), bool)
    for digit in np.unique(labels):
        chosen[np.flatnonzero(labels == digit)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return chosen


def check_split(split: str, splits: tuple[str, ...]) -> None:
    """Refuse a split that a data set does not have."""
    if split not in splits:
        raise SettingError(
            "the data set has no such split",
            got=f"split={split!r}",
            rule="one of " + ", ".join(map(repr, splits)),
            fix=f"split={splits[0]!r}",
        )
