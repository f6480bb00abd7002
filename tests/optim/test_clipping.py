"""clipping.py: lengths before and after."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError
from tinytorch.optim import clip_grad_norm_


def with_gradients() -> list[tt.Tensor]:
    """Three weights, two with gradients (3, 0) and (4,): a common length of 5."""
    a, b, c = (tt.Tensor(np.zeros(n), requires_grad=True) for n in (2, 1, 3))
    (a * tt.Tensor(np.array([3.0, 0.0]))).sum().backward()
    (b * 4.0).sum().backward()
    return [a, b, c]


def test_long_gradients_are_scaled_together():
    """Closed form: 3-4-5 triangle scaled to length 1; 1e-6 in the divisor is 2e-7 of 5."""
    a, b, c = with_gradients()
    assert clip_grad_norm_([a, b, c], 1.0).item() == 5.0
    assert a.grad.numpy() == pytest.approx([0.6, 0.0], rel=1e-6)
    assert b.grad.numpy() == pytest.approx([0.8], rel=1e-6)
    assert c.grad is None


def test_short_gradients_stay():
    """Ground truth: min(1, ...) is 1, bit for bit."""
    a, b, _ = with_gradients()
    clip_grad_norm_([a, b], 100.0)
    assert a.grad.tolist() == [3.0, 0.0] and b.grad.tolist() == [4.0]


def test_nothing_to_clip_has_length_zero():
    """Ground truth: an empty sum."""
    assert clip_grad_norm_([tt.Tensor([1.0], requires_grad=True)], 1.0).item() == 0.0


def test_bad_limit_is_named():
    """Ground truth: (0, inf)."""
    with pytest.raises(SettingError, match="max_norm is outside its range"):
        clip_grad_norm_([], 0.0)
