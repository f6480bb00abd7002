"""The networks `tito` knows, each made to fit the pictures of a data set.

Knows names and sizes; the networks are those of `models`.
"""

from __future__ import annotations

from collections.abc import Callable

from tinytorch import models
from tinytorch.base.errors import SettingError
from tinytorch.cli.data_sets import nearest
from tinytorch.nn import Module

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
    if name not in NETWORKS:
        raise SettingError(
            "tito knows no network of that name",
            got=repr(name),
            rule="one of " + ", ".join(NETWORKS),
            fix=f"--model {nearest(name, NETWORKS)}",
        )
    return NETWORKS[name](shape)
