"""An optimizer moves this model's weights, a schedule this optimizer's rate; data is batches."""

import warnings

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import DataError, SettingError
from tinytorch.training import Trainer, train_epoch
from tinytorch.training.history import Silent


def trainer(model, optimizer, **settings) -> Trainer:
    return Trainer(model, optimizer, compile=False, progress=Silent(), **settings)


def test_another_models_optimizer_is_refused():
    """Ground truth: the loss would never move (training.md)."""
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    with pytest.raises(SettingError, match="moves another model's weights"):
        trainer(a, tt.optim.SGD(b.parameters(), lr=1.0))
    with pytest.raises(SettingError, match="moves another model's weights"):
        train_epoch(a, [np.ones((1, 2))], tt.optim.SGD(b.parameters(), lr=1.0))
    with pytest.raises(SettingError, match="this is not an optimizer"):
        trainer(a, "adam")
    with pytest.raises(SettingError, match="this is not a loss"):
        trainer(a, tt.optim.SGD(), loss="mse")
    with pytest.raises(SettingError, match="this is not a model"):
        trainer(abs, tt.optim.SGD())


def test_weights_that_are_left_are_named():
    """Ground truth: their names; frozen ones are left on purpose, and so are all of them there."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    sgd = tt.optim.SGD(model[1].parameters())
    with pytest.warns(UserWarning, match=r"no 0\.weight, 0\.bias; rule"):
        trainer(model, sgd)
    with pytest.warns(UserWarning, match=r"train_epoch: the optimizer leaves weights"):
        train_epoch(Summed(model), [np.ones((1, 2), np.float32)], sgd)
    model[0].requires_grad_(False)
    trainer(model, sgd)


def test_a_part_replaced_later_is_named():
    """Ground truth: the name of the weight that the optimizer does not know."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    run = trainer(model, tt.optim.SGD(model.parameters()))
    data = [(np.ones((1, 2), np.float32), np.array([0]))]
    run.train(data, epochs=1)
    model[1].weight = nn.Parameter(tt.ones(2, 2))
    with pytest.warns(UserWarning, match=r"train: the optimizer leaves .* no 1\.weight; rule"):
        run.train(data, epochs=1)


class Summed(nn.Module):
    def __init__(self, inner):
        self.inner = inner

    def forward(self, x):
        return self.inner(x).sum()


def test_what_belongs_together_is_accepted():
    """Ground truth: each of these moves the loss."""
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    both = tt.optim.Together(tt.optim.Muon([model.weight]), tt.optim.SGD([model.bias]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(model, tt.optim.SGD([*model.parameters(), *other.parameters()]))
        trainer(model, both, schedule=tt.optim.StepLR(both, 2))
        trainer(model, both, schedule=tt.optim.StepLR(both.optimizers[0], 2))
        frozen = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
        trainer(frozen, tt.optim.SGD(frozen.parameters()))
        trainer(frozen, tt.optim.SGD())
        trainer(model.requires_grad_(False), tt.optim.SGD(other.parameters()), loss=Summed(other))


def test_a_schedule_of_another_optimizer_is_refused():
    """Ground truth: the rate would stay (training.md)."""
    model = nn.Linear(2, 2)
    sgd, other = tt.optim.SGD(model.parameters()), tt.optim.SGD(model.parameters())
    for make in (lambda o: tt.optim.StepLR(o, 1), tt.optim.ReduceLROnPlateau):
        with pytest.raises(SettingError, match="another optimizer's learning rate"):
            trainer(model, sgd, schedule=make(other))
        trainer(model, sgd, schedule=make(sgd))
    for schedule in ("cosine", [tt.optim.StepLR(sgd, 1)], tt.optim.StepLR):
        with pytest.raises(SettingError, match="this is not a schedule"):
            trainer(model, sgd, schedule=schedule)


def test_arrays_in_place_of_batches_are_refused():
    """Ground truth: the data comes in batches; Keras and scikit-learn take whole arrays."""
    run, x, y = trainer(nn.Linear(2, 2), tt.optim.SGD()), np.ones((4, 2), np.float32), np.arange(4)
    for call in (
        lambda: run.train(x, 1),
        lambda: run.fit(x, y),
        lambda: run.evaluate(tt.tensor(x)),
    ):
        with pytest.raises((DataError, SettingError)) as caught:
            call()
        assert len(str(caught.value)) < 600
    with pytest.raises(DataError, match="train: the data comes in batches"):
        run.train(x, 1)
    with pytest.raises(DataError, match="evaluate: the data comes in batches"):
        run.evaluate(x)
    with pytest.raises(DataError, match="the inputs are no arrays of samples"):
        run.predict(iter([(x, y)]))
    with pytest.raises(DataError, match="the inputs are no arrays of samples"):
        run.predict(5.0)


@pytest.mark.parametrize("compile", [False, True])
def test_an_epoch_trains_in_training_mode(compile):
    """Ground truth: the Trainer, which calls train(): dropout of everything gives a loss of 0."""
    model = Summed(nn.Sequential(nn.Linear(2, 2), nn.Dropout(1.0)))
    data = [np.ones((1, 2), np.float32)]
    assert train_epoch(model.eval(), data, tt.optim.SGD(), compile=compile) == 0.0
    assert all(part.training for part in model.modules())
