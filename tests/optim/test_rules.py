"""rmsprop.py, lion.py, together.py, penalties.py: closed forms."""

import math

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
        (lambda: optim.RMSprop(alpha=1.0), "alpha is outside"),
        (lambda: optim.RMSprop(momentum=-1), "momentum is outside"),
        (lambda: optim.RMSprop(eps=-1), "eps is outside"),
        (lambda: optim.Lion(betas=(0.9,)), "betas are two numbers"),
        (lambda: optim.Together(), "do not share a model"),
        (lambda: optim.Together(1), "do not share a model"),
        (lambda: optim.Together(optim.SGD()).step(), "step.. of optimizers without parameters"),
        (lambda: optim.Together(optim.SGD(), optim.SGD([weight(1.0)])), "some without"),
        (lambda: optim.Together(*[optim.SGD([w]) for w in [weight(1.0)] * 2]), "two of them move"),
        (lambda: optim.Together(optim.SGD([weight(1.0)])).bind([]), "that have parameters"),
        (lambda: optim.Together(optim.Muon()).bind([weight(1.0)]), "Muon moves matrices"),
        (lambda: optim.Together(optim.SGD([weight(1.0)])).add_param_group({}), "call it on one"),
    ]:
        with pytest.raises(SettingError, match=phrase):
            make()


def test_together_gives_each_parameter_to_the_first_that_takes_it():
    """Ground truth: Muon takes what has two axes."""
    model = tt.nn.Linear(3, 2)
    muon, adamw = optim.Muon(), optim.AdamW()
    optim.Together(muon, adamw).bind(model.parameters())
    assert list(muon.parameters()) == [model.weight] and list(adamw.parameters()) == [model.bias]


def test_together_is_each_alone():
    """Ground truth: the optimizers used one by one; names of state have the number in front."""
    a, b, c, d = weight(1.0), weight(2.0), weight(1.0), weight(2.0)
    alone = [optim.Adam([a], lr=0.1), optim.SGD([b], lr=0.1, momentum=0.5)]
    both = optim.Together(optim.Adam([c], lr=0.1), optim.SGD([d], lr=0.1, momentum=0.5))
    for w, v in ((a, b), (c, d)):
        optimizers = alone if w is a else [both]
        for _ in range(3):
            for optimizer in optimizers:
                optimizer.zero_grad()
            (w * w * v).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    assert (a.item(), b.item()) == (c.item(), d.item())
    assert list(both.state_dict())[-2:] == ["1:initial_lr.0", "1:momentum_buffer.0.0"]
    assert both.memory() == {"parameters": 16, "state": 24}


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


@pytest.mark.parametrize("rule", [optim.Adam, optim.AdamW, optim.RMSprop])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_weight_without_a_gradient_stays_in_every_number_type(rule, dtype, compiled):
    """Closed form: 0 / (sqrt(0) + eps) is 0; in float16 1e-8 was 0, and the weight became NaN
    (PyTorch's too). The other weight moves by at least 0.001 * 1, its first step."""
    settings = {} if rule is optim.RMSprop else {"lr": 0.01}
    p = tt.nn.Parameter(tt.ones(2).astype(dtype))
    given = {"weight_decay": 0.0} if rule is optim.AdamW else {}
    optimizer = rule([p], **settings, **given)

    def step(x):
        optimizer.zero_grad()
        (p * x).sum().backward()
        optimizer.step()

    run = tt.compile(step) if compiled else step
    for _ in range(2):
        run(tt.Tensor([1.0, 0.0]).astype(dtype))
    assert p.detach().float()[1].item() == 1.0
    assert 0.5 < p.detach().float()[0].item() < 1.0
