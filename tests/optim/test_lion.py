"""lion.py: the paper in plain Python floats."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.base.errors import SettingError


def weight(*values: float) -> tt.Tensor:
    return tt.Tensor(np.array(values), requires_grad=True)


def test_ten_steps_of_lion_equal_the_paper():
    """Ground truth: Algorithm 2 in plain Python floats."""
    w, m, lr = 3.0, 0.0, 0.05
    tensor = weight(w)
    lion = optim.Lion([tensor], lr=lr, betas=(0.8, 0.95), weight_decay=0.1)
    for _ in range(10):
        lion.zero_grad()
        ((tensor - 2.7) ** 2).sum().backward()
        lion.step()
        g = 2 * (w - 2.7)
        w -= lr * (math.copysign(1.0, 0.8 * m + 0.2 * g) + 0.1 * w)
        m = 0.95 * m + 0.05 * g
    assert tensor.item() == pytest.approx(w, rel=1e-14)  # some 5 roundings of 1e-16 a step


def test_lion_stands_still_at_zero_gradient():
    """Closed form: sign(0) = 0."""
    w = weight(2.0)
    w.grad = tt.Tensor(np.array([0.0]))
    optim.Lion([w], lr=0.5).step()
    assert w.item() == 2.0


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstrings."""
    for make, phrase in [
        (lambda: optim.Lion(betas=(0.9,)), "betas are two numbers"),
    ]:
        with pytest.raises(SettingError, match=phrase):
            make()
