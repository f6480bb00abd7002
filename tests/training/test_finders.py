"""finders.py: what is found, and that nothing is changed."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import DataError, GradientError, SettingError
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.training import Trainer, find_learning_rate, overfit_one_batch
from tinytorch.training.history import Silent

RNG = np.random.default_rng(2)
X = RNG.standard_normal((48, 6)).astype(np.float32)
Y = (X @ RNG.standard_normal((6, 2))).astype(np.float32)


def quadratic(lr: float = 0.1, **settings) -> Trainer:
    tt.manual_seed(0)
    settings = {"compile": False, "progress": Silent(), **settings}
    return Trainer(nn.Linear(6, 2), tt.optim.SGD(lr=lr), nn.MSELoss(), **settings)


def loader() -> DataLoader:
    return DataLoader(ArrayDataset(X, Y), 16, shuffle=True)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_suggested_rate_learns_and_rates_that_diverge_are_seen(accumulate):
    """Ground truth: gradient descent on a quadratic diverges above 2 / (largest curvature).

    The mean over 48 x 2 numbers has the curvature 2 / 96 * X^T X.
    """
    limit = 2 / np.linalg.eigvalsh(X.T.astype(np.float64) @ X * 2 / Y.size).max()
    found = find_learning_rate(quadratic(accumulate=accumulate), loader())
    assert limit / 100 < found.suggestion < limit
    good = quadratic(lr=found.suggestion, accumulate=accumulate).train(loader(), 40)
    assert good.last["loss"] < 0.3 * good["loss"][0]
    assert found.rates[-1] > limit and found.losses[-1] > min(found.losses)


@pytest.mark.parametrize("compile", [False, True])
def test_everything_is_put_back(compile):
    """Ground truth: the state before: weights, averages, random numbers, place in the data."""
    data = loader()
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    trainer = Trainer(model, tt.optim.AdamW(lr=0.01), nn.MSELoss(), ema=0.9, compile=compile,
                      progress=Silent())  # fmt: skip
    trainer.train(data, 1)
    next(iter(data))
    other = loader()
    next(iter(other))
    place = other.state_dict()

    def state():
        parts = trainer.state_dict()
        return {
            f"{part}.{name}": np.array(value.numpy()) if isinstance(value, tt.Tensor) else value
            for part in parts if parts[part]
            for name, value in parts[part].items() if part != "passes"
        }  # fmt: skip

    before, lr = state(), trainer.optimizer.lr
    find_learning_rate(trainer, data, steps=20)
    find_learning_rate(trainer, other, steps=10)
    assert other.state_dict() == place
    overfit_one_batch(trainer, (X[:8], Y[:8]), steps=5)
    after = state()
    assert trainer.optimizer.lr == lr and after.keys() == before.keys()
    assert not [n for n in before if not np.array_equal(after[n], before[n])]


def test_the_curve_can_be_seen(tmp_path):
    """Ground truth: the rates grow by one factor; both pictures are made."""
    found = find_learning_rate(quadratic(), loader(), low=1e-4, high=1.0, steps=30)
    growth = np.diff(np.log(found.rates))
    np.testing.assert_allclose(growth, np.log(1e4) / 29, rtol=1e-9)
    assert "* loss" in found.plot()
    found.save_plot(tmp_path / "rates.svg")
    assert "suggested" in (tmp_path / "rates.svg").read_text()


def test_bad_input_is_named():
    """Ground truth: the docstring."""
    for settings in ({"low": 0.0}, {"high": -1.0}, {"steps": 3}):
        with pytest.raises(SettingError, match=next(iter(settings))):
            find_learning_rate(quadratic(), loader(), **settings)
    with pytest.raises(SettingError, match="the rates do not grow"):
        find_learning_rate(quadratic(), loader(), low=1.0, high=0.1)
    with pytest.raises(DataError, match="nothing to go through"):
        find_learning_rate(quadratic(), [])
    with pytest.raises(GradientError, match="first loss is no number"):
        find_learning_rate(quadratic(), [(X * np.float32(np.nan), Y)])


def test_a_sound_model_learns_a_batch_by_heart_and_a_broken_one_does_not():
    """Ground truth: 8 points and 14 weights can be fitted; a rate of 0 moves nothing."""
    result = overfit_one_batch(quadratic(lr=0.5), (X[:8], Y[:8]), steps=500)
    assert result.passed and "learned by heart" in str(result) and len(result.losses) < 500
    broken = quadratic(lr=0.0)
    result = overfit_one_batch(broken, (X[:8], Y[:8]), steps=20)
    assert not result.passed and len(result.losses) == 20
    assert "not learned by heart" in str(result) and "find_learning_rate" in str(result)
