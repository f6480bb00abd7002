"""sgd.py: closed forms of the rule."""

import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError
from tinytorch.optim import SGD


def moved(steps: int, **settings) -> float:
    """A weight from 0 against a gradient of 1."""
    w = tt.Tensor(0.0, dtype="float64", requires_grad=True)
    sgd = SGD([w], lr=1.0, **settings)
    for _ in range(steps):
        sgd.zero_grad()
        (w * 1.0).backward()
        sgd.step()
    return w.item()


def test_momentum_adds_up_a_geometric_series():
    """Closed form: steps 1, 1.5, 1.75 with momentum 0.5."""
    assert moved(3, momentum=0.5) == -4.25


def test_nesterov_looks_one_step_ahead():
    """Closed form: g + 0.5 b with b = 1, 1.5: steps 1.5 and 1.75."""
    assert moved(2, momentum=0.5, nesterov=True) == -3.25


def test_weight_decay_pulls_to_zero():
    """Closed form: w = 4, gradient 0, lr 0.5, decay 0.25: w * (1 - 0.125)."""
    w = tt.Tensor([4.0], requires_grad=True)
    sgd = SGD([w], lr=0.5, weight_decay=0.25)
    (w * 0.0).sum().backward()
    sgd.step()
    assert w.item() == 3.5


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstring."""
    w = tt.Tensor([1.0], requires_grad=True)
    with pytest.raises(SettingError, match=r"momentum is outside its range[\s\S]*\[0, 1\)"):
        SGD([w], momentum=1.0)
    with pytest.raises(SettingError, match="nesterov looks ahead"):
        SGD([w], nesterov=True)
    with pytest.raises(SettingError, match="yes or no"):
        SGD([w], momentum=0.9, nesterov=2)
