"""summary.py: counted by hand, and nothing of the model changes.

Of signals: closed forms of small nets, and what first values and norms do in deep ones.
"""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError
from tinytorch.base.settings import STRUCTURE


def rows_of(summary) -> dict:
    return {row.name: row for row in summary.rows}


def test_linear_is_counted():
    """Closed form: 2 N C K for the product, N K for the bias; both results are kept."""
    layer = nn.Linear(5, 3)
    summary = layer.summary((4, 5))
    assert summary.parameters == summary.trainable == 18
    assert summary.flops == 2 * 4 * 5 * 3 + 4 * 3
    assert summary.activation_bytes == 2 * 4 * 3 * 4
    assert summary.rows[0].output == ((4, 3),)


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 2)])
def test_convolution_is_counted(groups, stride):
    """Closed form: 2 N K H' W' C / groups k^2 (row S4-57)."""
    layer = nn.Conv2d(4, 6, 3, stride=stride, padding=1, groups=groups, bias=False)
    n, side = 2, 8 // stride
    assert layer.summary((n, 4, 8, 8)).flops == 2 * n * 6 * side * side * (4 // groups) * 9


def test_columns_add_up_and_shared_weights_count_once():
    """Ground truth: Whole has one layer under two names and one that is never called."""

    class Whole(nn.Module):
        def __init__(self):
            self.first = nn.Linear(3, 3)
            self.unused = nn.Linear(2, 2)
            self.tied = nn.Linear(3, 3)
            self.tied.weight = self.first.weight

        def forward(self, x):
            return self.first(self.first(x)) * 2.0

    rows = rows_of(Whole().summary((1, 3)))
    assert rows["first"].calls == 2 and rows["unused"].calls == 0
    assert rows["first"].parameters == 12 and rows["tied"].parameters == 3
    assert rows["first"].flops == 2 * (2 * 9 + 3)
    assert rows[""].flops == 3
    assert rows["unused"].output == ()


def test_frozen_weights_are_said():
    """Ground truth: requires_grad."""
    net = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 1))
    summary = net.summary((2, 3))
    assert (summary.parameters, summary.trainable) == (16, 4)
    assert "16 (12 frozen), 64 B" in str(summary)
    assert repr(summary) == str(summary)


def memory_of(tensor_or_buffer) -> np.ndarray:
    """The array that owns the memory."""
    held = getattr(tensor_or_buffer, "_buffer", tensor_or_buffer)
    array = getattr(held, "array", held)  # the tape keeps the array of a view
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_kept_memory_is_what_the_tape_keeps():
    """Ground truth: an eager run: bytes of the arrays that the tape holds, without weights."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2),
                        nn.Flatten(), nn.Linear(36, 5))  # fmt: skip
    x = tt.Tensor(np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32))
    own = {id(memory_of(t)) for t in (*net.parameters(), *net.buffers(), x)}
    expected = net.summary(x).activation_bytes
    node, memory, seen, todo = net(x)._node, {}, set(), []
    todo.append(node)
    while todo:
        place = todo.pop()
        node = getattr(place, "node", place)
        if id(node) in seen or not hasattr(node, "inputs"):
            continue
        seen.add(id(node))
        todo += [p for p in node.parents if p is not None]
        outs = node.output if isinstance(node.output, tuple) else (node.output,)
        for buffer in (*node.inputs, *outs):
            array = memory_of(buffer)
            memory[id(array)] = 0 if id(array) in own else array.nbytes
    numbers = 4  # bytes of each Python number that met the tape: 0-d arrays made beforehand
    assert sum(memory.values()) == pytest.approx(expected, abs=20 * numbers)


def test_nothing_changes():
    """Invariant: weights, statistics, random state, hooks and compiled programs stay."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    seen = []
    net[0].register_forward_hook(lambda m, inputs, out: seen.append(tuple(out.shape)))
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    tt.manual_seed(3)
    expected = tt.rand(2).tolist()
    tt.manual_seed(3)
    structure = STRUCTURE.value
    net.summary((5, 3))
    assert STRUCTURE.value == structure
    assert tt.rand(2).tolist() == expected
    assert seen == [(5, 4)]
    for name, value in net.state_dict().items():
        assert np.array_equal(value.numpy(), before[name])
    net(tt.zeros(5, 3)).sum().backward()
    assert net[0].weight.grad is not None
    assert len(seen) == 2


def test_tokens_and_several_inputs_are_taken():
    """Ground truth: the shapes of the docstrings."""
    table = nn.Embedding(7, 3)
    assert table.summary(np.zeros((2, 4), np.int64)).rows[0].output == ((2, 4, 3),)
    loss = nn.CrossEntropyLoss()
    assert loss.summary(tt.zeros(3, 5), np.array([0, 1, 4])).rows[0].output == ((),)


def test_a_module_that_looks_at_values_is_told():
    """Ground truth: there are no numbers."""

    class Looking(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    layer = Looking()
    with pytest.raises(SettingError, match="the module looks at values"):
        layer.summary((2,))
    assert layer(tt.ones(2)).tolist() == [1.0, 1.0]


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


def test_nothing_changes_by_signals():
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


def test_calls_are_counted():
    """Closed form: a layer that is called twice says so, one that is called once does not."""
    layer = nn.Linear(3, 3)
    text = str(nn.Sequential(layer, layer).summary((1, 3)))
    assert " x2" in text and " x1" not in text
