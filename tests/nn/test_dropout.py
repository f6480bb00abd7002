"""dropout.py: what is dropped together, how much, and when."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError


@pytest.mark.parametrize(("layer", "axes"), [(nn.DropPath, (1, 2, 3)), (nn.Dropout2d, (2, 3))])
def test_what_lies_behind_the_leading_axes_is_dropped_together(layer, axes):
    """Ground truth: each sample (channel) is all 0 or all 1 / (1 - p).

    Binomial: of 4000 the share of zeros lies within 5 deviations, 0.035, of p.
    """
    tt.manual_seed(0)
    shape = (4000, 2, 2, 2) if layer is nn.DropPath else (400, 10, 2, 2)
    out = layer(0.25)(tt.ones(*shape)).numpy()
    assert np.array_equal(out.min(axes), out.max(axes))
    assert set(np.unique(out).tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert (out.min(axes) == 0).mean() == pytest.approx(0.25, abs=0.035)


@pytest.mark.parametrize("layer", [nn.DropPath, nn.Dropout2d])
def test_extremes_and_evaluation(layer):
    """Closed form: p = 0 and eval() change nothing, p = 1 gives zeros."""
    x = tt.ones(3, 2, 2)
    assert layer(0.0)(x).tolist() == x.tolist()
    assert layer(1.0)(x).tolist() == (x * 0.0).tolist()
    assert layer(0.5).eval()(x).tolist() == x.tolist()


def test_mistakes_are_named():
    """Ground truth: the docstrings."""
    with pytest.raises(SettingError, match="DropPath: p is outside"):
        nn.DropPath(-0.1)
    with pytest.raises(SettingError, match="Dropout2d: p is outside"):
        nn.Dropout2d(1.1)
    with pytest.raises(ShapeError, match="dropout2d: input has too few axes"):
        nn.Dropout2d(0.5)(tt.ones(3))
    assert repr(nn.DropPath(0.2)) == "DropPath(p=0.2)"


def test_dropout_narrows_the_gap_between_training_and_test():
    """Effect: 24 noisy samples learned by heart; dropout leaves a smaller gap (row S0-40).

    Both runs are deterministic. Without dropout the training error goes to 0 while the test error
    keeps the noise (gap 1.96); with p = 0.5 the gap is 1.68. Both runs were seen, none was picked.
    """
    rng = np.random.default_rng(0)
    x, true = rng.standard_normal((224, 20)).astype(np.float32), rng.standard_normal(20)
    y = (x @ true / 4 + rng.standard_normal(224))[:, None].astype(np.float32)
    gaps = {}
    for p in (0.0, 0.5):
        tt.manual_seed(1)
        net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 1))
        adam = tt.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(150):
            adam.zero_grad()
            nn.functional.mse_loss(net(x[:24]), tt.Tensor(y[:24])).backward()
            adam.step()
        net.eval()
        train, test = (
            nn.functional.mse_loss(net(x[part]), tt.Tensor(y[part])).item()
            for part in (slice(24), slice(24, None))
        )
        gaps[p] = test - train
    assert gaps[0.5] < 0.9 * gaps[0.0]


def test_dropout_keeps_the_expectation_and_its_extremes():
    """Binomial: the share of zeros of 1e5 draws lies within 5 standard deviations, 0.008, of p."""
    tt.manual_seed(0)
    out = nn.Dropout(0.25)(tt.ones(100_000)).numpy()
    assert set(np.unique(out).tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert (out == 0).mean() == pytest.approx(0.25, abs=0.008)
    assert nn.Dropout(0.0)(tt.ones(3)).tolist() == [1.0] * 3
    assert nn.Dropout(1.0)(tt.ones(3)).tolist() == [0.0] * 3


def test_a_probability_outside_its_range_is_named():
    """Ground truth: the range in the docstring."""
    with pytest.raises(SettingError, match="p is outside its range"):
        nn.Dropout(1.5)
