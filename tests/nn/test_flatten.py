"""flatten.py and mlp.py: axes that join and come apart, and what is refused."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError


@pytest.mark.parametrize(("first", "last"), [(1, -1), (0, -1), (1, 2), (-2, -1), (0, 0)])
def test_neighbouring_axes_join_and_come_apart(first, last):
    """Ground truth: NumPy's reshape; Unflatten undoes it."""
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    low, high = first % 4, last % 4
    joined = nn.Flatten(first, last)(tt.Tensor(x))
    sizes = x.shape[low : high + 1]
    assert joined.shape == (*x.shape[:low], int(np.prod(sizes)), *x.shape[high + 1 :])
    apart = nn.Unflatten(low - len(joined.shape), sizes)(joined)
    assert np.array_equal(apart.numpy(), x)


def test_numbers_without_features_are_one_feature_each():
    """Ground truth: the product of no sizes is 1; an empty batch stays empty."""
    assert nn.Flatten()(tt.zeros(3)).shape == (3, 1)
    assert nn.Flatten()(tt.zeros(0, 3, 4)).shape == (0, 12)


def test_mistakes_are_named():
    """Ground truth: the docstrings."""
    with pytest.raises(SettingError, match="start_dim is no axis"):
        nn.Flatten("first")
    with pytest.raises(ShapeError, match="does not have these axes"):
        nn.Flatten(2)(tt.zeros(2, 3))
    with pytest.raises(ShapeError, match="does not come apart"):
        nn.Unflatten(1, (2, 2))(tt.zeros(3, 5))
    with pytest.raises(SettingError, match="sizes name the features"):
        nn.MLP([4])
    with pytest.raises(SettingError, match="the activation cannot be called"):
        nn.MLP([4, 2], activation="relu")
    assert repr(nn.Flatten(0, 1)) == "Flatten(start_dim=0, end_dim=1)"
