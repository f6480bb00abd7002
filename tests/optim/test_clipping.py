"""clipping.py: lengths before and after."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError
from tinytorch.optim import clip_grad_norm_, clip_grad_value_


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


@pytest.mark.parametrize(("kind", "length"), [(1, 7.0), (2, 5.0), (math.inf, 4.0)])
def test_other_lengths(kind, length):
    """Closed form: of (3, 0, 4); afterwards the length is 1, but for 1e-6 of it."""
    tensors = with_gradients()
    assert clip_grad_norm_(tensors, 1.0, kind).item() == length
    assert clip_grad_norm_(tensors, 1.0, kind).item() == pytest.approx(1.0, rel=1e-6)
    with pytest.raises(SettingError, match="no such length"):
        clip_grad_norm_(tensors, 1.0, 3)


def test_values_are_clipped_one_by_one():
    """Closed form: into [-3.5, 3.5]."""
    a, b, c = with_gradients()
    a.grad = tt.Tensor(np.array([-9.0, 3.0]))
    clip_grad_value_([a, b, c], 3.5)
    assert a.grad.tolist() == [-3.5, 3.0] and b.grad.tolist() == [3.5] and c.grad is None
    with pytest.raises(SettingError, match="clip_value is outside its range"):
        clip_grad_value_([a], 0.0)


def test_clipping_in_a_compiled_step():
    """Closed form: gradient (3, 4) scaled to length 1, then by value to 0.7; lr 1."""
    w = tt.Tensor(np.array([0.0, 0.0]), requires_grad=True)
    sgd = tt.optim.SGD([w], lr=1.0)

    @tt.compile
    def step():
        (w * tt.Tensor(np.array([3.0, 4.0]))).sum().backward()
        length = clip_grad_norm_([w], 1.0)
        clip_grad_value_([w], 0.7)
        sgd.step()
        sgd.zero_grad()
        return length

    assert step().item() == 5.0
    np.testing.assert_allclose(w.detach().numpy(), [-0.6, -0.7], rtol=1e-6)
