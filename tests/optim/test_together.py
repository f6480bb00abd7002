"""together.py: several optimizers, each for its own parameters."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.base.errors import SettingError


def weight(*values: float) -> tt.Tensor:
    return tt.Tensor(np.array(values), requires_grad=True)


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
