"""The data sets `tito` knows: where their pictures come from, how they are changed, what they show.

Knows names, shapes and loaders, never models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tinytorch import data
from tinytorch.base.errors import SettingError

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class DataSet:
    """Pictures of ten classes.

    Args:
        title: for people.
        shape: (C, H, W) of a picture.
        load: (split, folder, progress) -> data set.
        classes: what the labels mean.
        test_batch: pictures measured together; divides the size of the test part.
        augmented: whether training pictures are cropped and mirrored at random.
    """

    title: str
    shape: tuple[int, int, int]
    load: Callable
    classes: tuple[str, ...] = DIGITS
    test_batch: int = 500
    augmented: bool = False

    def transform(self) -> Callable | None:
        """What happens to batches of training pictures; None: nothing."""
        if not self.augmented:
            return None
        # He et al. 2015, https://arxiv.org/abs/1512.03385, section 4.2: 4 zeros on each side.
        return data.Compose([data.RandomCrop(self.shape[1], padding=4), data.RandomFlip()])


def _digits(split: str, folder: Path | None, progress: Callable | None):
    return data.load_digits(split)


def _mnist(split: str, folder: Path | None, progress: Callable | None):
    return data.load_mnist(split, folder, progress)


def _fashion(split: str, folder: Path | None, progress: Callable | None):
    return data.load_fashion_mnist(split, folder, progress)


def _cifar10(split: str, folder: Path | None, progress: Callable | None):
    return data.load_cifar10(split == "train", folder, progress=progress)


CLOTHES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip
THINGS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

DATA_SETS = {
    "digits": DataSet("UCI handwritten digits, 8x8, shipped", (1, 8, 8), _digits, test_batch=355),
    "mnist": DataSet("MNIST, 28x28, official files", (1, 28, 28), _mnist),
    "fashion": DataSet("Fashion-MNIST, 28x28, official files", (1, 28, 28), _fashion, CLOTHES),
    "cifar10": DataSet(
        "CIFAR-10, 32x32 in colour, official files", (3, 32, 32), _cifar10, THINGS, augmented=True
    ),
}


def data_set(name: str) -> DataSet:
    """The data set of a name.

    Raises:
        SettingError: there is none of that name.
    """
    if name not in DATA_SETS:
        raise SettingError(
            "tito knows no data set of that name",
            got=repr(name),
            rule="one of " + ", ".join(DATA_SETS),
            fix=f"tito train {nearest(name, DATA_SETS)}",
        )
    return DATA_SETS[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like the one that was typed; the first if none does.

    >>> nearest("cifar", DATA_SETS), nearest("fasion-mnist", DATA_SETS), nearest("?", DATA_SETS)
    ('cifar10', 'fashion', 'digits')
    """
    from difflib import get_close_matches  # here: it takes a while to load, for errors alone

    names = list(known)
    return (get_close_matches(name.lower(), names, n=1, cutoff=0.4) or names)[0]
