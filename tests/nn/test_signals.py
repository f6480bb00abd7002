"""signals.py: closed forms of small nets, and what first values and norms do in deep ones."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.settings import STRUCTURE


def test_numbers_and_gradients_of_a_small_net():
    """Closed form: 3 x = (3, -6), relu (3, 0); d sum / d relu = (1, 1), d / d 3x = (1, 0)."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    with tt.no_grad():
        net[0].weight.assign_(tt.Tensor([[3.0]]))
    rows = nn.signal(net, tt.Tensor([[1.0], [-2.0]]), loss=lambda y: y.sum()).rows
    assert [(row.name, row.kind) for row in rows] == [
        ("0", "Linear"), ("1", "ReLU"), ("", "Sequential")
    ]  # fmt: skip
    assert [row.mean for row in rows] == [-1.5, 1.5, 1.5]
    assert [row.deviation for row in rows] == [4.5, 1.5, 1.5]
    assert [row.zeros for row in rows] == [0.0, 0.5, 0.5]
    assert [row.gradient for row in rows] == pytest.approx([0.5**0.5, 1.0, 1.0])


def deep(name: str, norm: bool) -> list:
    tt.manual_seed(0)
    parts = []
    for _ in range(20):
        parts += [nn.Linear(128, 128), *([nn.LayerNorm(128)] if norm else []), nn.Tanh()]
    net = nn.initialise(nn.Sequential(parts), name)
    found = nn.signal(net, tt.randn(64, 128), loss=lambda y: (y * y).sum()).rows
    return [row for row in found if row.kind == "Linear"]


def test_small_first_values_fade_and_a_norm_holds_them():
    """Effect (rows S4-26, S4-80): with deviation 0.02 a layer of 128 multiplies by 0.02 sqrt(128) =
    0.23: after 20 layers 1e-13; a layer norm brings the deviation back to 1 each time."""
    fading, held = deep("small_normal", norm=False), deep("small_normal", norm=True)
    assert fading[-1].deviation < 1e-10
    assert 0.1 < held[-1].deviation / held[1].deviation < 10
    assert fading[0].gradient < 1e-10
    assert held[0].gradient > 1e-3 * held[-1].gradient


def test_nothing_changes():
    """Invariant: weights, gradients, statistics, random state and programs stay."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    tt.manual_seed(3)
    expected = tt.rand(2).tolist()
    tt.manual_seed(3)
    structure = STRUCTURE.value
    text = str(nn.signal(net, np.ones((5, 3), np.float32), loss=lambda y: y.sum()))
    assert STRUCTURE.value == structure and tt.rand(2).tolist() == expected
    assert all(np.array_equal(v.numpy(), before[n]) for n, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert text.splitlines()[0].split() == ["layer", "mean", "deviation", "zeros", "gradient"]
    assert len(text.splitlines()) == 5


def test_outputs_of_several_tensors_are_seen():
    """Ground truth: an LSTM gives a tuple; its first Tensor is shown, without a gradient."""
    rows = nn.signal(nn.LSTM(3, 2), tt.ones(2, 4, 3)).rows
    assert rows[-1].kind == "LSTM" and rows[-1].gradient is None and rows[-1].deviation > 0


def test_the_table_with_and_without_gradients():
    """Ground truth: written by hand; without a loss there is no such number."""
    net, x = nn.ReLU(), tt.Tensor([[1.0, -2.0]])
    alone, seen = (
        str(nn.signal(net, x, loss=f)).splitlines()[1] for f in (None, lambda y: y.sum())
    )
    assert alone.split() == ["all:", "ReLU", "0.5", "0.5", "50%"]
    assert seen.split() == ["all:", "ReLU", "0.5", "0.5", "50%", "1"]


def test_outputs_without_numbers_have_no_gradient_in_size():
    """Closed form: the norm of nothing is 0."""
    rows = nn.signal(nn.ReLU(), tt.zeros(0, 3), loss=lambda y: y.sum()).rows
    assert [row.gradient for row in rows] == [0.0]
