"""adam.py: closed forms of the rules."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError
from tinytorch.optim import SGD, Adam, AdamW, Lion, RMSprop


def one_step(make, gradient: float, start: float = 2.0) -> float:
    w = tt.Tensor(start, dtype="float64", requires_grad=True)
    optimizer = make([w])
    (w * gradient).backward()
    optimizer.step()
    return w.item()


@pytest.mark.parametrize("gradient", [1e-3, 1.0, -1e3])
def test_first_step_has_size_lr_whatever_the_gradient(gradient):
    """Closed form: at t = 1, m_hat / sqrt(v_hat) is the sign of g; eps is 1e-5 of |g| = 1e-3."""
    after = one_step(lambda p: Adam(p, lr=0.1), gradient)
    assert after == pytest.approx(2.0 - 0.1 * np.sign(gradient), abs=2e-6)


def test_decoupled_decay_ignores_the_gradient():
    """Closed form: with g = 0 AdamW multiplies by 1 - lr * decay, Adam takes a step of lr."""
    assert one_step(lambda p: AdamW(p, lr=0.1, weight_decay=0.5), 0.0) == pytest.approx(2.0 * 0.95)
    assert one_step(lambda p: Adam(p, lr=0.1, weight_decay=0.5), 0.0) == pytest.approx(1.9)


def test_ten_steps_equal_the_formula():
    """Ground truth: the docstring's formulas in plain Python floats."""
    w, m, v = 1.0, 0.0, 0.0
    tensor = tt.Tensor(w, dtype="float64", requires_grad=True)
    adamw = AdamW([tensor], lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    for t in range(1, 11):
        g = 2 * w + 0.3
        w = w * (1 - 0.01 * 0.1)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        w = w - 0.01 * (m / (1 - 0.8**t)) / ((v / (1 - 0.95**t)) ** 0.5 + 1e-6)
        adamw.zero_grad()
        (tensor * tensor + 0.3 * tensor).backward()
        adamw.step()
    assert tensor.item() == pytest.approx(w, rel=1e-14)  # some 10 roundings of 1e-16 a step


def test_adams_decay_joins_the_gradient():
    """Closed form: gradient -1 and pull 0.25 * 2 = 0.5 leave -0.5: a step of lr upwards."""
    after = one_step(lambda p: Adam(p, lr=0.125, eps=0.0, weight_decay=0.25), -1.0)
    assert after == pytest.approx(2.125, rel=1e-15)
    after = one_step(lambda p: Adam(p, lr=0.125, eps=0.0, weight_decay=0.25), 1.0)
    assert after == pytest.approx(1.875, rel=1e-15)


@pytest.mark.parametrize("rule", [Adam, AdamW, SGD, RMSprop, Lion])
def test_one_group_may_hold_several_number_types(rule):
    """Ground truth: each parameter alone; types stay."""
    values, found = np.array([1.0, -2.0]), []
    for kinds in (("float32", "float64"), ("float32",), ("float64",)):
        tensors = [tt.Tensor(values, dtype=kind, requires_grad=True) for kind in kinds]
        optimizer = rule(tensors, lr=0.1, weight_decay=0.1)
        for _ in range(2):
            for tensor in tensors:
                tensor.grad = tensor.detach() * 0.5
            optimizer.step()
        found += [(t.dtype.name, t.detach().tolist()) for t in tensors]
    assert found[:2] == found[2:]


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstring."""
    w = [tt.Tensor([1.0], requires_grad=True)]
    with pytest.raises(SettingError, match=r"AdamW: betas\[1\] is outside its range"):
        AdamW(w, betas=(0.9, 1.0))
    with pytest.raises(SettingError, match="betas are two numbers"):
        AdamW(w, betas=0.9)
    with pytest.raises(SettingError, match="eps is outside its range"):
        AdamW(w, eps=-1e-8)
