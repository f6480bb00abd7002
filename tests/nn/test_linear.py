"""linear.py: features, any leading axes, what is refused."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F


def test_linear_names_its_features_and_the_cure():
    """Ground truth: the worked example of the style guide."""
    with pytest.raises(ShapeError, match=r"in_features = 784[\s\S]*x.reshape\(32, -1\)"):
        nn.Linear(784, 10)(tt.zeros(32, 28, 28))
    with pytest.raises(ShapeError, match="wrong number of features"):
        nn.Linear(3, 1)(tt.zeros(2, 4))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0, 3), (2, 1, 2, 3)])
def test_linear_works_on_the_last_axis_of_any_shape(shape):
    """Ground truth: NumPy's matmul."""
    layer = nn.Linear(3, 2)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    out = layer(tt.Tensor(x)).detach().numpy()
    assert out.shape == expected.shape
    np.testing.assert_allclose(
        out, expected, rtol=1e-5, atol=1e-6
    )  # 3 products of order 1, eps 6e-8


def test_mistakes_are_named():
    """Ground truth: the docstrings."""
    with pytest.raises(SettingError, match="in_features is not a whole number"):
        nn.Linear(0, 1)
    with pytest.raises(ShapeError, match="linear: input and weight"):
        F.linear(tt.zeros(2, 3), tt.zeros(4, 5))
    with pytest.raises(SettingError, match="sizes name the features"):
        nn.MLP([4])
    with pytest.raises(SettingError, match="the activation cannot be called"):
        nn.MLP([4, 2], activation="relu")
