"""Recipes: for each data set and network the settings that learn it.

Knows epochs, batches and rates; the measurements behind them are in docs/log.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.base.errors import SettingError
from tinytorch.cli.data_sets import data_set, nearest
from tinytorch.cli.networks import NETWORKS

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


def recipe_for(data: str, model: str) -> Recipe:
    """The settings that learn `data` with `model`.

    Raises:
        SettingError: there is no such data set or network.
    """
    data_set(data)
    if model not in NETWORKS:
        raise SettingError(
            "tito knows no network of that name",
            got=repr(model),
            rule="one of " + ", ".join(NETWORKS),
            fix=f"--model {nearest(model, NETWORKS)}",
        )
    return RECIPES[data, model]
