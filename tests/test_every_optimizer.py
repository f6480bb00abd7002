"""The contract that every optimizer keeps. One that is not in RULES fails the first test."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.base.errors import SettingError, ShapeError

RULES = {
    "SGD": lambda p: optim.SGD(p, lr=0.05),
    "SGD momentum": lambda p: optim.SGD(p, lr=0.02, momentum=0.8),
    "SGD nesterov": lambda p: optim.SGD(p, lr=0.02, momentum=0.8, nesterov=True, weight_decay=1e-4),
    "Adam": lambda p: optim.Adam(p, lr=0.05),
    "AdamW": lambda p: optim.AdamW(p, lr=0.05, weight_decay=1e-4),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.05),
    "RMSprop momentum": lambda p: optim.RMSprop(p, lr=0.03, momentum=0.5, weight_decay=1e-4),
    "Lion": lambda p: optim.Lion(p, lr=0.05, weight_decay=1e-4),
    "Muon": lambda p: optim.Together(
        optim.Muon(p[:1], lr=0.1, weight_decay=1e-4, momentum=0.8), optim.SGD(p[1:], lr=0.05)
    ),  # Muon moves matrices alone
    "Together": lambda p: optim.Together(optim.Adam(lr=0.05), optim.SGD(lr=0.05)).bind(p),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def weights(dtype=tt.float64) -> list[tt.Tensor]:
    return [
        tt.Tensor(np.array([[3.0, -2.0], [1.0, 0.5]]), dtype=dtype, requires_grad=True),
        tt.Tensor(np.array(-4.0), dtype=dtype, requires_grad=True),
    ]


def bowl(tensors: list[tt.Tensor]) -> tt.Tensor:
    """A quadratic with curvatures 1 and 3 and its minimum, 0, at 1."""
    return 0.5 * ((tensors[0] - 1.0) ** 2).sum() + 1.5 * (tensors[1] - 1.0) ** 2


def run(optimizer, tensors, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        bowl(tensors).backward()
        optimizer.step()


def test_every_public_rule_has_a_case():
    """Ground truth: the names optim exports."""
    offered = {n: x for n in optim.__all__ if inspect.isclass(x := getattr(optim, n))}
    rules = {n for n, x in offered.items() if issubclass(x, optim.Optimizer)} - {"Optimizer"}
    listed = {name.split()[0] for name in RULES}
    assert rules == listed, f"RULES of tests/test_every_optimizer.py: {sorted(rules ^ listed)}"


@each_rule
def test_minimises_a_quadratic(rule):
    """Ground truth: the bowl's minimum; weight decay of 1e-4 moves it by about 1e-4.

    In the second half the rate falls to zero: rules with steps of one size (Lion, Muon) come no
    nearer than one.
    """
    tensors = weights()
    optimizer = rule(tensors)
    level, down = optim.ConstantLR(optimizer, 1.0), optim.CosineAnnealingLR(optimizer, T_max=200)
    schedule = optim.SequentialLR(optimizer, [level, down], milestones=[200])
    for _ in range(400):
        run(optimizer, tensors, 1)
        schedule.step()
    for tensor in tensors:
        assert np.abs(tensor.detach().numpy() - 1.0).max() < 5e-3


@each_rule
def test_saved_in_the_middle_and_continued_is_bit_for_bit_the_same(rule):
    """Ground truth: the run that was not interrupted."""
    whole, first = weights(), weights()
    run(rule(whole), whole, 7)
    optimizer = rule(first)
    run(optimizer, first, 3)
    state = {name: tensor.numpy().copy() for name, tensor in optimizer.state_dict().items()}
    second = [tt.Tensor(t.detach().numpy().copy(), requires_grad=True) for t in first]
    resumed = rule(second)
    resumed.load_state_dict(state)
    run(resumed, second, 4)
    for a, b in zip(whole, second, strict=True):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())


@each_rule
def test_a_parameter_without_gradient_stays(rule):
    """Ground truth: there is no direction to move it in."""
    tensors = weights()
    optimizer = rule(tensors)
    (tensors[1] * 2.0).backward()
    before = tensors[0].detach().numpy().copy()
    optimizer.step()
    assert np.array_equal(tensors[0].detach().numpy(), before)
    assert tensors[1].item() != -4.0


@pytest.mark.parametrize("through", [lambda f: f, tt.compile], ids=["eager", "compiled"])
@each_rule
def test_a_gradient_that_comes_late_moves_as_a_first_one(rule, through):
    """Invariant: a weight that nothing moved before moves as with an optimizer of its own.

    The first weight learns from step 1, the second from step 4 on; beside it two optimizers that
    share nothing. Frozen until then, or left out of the loss.
    """
    for frozen in (True, False):
        together, alone = weights(), weights()
        optimizer, others = rule(together), rule(alone)
        if frozen:
            together[1].requires_grad = False
        # What moves the second one alone is made when its first gradient comes.
        late = None

        def step(both, tensors=together, optimizer=optimizer):
            loss = 0.5 * ((tensors[0] - 1.0) ** 2).sum()
            if both:
                loss = loss + 1.5 * (tensors[1] - 1.0) ** 2
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        call = through(step)
        for i in range(6):
            if i == 3:
                together[1].requires_grad = True
                late = rule(alone)  # counts from nothing
            call(i >= 3)
            if i < 3:
                (0.5 * ((alone[0] - 1.0) ** 2).sum()).backward()
                others.step()
            else:
                (0.5 * ((alone[0] - 1.0) ** 2).sum()).backward()
                others.step()
                alone[0].grad = None
                (1.5 * (alone[1] - 1.0) ** 2).backward()
                late.step()
            alone[0].grad = alone[1].grad = None
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(
                a.detach().numpy(), b.detach().numpy(), rtol=1e-13, atol=1e-14
            )


@each_rule
def test_learning_rate_is_state_that_can_be_set(rule):
    """Ground truth: with rate 0 nothing moves."""
    tensors = weights()
    optimizer = rule(tensors)
    optimizer.lr = 0.0
    assert optimizer.lr == 0.0
    before = tensors[0].detach().numpy().copy()
    run(optimizer, tensors, 2)
    assert np.array_equal(tensors[0].detach().numpy(), before)


@each_rule
def test_float32_parameters_stay_float32(rule):
    """Ground truth: an update never changes a number type."""
    tensors = weights(tt.float32)
    optimizer = rule(tensors)
    run(optimizer, tensors, 2)
    assert all(t.dtype is tt.float32 for t in tensors)
    kept = [t for g in optimizer.groups for slots in g.slots.values() for t in slots]
    assert all(t.dtype is tt.float32 for t in kept)


@pytest.mark.parametrize("through", [lambda f: f, tt.compile], ids=["eager", "compiled"])
@each_rule
def test_it_goes_on_with_a_module_in_another_number_type(rule, through):
    """Ground truth: the run in float64 from the start; the first two steps are float32's.

    Rules whose step is a sign times lr (Adam's first steps too) are continuous here: the gradients
    are far from 0. Two steps round by 1e-7 each, of weights of about 4.
    """
    model = tt.nn.Module()
    model.weights = [tt.nn.Parameter(w.detach()) for w in weights(tt.float32)]
    tensors, exact = model.weights, weights()
    moved, beside = rule(tensors), rule(exact)

    def step():
        bowl(tensors).backward()
        moved.step()
        moved.zero_grad()

    call = through(step)
    for i in range(5):
        if i == 2:
            model.to(tt.float64)
        call()
        run(beside, exact, 1)
    for a, b in zip(tensors, exact, strict=True):
        assert a.dtype is tt.float64
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), atol=2e-5)
    kept = [t for g in moved.groups for slots in g.slots.values() for t in slots]
    assert all(t.dtype is tt.float64 for t in kept)


@each_rule
def test_compiled_is_eager(rule):
    """Ground truth: eager NumPy in float64; five steps of some ten roundings of 1e-16 each.

    The learning rate is halved in between: state, so nothing is captured again.
    """
    found = []
    for through in (lambda f: f, tt.compile):
        tensors = weights()
        optimizer = rule(tensors)

        def step(tensors=tensors, optimizer=optimizer):
            loss = bowl(tensors)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        call = through(step)
        losses = [call().item() for _ in range(3)]
        optimizer.lr = optimizer.lr / 2
        losses += [call().item() for _ in range(2)]
        state = [t.numpy() for t in optimizer.state_dict().values()]
        found.append([np.array(losses), *(t.detach().numpy() for t in tensors), *state])
    for eager, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-12, atol=1e-13)


@each_rule
def test_names_and_shapes_of_a_state_are_checked_before_anything_changes(rule):
    """Ground truth: names and shapes of state_dict()."""
    optimizer = rule(weights())
    state = {n: t.numpy() for n, t in optimizer.state_dict().items()}
    rate = next(n for n in state if n.endswith("lr.0"))
    with pytest.raises(SettingError, match=f"missing: {rate}"):
        optimizer.load_state_dict({n: v for n, v in state.items() if n != rate})
    with pytest.raises(ShapeError, match="another shape"):
        optimizer.load_state_dict({**state, rate: np.ones(3)})


@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Lion])
def test_settings_common_to_all_are_checked(rule):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match="lr is outside its range"):
        rule(weights(), lr=-1.0)
    with pytest.raises(SettingError, match="weight_decay is outside its range"):
        rule(weights(), weight_decay=float("nan"))
    with pytest.raises(SettingError, match="nothing to train"):
        rule([])
    with pytest.raises(SettingError, match="the same Tensor twice"):
        one = weights()[0]
        rule([one, one])
    with pytest.raises(SettingError, match="without requires_grad"):
        rule([tt.Tensor([1.0])])
    with pytest.raises(SettingError, match="that an operation made"):
        rule([weights()[0] * 2.0])
    with pytest.raises(SettingError, match="of int64"):
        rule([tt.tensor([1])])
    with pytest.raises(SettingError, match="setting that this rule does not know"):
        rule([{"params": weights(), "speed": 2}])


def test_at_most_five_settings():
    """Ground truth: house rule 20."""
    for name in {n.split()[0] for n in RULES}:
        assert len(inspect.signature(getattr(optim, name)).parameters) <= 6, name  # with params
