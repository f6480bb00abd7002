"""optimizer.py: groups, state names, zero_grad; several optimizers, each for its own parameters."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.base.errors import SettingError


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
        "step.0.0", "step.0.1", "lr.0", "initial_lr.0",
        "exp_avg.0.0", "exp_avg.0.1", "exp_avg_sq.0.0", "exp_avg_sq.0.1",
    ]  # fmt: skip
    assert list(optim.SGD(tensors).state_dict()) == [
        "step.0.0", "step.0.1", "lr.0", "initial_lr.0",
    ]  # fmt: skip


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


def weight(*values: float) -> tt.Tensor:
    return tt.Tensor(np.array(values), requires_grad=True)


def test_bound_later_is_bound_at_once():
    """Ground truth: the optimizer that got its parameters in the constructor."""
    first, second = weight(1.0, -2.0), weight(1.0, -2.0)
    at_once, later = optim.Adam([first], lr=0.1), optim.Adam(lr=0.1)
    assert not later.is_bound and later.bind([second]) is later and later.is_bound
    for w, adam in ((first, at_once), (second, later)):
        for _ in range(3):
            adam.zero_grad()
            (w * w).sum().backward()
            adam.step()
    assert np.array_equal(first.detach().numpy(), second.detach().numpy())


def test_binding_keeps_the_rate_set_before():
    """Ground truth: a rate set on an optimizer without parameters is the rate of its group."""
    sgd = optim.SGD(lr=1.0)
    sgd.lr = 0.25
    sgd.bind([w := weight(0.0)])
    w.sum().backward()
    sgd.step()
    assert w.item() == -0.25


def test_groups_bound_later_have_their_own_settings():
    """Closed form: steps of lr against a gradient of 1."""
    a, b = weight(0.0), weight(0.0)
    sgd = optim.SGD(lr=1.0).bind([{"params": [a]}, {"params": [b], "lr": 0.5}])
    (a + b).sum().backward()
    sgd.step()
    assert (a.item(), b.item()) == (-1.0, -0.5)


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: optim.Adam(lr=0.1).step(), "nothing to train"),
        (lambda: optim.Adam([weight(1.0)]).bind([weight(1.0)]), "moves other parameters already"),
        (lambda: optim.Adam(0.001), "what it moves comes first"),
        (lambda: optim.Adam(tt.nn.Linear(2, 2)), "what it moves comes first"),
        (lambda: optim.Adam([weight(1.0), "w"]), "this cannot be trained"),
        (lambda: optim.Adam(lr=-1.0), "lr is outside its range"),
    ],
)
def test_misuse_of_binding_is_named(make, phrase):
    """Ground truth: the docstrings of Optimizer and bind."""
    with pytest.raises(SettingError, match=phrase):
        make()


def test_a_group_added_later_counts_its_own_steps():
    """Closed form: the first step of Adam has size lr, also when others have made ten."""
    a, b = weight(0.0), weight(0.0)
    adam = optim.Adam([a], lr=0.125, eps=0.0)
    for _ in range(10):
        a.grad = tt.Tensor(np.array([1.0]))
        adam.step()
    adam.add_param_group({"params": [b]})
    b.grad = tt.Tensor(np.array([3.0]))
    adam.step()
    assert b.item() == pytest.approx(-0.125, rel=1e-15)
    with pytest.raises(SettingError, match="the same Tensor twice"):
        adam.add_param_group({"params": [a]})


def test_groups_read_and_set_as_in_pytorch():
    """Closed form: lr times the gradient 1; with momentum 0.5 the second step is 1.5 of it."""
    sgd = optim.SGD([w := weight(0.0)], lr=1.0)
    group = sgd.param_groups[0]
    assert group["params"] == [w] and group["lr"] == 1.0 and group["momentum"] == 0.0
    assert "lr" in group and "momentum" in group and "speed" not in group
    group["lr"] = 0.5
    group["momentum"] = 0.5
    for _ in range(2):
        w.grad = tt.Tensor(np.array([1.0]))
        sgd.step()
    assert w.item() == -0.5 * 2.5
    with pytest.raises(SettingError, match="setting that this rule does not know"):
        group["speed"] = 2
    with pytest.raises(SettingError, match="momentum is outside its range"):
        group["momentum"] = 1.5


def test_a_setting_changed_in_a_compiled_step_takes_effect():
    """Closed form: gradient 1, lr 1; with momentum 0.5 from the second step on: 1 + 1 + 1.5."""
    sgd = optim.SGD([w := weight(0.0)], lr=1.0)

    @tt.compile
    def step():
        (w * 1.0).sum().backward()
        sgd.step()
        sgd.zero_grad()

    step()
    sgd.param_groups[0]["momentum"] = 0.5
    step()
    step()
    assert w.item() == -3.5


def test_adam_takes_three_times_the_memory_of_the_weights():
    """Closed form: two averages for each weight (S4-46); plain descent keeps nothing."""
    w = tt.zeros(100, 10).requires_grad_()
    assert optim.Adam([w]).memory() == {"parameters": 4000, "state": 8000}
    assert optim.SGD([w], momentum=0.9).memory()["state"] == 4000
    assert optim.SGD([w]).memory()["state"] == 0


EACH_WAY = pytest.mark.parametrize("through", [lambda f: f, tt.compile], ids=["eager", "compiled"])
GRADIENTS = (1.0, -3.0, 0.5, 2.0, -1.0, 4.0)


def adam_by_hand(gradients, lr=0.125, beta1=0.9, beta2=0.999) -> float:
    """Kingma & Ba's algorithm 1 in plain floats, from 0, with eps 0."""
    w = m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        w -= lr * (m / (1 - beta1**t)) / (v / (1 - beta2**t)) ** 0.5
    return w


@EACH_WAY
def test_each_parameter_counts_its_own_steps(through):
    """Closed form: Adam by hand for each; who moves alternates: both, a, a, both, b, a (O01)."""
    a, b = weight(0.0), weight(0.0)
    adam = optim.Adam([a, b], lr=0.125, eps=0.0)

    @through
    def step(g, moves_a, moves_b):
        ((a * g).sum() * moves_a + (b * g).sum() * moves_b).backward()
        if not moves_a:
            a.grad = None
        if not moves_b:
            b.grad = None
        adam.step()
        adam.zero_grad()

    who = [(1, 1), (1, 0), (1, 0), (1, 1), (0, 1), (1, 0)]
    for g, (moves_a, moves_b) in zip(GRADIENTS, who, strict=True):
        step(tt.Tensor(np.array(g)), moves_a, moves_b)
    for w, i in ((a, 0), (b, 1)):
        seen = [g for g, moves in zip(GRADIENTS, who, strict=True) if moves[i]]
        assert w.item() == pytest.approx(adam_by_hand(seen), rel=1e-13)
        assert adam.state_dict()[f"step.0.{i}"].item() == len(seen)


@EACH_WAY
def test_two_steps_in_one_function_count_for_each_parameter(through):
    """Closed form: Adam by hand: both move, then a alone, within one function; run three times.

    The count is divided while it stands for a number to come.
    """
    a, b = weight(0.0), weight(0.0)
    adam = optim.Adam([a, b], lr=0.125, eps=0.0)

    @through
    def step(g, h):
        ((a * g).sum() + (b * g).sum()).backward()
        adam.step()
        adam.zero_grad()
        (a * h).sum().backward()
        adam.step()
        adam.zero_grad()

    for g, h in zip(GRADIENTS[::2], GRADIENTS[1::2], strict=True):
        step(tt.Tensor(np.array(g)), tt.Tensor(np.array(h)))
    assert a.item() == pytest.approx(adam_by_hand(GRADIENTS), rel=1e-13)
    assert b.item() == pytest.approx(adam_by_hand(GRADIENTS[::2]), rel=1e-13)


def test_parameters_that_agree_share_one_count():
    """Ground truth: the recorded program has one count among its states, whatever their number."""
    tensors = [weight(float(i)) for i in range(5)]
    adam = optim.Adam(tensors, lr=0.125)

    @tt.compile
    def step():
        sum((w * w).sum() for w in tensors).backward()
        adam.step()
        adam.zero_grad()

    step()
    step()
    assert len(adam.groups[0].parts) == 1 and step.captures == 1
    assert [adam.state_dict()[f"step.0.{i}"].item() for i in range(5)] == [2.0] * 5


@EACH_WAY
def test_counts_that_differ_are_saved_and_loaded(through):
    """Ground truth: the optimizer that was not interrupted, to the last bit."""

    def build():
        tensors = [weight(0.0), weight(0.0)]
        return tensors, optim.Adam(tensors, lr=0.125)

    def run(tensors, adam, who):
        @through
        def step(moves_b):
            (tensors[0] * 3.0 + tensors[1] * moves_b).sum().backward()
            if not moves_b:
                tensors[1].grad = None
            adam.step()
            adam.zero_grad()

        for moves_b in who:
            step(moves_b)

    whole, adam = build()
    run(whole, adam, [0, 0, 2, 2, 0, 2])
    first, begun = build()
    run(first, begun, [0, 0, 2])
    state = {n: t.numpy().copy() for n, t in begun.state_dict().items()}
    second, resumed = build()
    for w, old in zip(second, first, strict=True):
        w.detach()
        with tt.no_grad():
            w.copy_(old)
    resumed.load_state_dict(state)
    run(second, resumed, [2, 0, 2])
    assert [w.item() for w in second] == [w.item() for w in whole]
    again = resumed.state_dict()
    assert all(again[n].item() == t.item() for n, t in adam.state_dict().items())


def test_a_state_of_an_older_version_loads():
    """Ground truth: "step.0" was the count of the whole group; golden checkpoints have it."""
    tensors = [weight(1.0), weight(2.0)]
    adam = optim.Together(optim.SGD([weight(0.0)]), optim.Adam(tensors))
    state = {n: t.numpy() for n, t in adam.state_dict().items() if not n.startswith("1:step")}
    adam.load_state_dict({**state, "1:step.0": np.array(7.0)})
    assert [adam.state_dict()[f"1:step.0.{i}"].item() for i in range(2)] == [7.0, 7.0]
    with pytest.raises(SettingError, match="missing: 1:step"):
        adam.load_state_dict(state)


def test_frozen_parameters_are_accepted_and_stay():
    """Ground truth: a frozen weight has no gradient; PyTorch accepts it too (porting.md)."""
    model = tt.nn.Sequential(tt.nn.Linear(2, 3), tt.nn.Linear(3, 1))
    model[0].requires_grad_(False)
    before = model[0].weight.detach().numpy().copy()
    adam = optim.Adam(model.parameters(), lr=0.1)
    model(tt.ones(4, 2)).sum().backward()
    adam.step()
    assert np.array_equal(model[0].weight.detach().numpy(), before)
    adam.add_param_group({"params": [tt.Tensor([1.0])]})
    with pytest.raises(SettingError, match="nothing to train"):
        optim.Adam(model[0].parameters())


@EACH_WAY
def test_a_weight_unfrozen_after_many_steps_moves_by_the_rate(through):
    """Closed form: Adam's first step is lr whatever the gradient; b was frozen 50 steps (O01)."""
    a, b = weight(0.0), weight(1.0)
    adam = optim.Adam([a, b], lr=0.01, eps=0.0)

    @through
    def step():
        (a * 3.0 + b * 7.0).sum().backward()
        adam.step()
        adam.zero_grad()

    b.requires_grad_(False)
    for _ in range(50):
        step()
    assert b.item() == 1.0
    b.requires_grad = True
    step()
    assert b.item() == pytest.approx(0.99, rel=1e-15)
    a.requires_grad = False
    before = a.item()
    step()
    assert a.item() == before
    assert [adam.state_dict()[f"step.0.{i}"].item() for i in range(2)] == [51.0, 2.0]


@pytest.mark.parametrize("count", [-1.0, 0.5, 2.0**53, float("nan"), float("inf")])
def test_step_counts_that_nothing_counted_are_refused(count):
    """Ground truth: whole numbers that float64 can count on from; 2**53 + 1 is 2**53 there."""
    w = tt.zeros(2, requires_grad=True)
    adam = tt.optim.Adam([w])
    state = {name: x.numpy().copy() for name, x in adam.state_dict().items()}
    with pytest.raises(SettingError, match="step.0.0 is not a number of steps"):
        adam.load_state_dict({**state, "step.0.0": np.array(count)})
    assert adam.state_dict()["step.0.0"].item() == 0.0
    adam.load_state_dict({**state, "step.0.0": np.array(2.0**53 - 1)})
    assert adam.state_dict()["step.0.0"].item() == 2.0**53 - 1


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


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstrings."""
    for make, phrase in [
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


def test_what_is_no_optimizer_is_shown():
    """Ground truth: the types that were given."""
    for given, shown in (((), "none"), ((1, "adam"), "int, str")):
        with pytest.raises(SettingError) as caught:
            optim.Together(*given)
        assert caught.value.got == shown
