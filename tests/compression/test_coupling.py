"""Labels of places: which are one, which cannot go."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.compression.coupling import Coupling, makes, units
from tinytorch.compression.recorded import recorded
from tinytorch.primitives.primitive import TABLE, OpClass


def coupled(function, weights, *inputs):
    """The labels of weights, roots, after `function(*inputs, *weights)`."""

    class Model(nn.Module):
        def __init__(self):
            self.weights = [nn.Parameter(w) for w in weights]

        def forward(self, *inputs):
            return function(*inputs, *self.weights)

    model = Model()
    recording = recorded(model, inputs)
    at = {id(t): v for v, t in zip(recording.graph.states, recording.sources, strict=True)}
    values = [at[id(w)] for w in model.weights]
    coupling = Coupling(recording.graph, values)
    return coupling, values


def ones(*shape):
    return tt.ones(*shape)


X = tt.zeros(2, 3)


@pytest.mark.parametrize(
    ("function", "pairs"),
    [
        # a: (3, 4) makes the columns, b: (4, 2) reads them; places of b by those of a
        (lambda x, a, b: x @ a @ b, {0: [0], 1: [1], 2: [2], 3: [3]}),
        (lambda x, a, b: tt.flip(x @ a, 1) @ b, {0: [3], 1: [2], 2: [1], 3: [0]}),
        (lambda x, a, b: (x @ a).reshape(2, 2, 2).reshape(2, 4) @ b, {0: [0, 1], 2: [2, 3]}),
        (lambda x, a, b: (x @ a).reshape(2, 2, 2).permute(2, 0, 1).reshape(4, 2) @ b[:2],
         {0: [0], 2: [1]}),
        (lambda x, a, b: ((x @ a)[:, :2] * (x @ a)[:, 2:]) @ b[:2], {0: [0], 1: [1], 2: [0]}),
        (lambda x, a, b: tt.cat([(x @ a)[:, 2:], (x @ a)[:, :2]], 1) @ b, {0: [2], 3: [1]}),
    ],
)  # fmt: skip
def test_places_that_are_one(function, pairs):
    """Ground truth: by hand, how each operation moves the columns."""
    coupling, (a, b) = coupled(function, [ones(3, 4), ones(4, 2)], X)
    made, read = coupling.roots(coupling.of[a][1]), coupling.roots(coupling.of[b][0])
    for place, partners in pairs.items():
        assert made[place] and {i for i in range(4) if read[i] == made[place]} >= set(partners)
    assert not coupling.roots(coupling.of[a][0]).any()  # the input's features stay
    assert not coupling.roots(coupling.of[b][1]).any()  # and the output's


@pytest.mark.parametrize(
    "function",
    [
        lambda x, a, b: (x @ a - (x @ a).mean(1, keepdim=True)) @ b,
        lambda x, a, b: tt.cumsum(x @ a, 1) @ b,
        lambda x, a, b: tt.sort(x @ a, 1).values @ b,
        lambda x, a, b: (x @ a + tt.Tensor(np.arange(4, dtype=np.float32))) @ b,
        lambda x, a, b: (x @ a + tt.arange(4).astype("float32")) @ b,
        lambda x, a, b: tt.softmax(x @ a, 1) @ b,
    ],
)
def test_what_cannot_go(function):
    """Ground truth: each result changes where a column is left out, or knows how many there are."""
    coupling, (a, b) = coupled(function, [ones(3, 4), ones(4, 2)], X)
    assert not coupling.roots(coupling.of[a][1]).any()
    assert not units(coupling, [a, b])


def test_units_and_what_makes_them():
    """Ground truth: by hand: a bias and a row go with a column that reads them."""
    coupling, values = coupled(
        lambda x, a, c, b: (x @ a + c) @ b, [ones(3, 4), ones(4), ones(4, 2)], X
    )
    found = units(coupling, values)
    assert [unit.places for unit in found] == [
        {(0, 1): [i], (1, 0): [i], (2, 0): [i]} for i in range(4)
    ]
    made = makes(coupling, values)
    assert made(0, 1) and made(1, 0) and not made(2, 0)


def test_rows_of_other_classes_are_left_alone():
    """Invariant: an operation without a rule (a loop) keeps all that it is given."""
    layer = nn.Sequential(nn.Linear(3, 4), nn.GRU(4, 5))

    def forward(x, *weights):
        return layer[1](x @ weights[0])[0]

    coupling, (a,) = coupled(forward, [ones(3, 4)], tt.zeros(2, 6, 3))
    assert not coupling.roots(coupling.of[a][1]).any()
    assert TABLE["scan"].op_class is OpClass.LOOP
