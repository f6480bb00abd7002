"""initialisation.py: moments of the distributions."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import ShapeError
from tinytorch.nn import initialisation as init

SHAPE = (
    200,
    300,
)  # 60,000 numbers: the variance is known to 1 % (one deviation is sqrt(2 / n) = 0.6 %)


@pytest.mark.parametrize(
    ("make", "variance"),
    [
        (lambda: init.uniform(SHAPE, 0.5), 0.25 / 3),
        (lambda: init.normal(SHAPE, 0.02), 0.0004),
        (lambda: init.kaiming_uniform(SHAPE), 2 / 300),
        (lambda: init.kaiming_uniform(SHAPE, a=5**0.5), 1 / 900),
        (lambda: init.kaiming_normal(SHAPE), 2 / 300),
        (lambda: init.xavier_uniform(SHAPE), 2 / 500),
    ],
)
def test_variance(make, variance):
    """Closed form: each paper's formula; 4 deviations."""
    tt.manual_seed(1)
    x = make().numpy().astype(np.float64)
    assert x.shape == SHAPE
    assert x.var() == pytest.approx(variance, rel=0.024)
    assert abs(x.mean()) < 4 * (variance / x.size) ** 0.5


def test_layers_start_as_in_pytorch():
    """Closed form: uniform in +-1/sqrt(fan), variance 1 / (3 fan); embeddings normal."""
    tt.manual_seed(2)
    for layer, fan in ((nn.Linear(300, 200), 300), (nn.Conv2d(64, 128, 3), 576)):
        weight = layer.weight.detach().numpy()
        assert np.abs(weight).max() <= fan**-0.5
        assert weight.var() == pytest.approx(1 / (3 * fan), rel=0.024)
        assert np.abs(layer.bias.detach().numpy()).max() <= fan**-0.5
    assert nn.Embedding(300, 200).weight.detach().numpy().var() == pytest.approx(1.0, rel=0.024)


def test_the_seed_decides():
    """Invariant: equal seeds, equal weights."""
    weights = []
    for seed in (5, 5, 6):
        tt.manual_seed(seed)
        weights.append(nn.Linear(4, 4).weight.tolist())
    assert weights[0] == weights[1] != weights[2]


def test_a_vector_has_no_fans():
    """Ground truth: (outputs, inputs, ...)."""
    with pytest.raises(ShapeError, match="no inputs to count"):
        init.kaiming_uniform((3,))
