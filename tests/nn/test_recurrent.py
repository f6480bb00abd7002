"""recurrent.py: closed forms, invariants, errors."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError

KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def tokens(*shape):
    return np.random.default_rng(1).standard_normal(shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(name, state, x):
    """One layer over (T, B, C) in NumPy, from the formulas of the docstrings."""
    w, u, b, d = (
        state[n + "_l0"].numpy() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = c = np.zeros((x.shape[1], u.shape[1]))
    out = []
    for now in x:
        given, kept = now @ w.T + b, h @ u.T + d
        if name == "RNN":
            h = np.tanh(given + kept)
        elif name == "LSTM":
            i, f, g, o = np.split(given + kept, 4, -1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (a, z, n), (p, q, m) = np.split(given, 3, -1), np.split(kept, 3, -1)
            r, z = sigmoid(a + p), sigmoid(z + q)
            h = (1 - z) * np.tanh(n + r * m) + z * h
        out.append(h)
    return np.stack(out)


@pytest.mark.parametrize("name", KINDS)
def test_the_formulas(name):
    """Ground truth: the docstring's equations in NumPy."""
    layer = KINDS[name](3, 4).to(tt.float64)
    x = tokens(5, 2, 3)
    out, _ = layer(tt.Tensor(x))
    expected = by_hand(name, layer.state_dict(), x)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-12)


@each_kind
def test_a_sequence_goes_on_from_its_state(kind):
    """Invariant: two halves with the state handed on = the whole."""
    layer, x = kind(3, 4, 2).to(tt.float64), tt.Tensor(tokens(6, 2, 3))
    whole, last = layer(x)
    first, state = layer(x[:4])
    second, end = layer(x[4:], state)
    halves = np.concatenate([first.detach().numpy(), second.detach().numpy()])
    np.testing.assert_allclose(halves, whole.detach().numpy(), rtol=1e-13)
    for a, b in zip(*((s if isinstance(s, tuple) else (s,)) for s in (end, last)), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-13)


@each_kind
def test_the_other_direction_reads_the_sequence_reversed(kind):
    """Invariant: the backward half of the outputs is a forward layer on the reversed sequence."""
    both, one = kind(3, 4, bidirectional=True).to(tt.float64), kind(3, 4).to(tt.float64)
    state = both.state_dict()
    one.load_state_dict(
        {n.removesuffix("_reverse"): v for n, v in state.items() if n.endswith("_reverse")}
    )
    x = tokens(5, 2, 3)
    out, _ = both(tt.Tensor(x))
    alone, _ = one(tt.Tensor(x[::-1].copy()))
    np.testing.assert_allclose(
        out.detach().numpy()[..., 4:], alone.detach().numpy()[::-1], rtol=1e-13
    )


@each_kind
def test_batch_first_and_single_sequences_are_the_same_numbers(kind):
    """Invariant: layouts change, numbers do not."""
    layer, x = kind(3, 4).to(tt.float64), tokens(5, 2, 3)
    first = kind(3, 4, batch_first=True).to(tt.float64)
    first.load_state_dict(layer.state_dict())
    out, _ = layer(tt.Tensor(x))
    other, _ = first(tt.Tensor(x.swapaxes(0, 1).copy()))
    np.testing.assert_allclose(other.detach().numpy().swapaxes(0, 1), out.detach().numpy())
    single, state = layer(tt.Tensor(x[:, 0].copy()))
    np.testing.assert_allclose(single.detach().numpy(), out.detach().numpy()[:, 0], rtol=1e-12)
    again, _ = layer(tt.Tensor(x[:, 0].copy()), state)
    assert again.shape == (5, 4)


def test_an_open_forget_gate_carries_the_gradient_a_hundred_steps():
    """Closed form: with f = 1 and i = 0 the cell is a sum, and its gradient is 1 at any distance.

    sigmoid(40) is 1 in float64 but for 4e-18, and sigmoid(-40) is 4e-18.
    """
    layer = nn.LSTM(1, 1).to(tt.float64)
    with tt.no_grad():
        for p in layer.parameters():
            p.zero_()
        layer.bias_ih_l0.copy_(tt.Tensor([-40.0, 40.0, 0.0, 40.0]))
    c = tt.Tensor([[[0.5]]], dtype="float64", requires_grad=True)
    _, (_, last) = layer(tt.zeros(100, 1, 1, dtype="float64"), (tt.zeros(1, 1, 1).double(), c))
    last.sum().backward()
    assert c.grad.item() == pytest.approx(1.0, rel=1e-12)


def test_bad_settings_and_shapes_are_named():
    """Ground truth: the docstrings."""
    with pytest.raises(SettingError, match="LSTM: hidden_size is not a whole number"):
        nn.LSTM(3, 0)
    with pytest.raises(SettingError, match="GRU: dropout is outside its range"):
        nn.GRU(3, 4, dropout=2.0)
    layer = nn.LSTM(3, 4)
    with pytest.raises(ShapeError, match=r"\(T, B, C\) with C = input_size = 3"):
        layer(tt.zeros(5, 2, 4))
    with pytest.raises(ShapeError, match="at least one token"):
        layer(tt.zeros(0, 2, 3))
    with pytest.raises(ShapeError, match="the first state does not fit"):
        layer(tt.zeros(5, 2, 3), (tt.zeros(1, 3, 4), tt.zeros(1, 3, 4)))
    with pytest.raises(ShapeError, match="2 of"):
        layer(tt.zeros(5, 2, 3), tt.zeros(1, 2, 4))


def test_repr_names_what_is_not_the_default():
    """Ground truth: written by hand."""
    assert repr(nn.LSTM(3, 4)) == "LSTM(3, 4)"
    assert (
        repr(nn.GRU(3, 4, 2, bidirectional=True)) == "GRU(3, 4, num_layers=2, bidirectional=True)"
    )
