"""Recipes: what `tito` knows of each data set and network."""

import pytest

from tinytorch.base.errors import SettingError
from tinytorch.cli.recipes import DATA_SETS, NETWORKS, RECIPES, build, data_set, recipe_for


def test_every_data_set_has_a_recipe_for_every_network():
    """Ground truth: the two tables; no recipe is for something else."""
    assert set(RECIPES) == {(data, model) for data in DATA_SETS for model in NETWORKS}
    assert recipe_for("mnist", "cnn") is RECIPES["mnist", "cnn"]


def test_the_test_batches_divide_the_test_parts():
    """Ground truth: 355 and 10,000 images; so that measuring needs one compiled program."""
    sizes = {"digits": 355, "mnist": 10_000, "fashion": 10_000, "cifar10": 10_000}
    assert all(sizes[name] % known.test_batch == 0 for name, known in DATA_SETS.items())


def test_unknown_names_are_refused():
    """Ground truth: names that are in no table; the message lists those that are."""
    with pytest.raises(SettingError, match="no data set of that name"):
        recipe_for("cats", "cnn")
    with pytest.raises(SettingError, match="no network of that name"):
        recipe_for("mnist", "cats")
    with pytest.raises(SettingError, match="no network of that name"):
        build("cats", (1, 8, 8))
    with pytest.raises(SettingError, match="no data set of that name"):
        data_set("cats")
