"""penalties.py: closed forms."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.base.errors import SettingError


def weight(*values: float) -> tt.Tensor:
    return tt.Tensor(np.array(values), requires_grad=True)


@pytest.mark.parametrize("penalty", [optim.l1_penalty, optim.l2_penalty])
def test_penalties_pull_towards_zero(penalty):
    """Closed form: gradients strength * sign(p) and strength * p; the sums over all parameters."""
    a, b = weight(3.0, -2.0), weight(0.0)
    total = penalty([a, b], 0.5)
    total.backward()
    first = penalty is optim.l1_penalty
    assert total.item() == (0.5 * 5.0 if first else 0.25 * 13.0)
    assert a.grad.tolist() == ([0.5, -0.5] if first else [1.5, -1.0])
    assert b.grad.tolist() == [0.0]
    assert penalty([], 0.5).item() == 0.0
    with pytest.raises(SettingError, match="strength is outside its range"):
        penalty([a], -1.0)


def test_l2_penalty_is_weight_decay_of_sgd():
    """Ground truth: SGD's own weight_decay."""
    a, b = weight(3.0, -2.0), weight(3.0, -2.0)
    decayed, plain = optim.SGD([a], lr=0.1, weight_decay=0.3), optim.SGD([b], lr=0.1)
    for _ in range(5):
        for w, sgd in ((a, decayed), (b, plain)):
            sgd.zero_grad()
            loss = (w.sin()).sum() + (optim.l2_penalty([w], 0.3) if w is b else 0.0)
            loss.backward()
            sgd.step()
    # Five steps of five roundings of 1e-16.
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-14)
