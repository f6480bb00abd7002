"""What `tito` knows by name: data sets, networks, and for each pair the settings that learn it.

Knows names, shapes, loaders, sizes, epochs, batches and rates; the networks are those of `models`,
and the measurements behind the settings are in docs/log.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tinytorch import data, models
from tinytorch.base.errors import SettingError
from tinytorch.data.cifar10 import CLASSES as THINGS
from tinytorch.data.mnist import DIGITS
from tinytorch.nn import Module

T = TypeVar("T")


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


def _cifar10(split: str, folder: Path | None, progress: Callable | None):
    return data.load_cifar10(split == "train", folder, progress=progress)


CLOTHES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip

DATA_SETS = {
    "digits": DataSet("UCI handwritten digits, 8x8, shipped", (1, 8, 8), _digits, test_batch=355),
    "mnist": DataSet("MNIST, 28x28, official files", (1, 28, 28), data.load_mnist),
    "fashion": DataSet(
        "Fashion-MNIST, 28x28, official files", (1, 28, 28), data.load_fashion_mnist, CLOTHES
    ),
    "cifar10": DataSet(
        "CIFAR-10, 32x32 in colour, official files", (3, 32, 32), _cifar10, THINGS, augmented=True
    ),
}


def data_set(name: str) -> DataSet:
    """The data set of a name.

    Raises:
        SettingError: there is none of that name.
    """
    return _known("data set", DATA_SETS, name, "tito train")


def _known(kind: str, table: Mapping[str, T], name: str, fix: str) -> T:
    if name not in table:
        raise SettingError(
            f"tito knows no {kind} of that name",
            got=repr(name),
            rule="one of " + ", ".join(table),
            fix=f"{fix} {nearest(name, table)}",
        )
    return table[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like the one that was typed; the first if none does.

    >>> nearest("cifar", DATA_SETS), nearest("fasion-mnist", DATA_SETS), nearest("?", DATA_SETS)
    ('cifar10', 'fashion', 'digits')
    """
    from difflib import get_close_matches  # here: it takes a while to load, for errors alone

    names = list(known)
    return (get_close_matches(name.lower(), names, n=1, cutoff=0.4) or names)[0]


CLASSES = 10

Shape = tuple[int, int, int]


def _mlp(shape: Shape) -> Module:
    channels, height, width = shape
    return models.MLP([channels * height * width, 256, 128, CLASSES])


def _cnn(shape: Shape) -> Module:
    widths = (16, 32) if shape[0] == 1 else (16, 32, 64)  # three halvings of 32x32
    return models.CNN(shape[1], shape[0], CLASSES, widths)


def _lenet(shape: Shape) -> Module:
    return models.LeNet(image_size=shape[1], channels=shape[0], classes=CLASSES)


def _resnet20(shape: Shape) -> Module:
    return models.resnet20(channels=shape[0], classes=CLASSES)


def _vit(shape: Shape) -> Module:
    # Half the documents' width and two thirds of their depth: an eighth of the arithmetic.
    patch = 2 if shape[1] < 16 else 4
    return models.VisionTransformer(
        shape[1], patch, 128, depth=4, heads=4, channels=shape[0], classes=CLASSES
    )


NETWORKS: dict[str, Callable[[Shape], Module]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "cnn": _cnn,
    "resnet20": _resnet20,
    "vit": _vit,
}


def build(name: str, shape: Shape) -> Module:
    """A new network with weights drawn from the framework's generator.

    Args:
        name: of the network.
        shape: (C, H, W) of the pictures.

    Raises:
        SettingError: there is none of that name.
    """
    return _known("network", NETWORKS, name, "--model")(shape)


LANGUAGE_MODELS = ("gpt",)  # what learns texts: see cli/texts.py

# Weight decay of AdamW and share of the steps in which the rate rises: the same for all.
WEIGHT_DECAY = 0.01  # Loshchilov, Hutter 2019, https://arxiv.org/abs/1711.05101, and PyTorch
WARMUP = 0.1


@dataclass(frozen=True)
class Recipe:
    """How one network learns one data set.

    Args:
        epochs: passes over the training part.
        batch_size: pictures in a step.
        lr: highest learning rate; it rises to it, then falls to 0 along half a cosine.
    """

    epochs: int
    batch_size: int
    lr: float


RECIPES = {
    ("digits", "mlp"): Recipe(20, 64, 3e-3),
    ("digits", "lenet"): Recipe(20, 64, 3e-3),
    ("digits", "cnn"): Recipe(10, 64, 3e-3),
    ("digits", "resnet20"): Recipe(10, 64, 3e-3),
    ("digits", "vit"): Recipe(30, 64, 1e-3),
    ("mnist", "mlp"): Recipe(5, 128, 2e-3),
    ("mnist", "lenet"): Recipe(5, 128, 2e-3),
    ("mnist", "cnn"): Recipe(3, 128, 3e-3),
    ("mnist", "resnet20"): Recipe(2, 128, 3e-3),
    ("mnist", "vit"): Recipe(5, 128, 1e-3),
    ("fashion", "mlp"): Recipe(10, 128, 2e-3),
    ("fashion", "lenet"): Recipe(10, 128, 2e-3),
    ("fashion", "cnn"): Recipe(6, 128, 3e-3),
    ("fashion", "resnet20"): Recipe(6, 128, 3e-3),
    ("fashion", "vit"): Recipe(10, 128, 1e-3),
    ("cifar10", "mlp"): Recipe(15, 128, 1e-3),
    ("cifar10", "lenet"): Recipe(20, 128, 2e-3),
    ("cifar10", "cnn"): Recipe(6, 128, 3e-3),
    ("cifar10", "resnet20"): Recipe(20, 128, 3e-3),
    ("cifar10", "vit"): Recipe(25, 128, 1e-3),
}


# Of a text and a GPT; lr is Muon's. An epoch of Shakespeare: 1.70; see docs/log.md.
TEXT_RECIPE = Recipe(2, 32, 0.02)


def recipe_for(data: str, model: str) -> Recipe:
    """The settings that learn `data` with `model`.

    Raises:
        SettingError: there is no such data set or network.
    """
    if model in LANGUAGE_MODELS:
        return TEXT_RECIPE
    data_set(data)
    _known("network", NETWORKS, model, "--model")
    return RECIPES[data, model]
