"""Softmax before cross-entropy."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.training import Trainer
from tinytorch.training.logits import scored_by
from tinytorch.training.progress import Silent

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
