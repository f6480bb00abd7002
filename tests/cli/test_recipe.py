"""Recipes: what `tito` knows of each data set."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.cli.recipe import (
    DIGITS,
    RECIPES,
    CoolingLoader,
    build,
    load_model,
    recipe_named,
    save_model,
)
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.storage import save


def test_the_rate_falls_along_half_a_cosine():
    """Ground truth: the closed form at every step: lr/2 (1 + cos(pi t / T)), half at the middle."""
    optimizer = tt.optim.SGD([tt.Tensor([0.0], requires_grad=True)], lr=0.5)
    cooling = CoolingLoader(DataLoader(ArrayDataset(np.arange(10)), 2), optimizer, epochs=2)
    rates = [optimizer.lr for _ in range(2) for _ in cooling]
    wanted = [0.25 * (1 + math.cos(math.pi * t / 10)) for t in range(10)]
    assert rates == pytest.approx(wanted, rel=1e-15)
    assert len(cooling) == 5
    for _ in cooling:  # an epoch more than planned: the rate stays 0
        assert optimizer.lr == 0


def test_a_saved_model_comes_back(tmp_path):
    """Ground truth: the weights that were saved, under the recipe's name."""
    tt.manual_seed(3)
    model = build(DIGITS)
    save_model(model, DIGITS, tmp_path / "m", {"seed": "3"})
    again, recipe, facts = load_model(tmp_path / "m")
    assert recipe is DIGITS and facts["seed"] == "3"
    wanted, got = model.state_dict(), again.state_dict()
    assert wanted.keys() == got.keys()
    assert all(np.array_equal(wanted[n].numpy(), got[n].numpy()) for n in wanted)


def test_a_file_of_someone_else_is_named(tmp_path):
    """Ground truth: a file without the recipe's name in its notes."""
    save(tmp_path / "m", {"weight": np.zeros(3, np.float32)})
    with pytest.raises(FileFormatError, match="does not say which model"):
        load_model(tmp_path / "m")


def test_recipes_are_found_by_name():
    """Ground truth: the table; the test batches divide the test parts (355 and 10,000 images)."""
    assert all(recipe_named(name).name == name for name in RECIPES)
    assert 355 % RECIPES["digits"].test_batch == 10_000 % RECIPES["mnist"].test_batch == 0
    with pytest.raises(SettingError, match="no recipe of that name"):
        recipe_named("cats")
