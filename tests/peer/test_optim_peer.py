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
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-4, "momentum": 0.9, "weight_decay": 0.1}),
]
CURVES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 4}),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 7}),
    ("PolynomialLR", {"total_iters": 8, "power": 2.0}),
    ("CosineAnnealingLR", {"T_max": 6, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 2}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 13}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 13, "pct_start": 0.5, "div_factor": 10.0}),
]
LOSSES = [3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0, 0.9999, 0.5, 0.6]
STARTS = [np.random.default_rng(0).standard_normal(s) for s in ((3, 4), (5,), ())]


def loss_of(tensors, sin):
    """Curved and bounded below; a curvature below 5 does not amplify roundings."""
    return sum((sin(2.0 * t) + 0.5 * t * t).sum() for t in tensors)


def clip(ours, theirs):
    for kind in (2.0, 1.0, float("inf")):
        a = optim.clip_grad_norm_(ours, 1.0, kind).item()
        b = torch.nn.utils.clip_grad_norm_(theirs, 1.0, kind).item()
        assert a == pytest.approx(b, rel=1e-13)
    optim.clip_grad_value_(ours, 0.1)
    torch.nn.utils.clip_grad_value_(theirs, 0.1)


def walk(steps, our_side, their_side, between=None):
    """So many steps of (optimizer, weights) on either side; `between` sees the gradients."""
    (mine, ours), (peer, theirs) = our_side, their_side
    for _ in range(steps):
        mine.zero_grad()
        peer.zero_grad()
        loss_of(ours, tt.sin).backward()
        loss_of(theirs, torch.sin).backward()
        if between is not None:
            between(ours, theirs)
        mine.step()
        peer.step()


def same_weights(ours, theirs, **tolerance):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **tolerance)


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
@pytest.mark.parametrize("clipped", [False, True])
def test_ten_steps(name, settings, clipped):
    """Ground truth: torch.optim's rule of the same name."""
    ours = [tt.Tensor(x, requires_grad=True) for x in STARTS]
    theirs = [torch.tensor(x, requires_grad=True) for x in STARTS]
    mine = getattr(optim, name)(ours, **settings)
    peer = getattr(torch.optim, name)(theirs, **settings)
    walk(10, (mine, ours), (peer, theirs), clip if clipped else None)
    same_weights(ours, theirs, rtol=1e-13, atol=1e-14)


def test_groups():
    """Ground truth: torch.optim.AdamW with two groups."""
    ours = [tt.Tensor(x, requires_grad=True) for x in STARTS]
    theirs = [torch.tensor(x, requires_grad=True) for x in STARTS]

    def groups(t):
        return [{"params": t[:1], "weight_decay": 0.2}, {"params": t[1:], "lr": 0.03}]

    mine, peer = optim.AdamW(groups(ours), lr=0.01), torch.optim.AdamW(groups(theirs), lr=0.01)
    walk(3, (mine, ours), (peer, theirs))
    same_weights(ours, theirs, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("nesterov", [False, True])
def test_ten_steps_of_muon(monkeypatch, nesterov):
    """Ground truth: torch.optim.Muon, whose polynomial is kept from rounding to bfloat16.

    The polynomial multiplies roundings of 1e-16 by up to 3.4445**5 = 485 a step.
    """
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())
    starts = [np.random.default_rng(1).standard_normal(s) for s in ((3, 4), (5, 2), (4, 4))]
    ours = [tt.Tensor(x, requires_grad=True) for x in starts]
    theirs = [torch.tensor(x, requires_grad=True) for x in starts]
    mine = optim.Muon(ours, lr=0.05, nesterov=nesterov)
    peer = torch.optim.Muon(theirs, lr=0.05, nesterov=nesterov)
    walk(10, (mine, ours), (peer, theirs))
    same_weights(ours, theirs, rtol=1e-10, atol=1e-11)


def pair_of_optimizers():
    groups = [{"lr": 0.1}, {"lr": 0.03}]
    mine = [{"params": [tt.zeros(1, requires_grad=True)], **g} for g in groups]
    theirs = [{"params": [torch.zeros(1, requires_grad=True)], **g} for g in groups]
    return optim.SGD(mine), torch.optim.SGD(theirs, momentum=0.9)


def same_rates(ours, theirs):
    mine = [group["lr"] for group in ours.param_groups]
    # torch multiplies step by step: a rounding of 1e-16 for each of a dozen steps; near the end of
    # a cosine they are 1e-16 of the highest rate.
    assert mine == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-12, abs=1e-16)


@pytest.mark.parametrize(("name", "settings"), CURVES)
def test_schedules(name, settings):
    """Ground truth: torch.optim.lr_scheduler of the same name, two groups."""
    ours, theirs = pair_of_optimizers()
    extra = {"cycle_momentum": False} if name == "OneCycleLR" else {}
    mine = getattr(optim, name)(ours, **settings)
    peer = getattr(torch.optim.lr_scheduler, name)(theirs, **settings, **extra)
    for _ in range(12):
        same_rates(ours, theirs)
        mine.step()
        theirs.step()
        peer.step()
    same_rates(ours, theirs)


@pytest.mark.parametrize(("name", "settings"), CURVES)
def test_schedules_after_a_rate_was_set_by_hand(name, settings):
    """Ground truth: torch.optim.lr_scheduler: curves that multiply go on from it, others return."""
    ours, theirs = pair_of_optimizers()
    extra = {"cycle_momentum": False} if name == "OneCycleLR" else {}
    for group in (ours.param_groups[1], theirs.param_groups[1]):
        group["lr"] = 0.04  # before there is a schedule: that is what it begins with
    mine = getattr(optim, name)(ours, **settings)
    peer = getattr(torch.optim.lr_scheduler, name)(theirs, **settings, **extra)
    for i in range(12):
        same_rates(ours, theirs)
        if i in (1, 4, 8):
            for group in (ours.param_groups[0], theirs.param_groups[0]):
                group["lr"] = 0.5 - i / 20
        mine.step()
        theirs.step()
        peer.step()
    same_rates(ours, theirs)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("LinearLR", {"total_iters": 4}), ("ExponentialLR", {"gamma": 0.9})),
        (("StepLR", {"step_size": 2}), ("ConstantLR", {"total_iters": 3})),
        (("ExponentialLR", {"gamma": 0.5}), ("CosineAnnealingLR", {"T_max": 9, "eta_min": 1e-3})),
        (("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}), ("MultiStepLR", {"milestones": [2]})),
    ],
)
def test_two_schedules_of_one_optimizer(first, second):
    """Ground truth: torch.optim.lr_scheduler, where they are called one after the other."""
    ours, theirs = pair_of_optimizers()
    pairs = [
        [getattr(module, name)(optimizer, **settings) for name, settings in (first, second)]
        for module, optimizer in ((optim, ours), (torch.optim.lr_scheduler, theirs))
    ]
    for _ in range(8):
        same_rates(ours, theirs)
        theirs.step()
        for schedules in pairs:
            for schedule in schedules:
                schedule.step()
    same_rates(ours, theirs)


def test_schedules_one_after_the_other():
    """Ground truth: torch.optim.lr_scheduler.SequentialLR."""
    ours, theirs = pair_of_optimizers()
    rates = []
    for module, optimizer in ((optim, ours), (torch.optim.lr_scheduler, theirs)):
        parts = [
            module.LinearLR(optimizer, 0.1, 1.0, 3),
            module.CosineAnnealingLR(optimizer, 5, 0.001),
            module.ExponentialLR(optimizer, 0.9),
        ]
        rates.append((optimizer, module.SequentialLR(optimizer, parts, [3, 8])))
    for _ in range(11):
        same_rates(ours, theirs)
        for optimizer, schedule in rates:
            optimizer.step()
            schedule.step()


@pytest.mark.parametrize("settings", [{}, {"mode": "max", "factor": 0.5, "threshold": 0.1}])
def test_plateau(settings):
    """Ground truth: torch.optim.lr_scheduler.ReduceLROnPlateau."""
    ours, theirs = pair_of_optimizers()
    mine = optim.ReduceLROnPlateau(ours, patience=1, min_lr=0.002, **settings)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, patience=1, min_lr=0.002, **settings)
    for loss in LOSSES:
        mine.step(loss)
        peer.step(loss)
        same_rates(ours, theirs)


def rules():
    return [(name, settings) for name, settings in SETTINGS if name != "SGD" or len(settings) > 1]


@pytest.mark.parametrize(("name", "settings"), rules())
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_that_come_late(name, settings, compiled):
    """Ground truth: torch.optim: a step count for each parameter; who has a gradient changes.

    The last parameter is frozen for three steps, the second is left out of the loss now and then.
    """
    ours = [tt.Tensor(x, requires_grad=True) for x in STARTS]
    theirs = [torch.tensor(x, requires_grad=True) for x in STARTS]
    mine = getattr(optim, name)(ours, **settings)
    peer = getattr(torch.optim, name)(theirs, **settings)

    def step(used):
        loss_of([ours[i] for i in used], tt.sin).backward()
        mine.step()
        mine.zero_grad()

    call = tt.compile(step) if compiled else step
    ours[2].requires_grad = theirs[2].requires_grad = False
    for i in range(10):
        if i == 3:
            ours[2].requires_grad = theirs[2].requires_grad = True
        used = [k for k in range(3) if (k != 2 or i >= 3) and (k != 1 or i % 3)]
        call(used)
        loss_of([theirs[k] for k in used], torch.sin).backward()
        peer.step()
        peer.zero_grad()
    same_weights(ours, theirs, rtol=1e-13, atol=1e-14)
