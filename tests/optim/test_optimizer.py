"""optimizer.py: groups, state names, zero_grad."""

import numpy as np

import tinytorch as tt
from tinytorch import optim


def test_groups_have_rates_and_settings_of_their_own():
    """Closed form: plain gradient descent moves by lr times the gradient, 1."""
    a, b = (tt.Tensor([0.0], requires_grad=True) for _ in range(2))
    sgd = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.25)
    (a + b).sum().backward()
    sgd.step()
    assert (a.item(), b.item()) == (-0.25, -0.5)


def test_a_group_may_have_momentum_alone():
    """Closed form: with gradient 1 twice, momentum 0.5 moves by 1 and then by 1.5 times lr."""
    a, b = (tt.Tensor([0.0], requires_grad=True) for _ in range(2))
    sgd = optim.SGD([{"params": [a]}, {"params": [b], "momentum": 0.5}], lr=1.0)
    for _ in range(2):
        sgd.zero_grad()
        (a + b).sum().backward()
        sgd.step()
    assert (a.item(), b.item()) == (-2.0, -2.5)


def test_state_names():
    """Ground truth: the names a checkpoint holds; later versions must read them."""
    tensors = [tt.Tensor([1.0], requires_grad=True) for _ in range(2)]
    assert list(optim.AdamW(tensors).state_dict()) == [
        "step", "lr.0", "exp_avg.0.0", "exp_avg.0.1", "exp_avg_sq.0.0", "exp_avg_sq.0.1",
    ]  # fmt: skip
    assert list(optim.SGD(tensors).state_dict()) == ["step", "lr.0"]


def test_zero_grad_forgets_or_fills():
    """Ground truth: its docstring."""
    w = tt.Tensor([1.0, 2.0], requires_grad=True)
    sgd = optim.SGD([w])
    (w * w).sum().backward()
    sgd.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0, 0.0]
    sgd.zero_grad()
    assert w.grad is None


def test_learning_rate_of_all_groups_is_set_at_once():
    """Ground truth: the property's docstring."""
    tensors = [tt.Tensor([1.0], requires_grad=True) for _ in range(2)]
    sgd = optim.SGD([{"params": [tensors[0]], "lr": 1.0}, {"params": [tensors[1]]}])
    sgd.lr = 0.125
    assert [g.lr.item() for g in sgd.groups] == [0.125, 0.125]


def test_repr_says_rule_and_settings():
    """Ground truth: written by hand."""
    sgd = optim.SGD([tt.Tensor([1.0], requires_grad=True)], lr=0.1, momentum=0.9)
    assert repr(sgd) == "SGD(1 tensors, lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=False)"


def test_a_step_is_not_recorded_on_the_tape():
    """Ground truth: after a step the weight is still a leaf."""
    w = tt.Tensor(np.ones(2), requires_grad=True)
    adamw = optim.AdamW([w])
    (w * w).sum().backward()
    adamw.step()
    (w * 3.0).sum().backward()
    assert w.requires_grad and w.grad.shape == (2,)
