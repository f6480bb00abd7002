"""loss.py: softmax before cross-entropy; sums and means told apart."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.training import Trainer
from tinytorch.training.history import Silent
from tinytorch.training.loss import is_a_sum, scored_by

X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
Y = np.arange(12) % 3


def _trained(*end):
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), *end)
    trainer = Trainer(model, tt.optim.SGD(lr=0.1), compile=False, progress=Silent())
    return trainer, trainer.train([(X, Y)], epochs=3)


def test_the_loss_is_that_of_the_same_model_without_the_softmax():
    """Ground truth: the model as it should have been written."""
    with pytest.warns(UserWarning, match="leave the Softmax layer out"):
        doubled, history = _trained(nn.Softmax())
    plain, expected = _trained()
    assert history.last["loss"] == expected.last["loss"]
    np.testing.assert_array_equal(doubled.model[0].weight.numpy(), plain.model[0].weight.numpy())


def test_predictions_are_still_probabilities():
    """Ground truth: probabilities add up to one."""
    with pytest.warns(UserWarning, match="Softmax"):
        trainer, _ = _trained(nn.Softmax())
    sums = trainer.predict(X).numpy().sum(axis=1)
    np.testing.assert_allclose(sums, 1.0, rtol=1e-6)  # 3 roundings of 6e-8


def test_other_losses_keep_the_whole_model():
    """Ground truth: mean squared error takes probabilities as they are."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Softmax())
    assert scored_by(model, nn.MSELoss()) is model


class Net(nn.Module):
    """A network that is no Sequential, with an end of its own."""

    def __init__(self, end):
        self.layer, self.end = nn.Linear(4, 3), end

    def forward(self, x):
        return self.end(self.layer(x))


ENDS = {
    "softmax": lambda x: F.softmax(x, -1),
    "Tensor.softmax": lambda x: x.softmax(-1),
    "by hand": lambda x: (e := x.exp()) / e.sum(-1, keepdim=True),
    "reshaped": lambda x: F.softmax(x.reshape(-1, 1, 3), -1).reshape(-1, 3),
    "in float64": lambda x: F.softmax(x.astype("float64"), -1).astype("float32"),
    "cut": lambda x: F.softmax(x, -1)[:, :3],
}
LOSSES = {
    "function": F.cross_entropy,
    "module": nn.CrossEntropyLoss(),
    "lambda": lambda out, y: F.cross_entropy(out, y) * 1.0,
    "partial": functools.partial(F.cross_entropy, label_smoothing=0.1),
}


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_in_a_softmax_is_said(end, compile):
    """Ground truth: the recorded operations (training.md); once, not at each step."""
    trainer = Trainer(Net(ENDS[end]), tt.optim.SGD(), compile=compile, progress=Silent())
    with pytest.warns(UserWarning, match="gone through a softmax") as said:
        trainer.train([(X, Y), (X[:6], Y[:6])], 2)
    assert len(said) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_whoever_calls_cross_entropy(loss):
    """Ground truth: what the loss was given."""
    trainer = Trainer(
        Net(ENDS["softmax"]), tt.optim.SGD(), LOSSES[loss], compile=False, progress=Silent()
    )
    with pytest.warns(UserWarning, match="gone through a softmax"):
        trainer.train([(X, Y)], 1)


def test_softmax_in_its_place_is_not_said():
    """Ground truth: log_softmax of log_softmax is itself; a softmax inside is a layer."""
    for end in (
        lambda x: F.log_softmax(x, -1),
        lambda x: F.softmax(x, -1) @ tt.ones(3, 3),
        lambda x: x / x.exp().sum(-1, keepdim=True),
        lambda x: x.exp() / (x * 2.0).exp().sum(-1, keepdim=True),
    ):
        Trainer(Net(end), tt.optim.SGD(), compile=False, progress=Silent()).train([(X, Y)], 1)
    probable = Trainer(
        Net(ENDS["softmax"]), tt.optim.SGD(),
        lambda out, y: F.nll_loss(out.log(), y), compile=False, progress=Silent(),
    )  # fmt: skip
    probable.train([(X, Y)], 1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_sums_and_means_are_told_apart_in_every_type(dtype):
    """Closed form: of 1, 2 and 4 the sum, the mean, and a length, which is neither: rounding is
    allowed for, and no more."""
    x, y = tt.Tensor([1.0, 2.0, 4.0]).astype(dtype), tt.zeros(3).astype(dtype)
    assert is_a_sum(lambda x, y: (x - y).sum(), x, y) is True
    assert is_a_sum(lambda x, y: (x - y).mean(), x, y) is False
    with pytest.raises(SettingError, match="not that of its parts"):
        is_a_sum(lambda x, y: ((x - y) * (x - y)).sum() ** 0.5, x, y)
