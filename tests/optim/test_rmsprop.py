"""rmsprop.py: closed forms of the rule."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.base.errors import SettingError


def weight(*values: float) -> tt.Tensor:
    return tt.Tensor(np.array(values), requires_grad=True)


def test_rmsprop_first_step():
    """Closed form: v = (1 - alpha) g^2, so the step is lr / sqrt(1 - alpha) whatever g is."""
    w = weight(0.0)
    rmsprop = optim.RMSprop([w], lr=0.5, alpha=0.75, eps=0.0)
    w.grad = tt.Tensor(np.array([-7.0]))
    rmsprop.step()
    assert w.item() == 1.0


def test_rmsprop_adds_eps_to_the_root():
    """Closed form: v = 4 / 4, so the step is 2 / (1 + 0.25)."""
    w = weight(0.0)
    rmsprop = optim.RMSprop([w], lr=1.0, alpha=0.75, eps=0.25)
    w.grad = tt.Tensor(np.array([2.0]))
    rmsprop.step()
    assert w.item() == -1.6


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstrings."""
    for make, phrase in [
        (lambda: optim.RMSprop(alpha=1.0), "alpha is outside"),
        (lambda: optim.RMSprop(momentum=-1), "momentum is outside"),
        (lambda: optim.RMSprop(eps=-1), "eps is outside"),
    ]:
        with pytest.raises(SettingError, match=phrase):
            make()
