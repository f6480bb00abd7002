"""parts.py: arithmetic on parts that lie side by side is done to each part.

Ground truth of numbers: the eager definition. Ground truth of the rewriting: the operations that
are left, and which kernels there are.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch.codegen.target import Target

TARGET = Target.named("vector128")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def padded(x, before, after, axis=1):
    """x between zeros along one axis."""
    sizes = [tuple(n if d == axis else 0 for d in range(2)) for n in (before, after)]
    return tt.pad(x, *sizes)


def same(function, *given, target=TARGET):
    """Compare with eager; gives how often the simplified program has each operation, and tasks."""
    compiled = tt.compile(function, target=target)
    found, wanted = compiled(*given), function(*(tt.Tensor(x) for x in given))
    pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
    for x, y in pairs:
        np.testing.assert_allclose(
            x.numpy(), y.numpy(), rtol=2e-6, atol=1e-5
        )  # sums of 64 products
    stages = compiled.stages()
    names = Counter(n.primitive.name for n in stages["simplify"].graph.nodes)
    return names, [t.shown for t in stages["lower"].tasks]


def gates(x, w):
    """What a recurrent layer does: parts of one array, each by its own function, scaled after."""
    y = x * w
    a, b, c, d = y.chunk(4, -1)
    return tt.sigmoid(a) * tt.tanh(b) + tt.sigmoid(c) * d


@pytest.mark.parametrize("target", targets(), ids=str)
def test_the_gradient_of_slices_is_written_where_it_belongs(target):
    """Four paddings, their sum and what follows were ten kernels: now each part is written by what
    makes it, side by side in the result.

    Fails before this pass: 4 pad, and as many tasks that fill and that copy.
    """

    def step(x, w):
        return tt.grad(lambda x: gates(x, w).sum())(x)

    names, tasks = same(step, numbers(6, 128), numbers(128, seed=1), target=target)
    assert names["pad"] == 0 and names["concatenate"] == 1
    assert len(tasks) == 3 and not {"pad", "concatenate"} & {*tasks}


def test_parts_in_any_order_and_with_gaps_are_joined():
    """The paddings are added as they come: last, second, first, and the third after arithmetic."""

    def sum_of(x, w):
        def part(i):
            return padded(x * (i + 1), 32 * i, 96 - 32 * i)

        return ((part(3) + part(1)) + part(0)) * w + part(2)

    names, tasks = same(sum_of, numbers(4, 32), numbers(4, 128, seed=1))
    assert names["pad"] == 0 and len(tasks) == 4  # one a part, which have nothing in common


def test_arithmetic_on_a_concatenation_is_done_to_its_parts():
    """Rows of one number along the axis are the same for all parts; rows along it are cut."""

    def scaled(x, y, w, b):
        return tt.relu(tt.concat([x, y], 1) * w + b)

    given = numbers(3, 32), numbers(3, 64, seed=1), numbers(96, seed=2), numbers(3, 1, seed=3)
    names, tasks = same(scaled, *given)
    assert names["concatenate"] == 1 and names["slice"] == 2
    assert "concatenate" not in tasks


def test_infinity_times_padding_is_what_it_was():
    """0 times an infinity is NaN where it reaches the sum, on either side of the rewriting."""

    def run(x, y, w):
        return padded(x, 0, 32) * w + padded(y, 32, 0)

    w = numbers(3, 64, seed=2)
    w[0, 5] = w[1, 40] = np.inf
    x, y = numbers(3, 32), numbers(3, 32, seed=1)
    x[0, 5] = 0
    names, _ = same(run, x, y, w)
    assert names["pad"] == 0
    found = tt.compile(run, target=TARGET)(x, y, w).numpy()
    assert np.argwhere(np.isnan(found)).tolist() == [[0, 5], [1, 40]]


def test_a_gradient_with_infinite_slopes_is_what_it_was():
    """What a slice does not reach has the gradient 0, whatever the slope there (absorb)."""

    def step(x):
        return tt.grad(lambda x: tt.log(x)[:, :32].sum() + tt.sqrt(x)[:, 32:].sum())(x)

    x = np.abs(numbers(3, 64))
    x[0, 40] = x[1, 3] = 0  # 1 / 0 where no cotangent comes, and where one does
    same(step, x)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        # zeros that no part covers are a place of the result
        (lambda x, y: padded(x[:, :-1], 1, 0) + y, [(4, 64), (4, 64)]),
        # two results would both be written where one array is
        (lambda x, y: (lambda c: (c * 2, c.exp() + 1))(tt.concat([x, y], 1)), [(4, 32), (4, 32)]),
        # the product hands its numbers on in registers: they need no memory
        (lambda x, y: x @ x.T + tt.concat([y, y], 1), [(64, 64), (64, 32)]),
        # parts along different axes
        (
            lambda x, y: (padded(x, 0, 32) + padded(x, 32, 0))
            * (padded(y, 0, 2, 0) + padded(y, 2, 0, 0)),
            [(4, 32), (2, 64)],
        ),
        # numbers of a part that do not fill a vector
        (lambda x, y: tt.concat([x, y], 1).exp(), [(32, 3), (32, 3)]),
    ],
)  # fmt: skip
def test_what_is_left_as_it_was(function, shapes):
    """Invariant: where it does not pay the program is what the rules made of it."""
    given = [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]
    names, _ = same(function, *given)
    assert names["pad"] + names["concatenate"] > 0
    assert names["slice"] <= 1


def test_a_state_is_still_updated_where_it_lies():
    """A weight of which slices are used: its update is one kernel, and nothing is copied."""
    weight = tt.Tensor(numbers(64, 32), requires_grad=True)

    @tt.compile(target=TARGET)
    def step(x):
        weight.grad = None
        ((x @ weight[:32]) * (x @ weight[32:])).sum().backward()
        with tt.no_grad():
            weight.assign_(weight - 0.1 * weight.grad)

    before = weight.numpy().copy()
    step(numbers(8, 32))
    x, (a, b) = numbers(8, 32), np.split(before, 2)
    slope = np.concatenate([x.T @ (x @ b), x.T @ (x @ a)])
    np.testing.assert_allclose(weight.numpy(), before - 0.1 * slope, rtol=1e-4, atol=1e-4)
    assert "copy" not in [t.shown for t in step.stages()["lower"].tasks]


def test_many_parts_are_left_alone():
    """Code grows with parts: nine of them are one array first."""
    given = [numbers(2, 16, seed=i) for i in range(9)]
    names, _ = same(lambda *xs: tt.concat(list(xs), 1).exp(), *given)
    assert names["concatenate"] == 1 and names["exp"] == 1
