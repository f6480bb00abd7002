"""Optimizers against torch.optim: ten steps in float64, weights and gradients clipped alike.

A step makes some ten roundings of 1e-16 of its size; ten steps add up to 1e-14.
"""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch import optim

pytestmark = pytest.mark.peer

SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.0}),
]
STARTS = [np.random.default_rng(0).standard_normal(s) for s in ((3, 4), (5,), ())]


def loss_of(tensors, sin):
    """Curved and bounded below; a curvature below 5 does not amplify roundings."""
    return sum((sin(2.0 * t) + 0.5 * t * t).sum() for t in tensors)


def clip(ours, theirs):
    a = optim.clip_grad_norm_(ours, 1.0).item()
    b = torch.nn.utils.clip_grad_norm_(theirs, 1.0).item()
    assert a == pytest.approx(b, rel=1e-13)


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
@pytest.mark.parametrize("clipped", [False, True])
def test_ten_steps(name, settings, clipped):
    """Ground truth: torch.optim's rule of the same name."""
    ours = [tt.Tensor(x, requires_grad=True) for x in STARTS]
    theirs = [torch.tensor(x, requires_grad=True) for x in STARTS]
    mine = getattr(optim, name)(ours, **settings)
    peer = getattr(torch.optim, name)(theirs, **settings)
    for _ in range(10):
        mine.zero_grad()
        peer.zero_grad()
        loss_of(ours, tt.sin).backward()
        loss_of(theirs, torch.sin).backward()
        if clipped:
            clip(ours, theirs)
        mine.step()
        peer.step()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-13, atol=1e-14)


def test_groups():
    """Ground truth: torch.optim.AdamW with two groups."""
    ours = [tt.Tensor(x, requires_grad=True) for x in STARTS]
    theirs = [torch.tensor(x, requires_grad=True) for x in STARTS]

    def groups(t):
        return [{"params": t[:1], "weight_decay": 0.2}, {"params": t[1:], "lr": 0.03}]

    mine, peer = optim.AdamW(groups(ours), lr=0.01), torch.optim.AdamW(groups(theirs), lr=0.01)
    for _ in range(3):
        mine.zero_grad()
        peer.zero_grad()
        loss_of(ours, tt.sin).backward()
        loss_of(theirs, torch.sin).backward()
        mine.step()
        peer.step()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-13, atol=1e-14)
