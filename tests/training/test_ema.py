"""ema.py: against the recurrence written in NumPy, and where the averages are used."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError
from tinytorch.training import EMA, Trainer
from tinytorch.training.progress import Silent
from tinytorch.training.trainer import Callback

RNG = np.random.default_rng(5)
X = RNG.standard_normal((24, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 24, 8)]


class Keeping(Callback):
    """The weights after every update."""

    def __init__(self):
        self.seen: list[np.ndarray] = []

    def after_update(self, trainer):
        self.seen.append(trainer.model[0].weight.detach().numpy().copy())


def build(*callbacks, ema=0.8, **settings) -> Trainer:
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    settings = {"compile": False, "progress": Silent(), **settings}
    return Trainer(model, tt.optim.SGD(lr=0.5), ema=ema, callbacks=callbacks, **settings)


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"compile": True}])
def test_the_average_is_the_recurrence(settings):
    """Ground truth: average = d * average + (1 - d) * weight, d = min(0.8, (1 + t) / (10 + t)).

    Float32: each step rounds twice, and 30 steps of weights near 1 add at most 30 * 1.2e-7.
    """
    keeping = Keeping()
    trainer = build(keeping, **settings)
    expected = trainer.model[0].weight.detach().numpy().astype(np.float64)
    trainer.train(BATCHES, 10)
    for t, weight in enumerate(keeping.seen):
        d = min(0.8, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * weight
    found = trainer.ema.averages["0.weight"].numpy()
    np.testing.assert_allclose(found, expected, atol=4e-6)
    assert len(keeping.seen) == (20 if settings.get("accumulate") else 30)


def test_buffers_are_averaged_and_counts_copied():
    """Ground truth: the names of the model's state; a whole number has no average."""
    trainer = build()
    trainer.train(BATCHES, 2)
    averages, own = trainer.ema.averages, trainer.model.state_dict()
    assert set(own) <= set(averages)
    for name, tensor in own.items():
        same = np.array_equal(averages[name].numpy(), tensor.numpy())
        assert same is not tensor.dtype.is_float, name


def test_tables_that_are_not_saved_are_left_alone():
    """Ground truth: a table with -inf, which no average survives at decay 0."""
    model = nn.Linear(2, 2)
    model.register_buffer("mask", tt.Tensor([-np.inf, 0.0]), persistent=False)
    ema = EMA(model, 0.0)
    ema.update()
    with ema.applied():
        assert model.mask.tolist() == [-np.inf, 0.0]
    assert sorted(ema.averages) == ["bias", "weight"]


def test_measuring_and_asking_use_the_average_and_training_goes_on_without_it():
    """Ground truth: a model that was given the averages by hand."""
    trainer = build()
    trainer.train(BATCHES, 2)
    own = {n: t.numpy().copy() for n, t in trainer.model.state_dict().items()}
    other = build(ema=None)
    other.model.load_state_dict({n: trainer.ema.averages[n] for n in own})
    assert trainer.evaluate(BATCHES) == other.evaluate(BATCHES)
    assert np.array_equal(trainer.predict(X).numpy(), other.predict(X).numpy())
    with trainer.averaged():
        inside = trainer.model[0].weight.detach().numpy().copy()
    assert np.array_equal(inside, trainer.ema.averages["0.weight"].numpy())
    assert all(np.array_equal(t.numpy(), own[n]) for n, t in trainer.model.state_dict().items())


def test_an_error_while_measuring_gives_the_weights_back():
    """Ground truth: the weights before."""
    trainer = build()
    trainer.train(BATCHES, 1)
    before = trainer.model[0].weight.detach().numpy().copy()
    with pytest.raises(Exception, match="linear|features"):
        trainer.predict(np.zeros((2, 7), np.float32))
    assert np.array_equal(trainer.model[0].weight.detach().numpy(), before)


def test_state_comes_back():
    """Ground truth: what was saved."""
    model = nn.Linear(2, 2)
    ema = EMA(model, 0.5)
    with tt.no_grad():
        model.weight.fill_(3.0)
    ema.update()
    other = EMA(nn.Linear(2, 2), 0.5)
    other.load_state_dict(ema.state_dict())
    assert np.array_equal(other.averages["weight"].numpy(), ema.averages["weight"].numpy())
    assert other.updates.item() == 1.0


def test_decay_is_checked():
    """Ground truth: the docstring."""
    with pytest.raises(SettingError, match="decay"):
        EMA(nn.Linear(1, 1), 1.0)
