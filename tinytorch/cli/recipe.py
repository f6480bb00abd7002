"""Recipes: for each data set `tito` knows, the model and the settings that learn it.

Knows sizes and rates; the numbers behind them are in docs/log.md, 2026-11-20.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tinytorch as tt
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.data import DataLoader, ImageDataset, load_digits, load_mnist
from tinytorch.models import CNN
from tinytorch.storage import read
from tinytorch.training import load_weights, save_weights


@dataclass(frozen=True)
class Recipe:
    """How one data set is learned.

    Args:
        name: of the data set.
        title: for people.
        image_size: H = W.
        widths: channels of the CNN's stages.
        epochs: passes over the training part.
        batch_size: samples in a step.
        lr: learning rate of the first step; it falls to 0 along half a cosine.
        test_batch: samples measured together; divides the size of the test part.
    """

    name: str
    title: str
    image_size: int
    widths: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    test_batch: int


DIGITS = Recipe("digits", "UCI handwritten digits, 8x8, shipped", 8, (16, 32), 10, 64, 3e-3, 355)
MNIST = Recipe("mnist", "MNIST, 28x28, official files", 28, (16, 32), 3, 128, 3e-3, 500)
RECIPES = {recipe.name: recipe for recipe in (DIGITS, MNIST)}


def recipe_named(name: str) -> Recipe:
    """The recipe of a data set.

    Raises:
        SettingError: there is none of that name.
    """
    if name not in RECIPES:
        raise SettingError(
            "tito has no recipe of that name",
            got=repr(name),
            rule="one of " + ", ".join(RECIPES),
            fix="tito train digits",
        )
    return RECIPES[name]


def build(recipe: Recipe) -> CNN:
    """A new model with weights drawn from the framework's generator."""
    return CNN(recipe.image_size, widths=recipe.widths)


def load_data(
    recipe: Recipe, split: str, folder: Path | None, progress: Callable | None = None
) -> ImageDataset:
    """The "train" or "test" part of the recipe's data."""
    if recipe.name == DIGITS.name:
        return load_digits(split)
    return load_mnist(split, folder, progress)


class CoolingLoader:
    """A loader that sets the optimizer's learning rate before each batch, along half a cosine.

    Args:
        loader: gives the batches.
        optimizer: whose rate is set.
        epochs: after so many the rate is 0.

    Source: Loshchilov, Hutter 2016, https://arxiv.org/abs/1608.03983, equation 5 without restarts.
    """

    def __init__(self, loader: DataLoader, optimizer: tt.optim.Optimizer, epochs: int):
        self.loader, self.optimizer, self.first = loader, optimizer, optimizer.lr
        self.steps, self.done = epochs * len(loader), 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        for batch in self.loader:
            share = min(self.done / self.steps, 1.0)
            self.optimizer.lr = self.first * 0.5 * (1 + math.cos(math.pi * share))
            self.done += 1
            yield batch


def save_model(model: CNN, recipe: Recipe, path: Path, facts: dict[str, str]) -> None:
    """Write the weights, and in the file's metadata which recipe's model they belong to."""
    metadata = {"recipe": recipe.name, "widths": " ".join(map(str, recipe.widths)), **facts}
    save_weights(model, path, metadata)


def load_model(path: Path) -> tuple[CNN, Recipe, dict[str, str]]:
    """A model that `save_model` wrote, its recipe, and what was noted of its training.

    Raises:
        FileFormatError: the file is damaged, or `tito train` did not write it.
        FileNotFoundError: there is no such file.
    """
    facts = read(path).metadata
    if facts.get("recipe") not in RECIPES:
        raise FileFormatError(
            "this file does not say which model it belongs to",
            got=f"{path} with the notes {facts}",
            rule='tito reads files whose metadata names a "recipe": ' + ", ".join(RECIPES),
            fix="tito train digits --save digits.safetensors",
        )
    recipe = RECIPES[facts["recipe"]]
    model = build(recipe)
    load_weights(model, path)
    return model, recipe, facts
