"""Loops whose number of trips, or whose values, differ in length by call: one program for all."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import CompileError

T, B = tt.dim("T", max=8), tt.dim("B", max=9)
# Sums of fewer than 100 terms of size 1 in another order, handed on through 8 trips that multiply
# a difference by at most 2.
BOUND = 2.0**8 * 100 * 2.0**-52


def numbers(*shape, seed=0):
    return tt.Tensor(np.random.default_rng(seed).standard_normal(shape))


def flat(x):
    return [y for part in x for y in flat(part)] if isinstance(x, tuple | list) else [x]


def check(function, make, shapes):
    """Ground truth: eager, for several lengths, by one program."""
    compiled = tt.compile(function, dynamic_shapes=shapes)
    for n in (3, 8, 1, 5):
        given = make(n)
        for a, b in zip(flat(function(*given)), flat(compiled(*given)), strict=True):
            a, b = a.detach().numpy(), b.detach().numpy()
            assert a.shape == b.shape
            assert np.abs(a - b).max(initial=0) <= BOUND * max(1, np.abs(a).max(initial=0))
    assert compiled.captures == 1


@pytest.mark.parametrize("shapes", [{0: T}, {1: B}, {0: T, 1: B}], ids=["time", "batch", "both"])
@pytest.mark.parametrize("kind, both", [(nn.LSTM, False), (nn.GRU, True)])
def test_recurrent_layers_and_their_gradients(kind, both, shapes):
    """Ground truth: see `check`: outputs, last states and gradients of all weights."""
    tt.manual_seed(0)
    model = kind(3, 4, bidirectional=both).to(tt.float64)
    x = numbers(8, 9, 3)

    def step(x):
        for p in model.parameters():
            p.grad = None
        out, last = model(x)
        loss = (out * out).sum() + sum((part * part).sum() for part in flat(last))
        loss.backward()
        return loss, out, last, [p.grad for p in model.parameters()]

    def make(n):
        return (x[: n if 0 in shapes else 8, : n + 1 if 1 in shapes else 9],)

    check(step, make, {"x": shapes})


@pytest.mark.parametrize("reverse", [False, True])
def test_what_lies_beyond_does_no_harm(reverse):
    """Ground truth: see `check`; logarithms and quotients of what lies beyond are not numbers."""
    x = numbers(8, 2)

    def run(x):
        def f(c, v):
            return c + v.abs().log(), (c / v, (c * v).sum())

        last, ys = tt.scan(f, x[0], x, reverse=reverse)
        return last, ys, ys[1].sum()

    check(run, lambda n: (x[:n],), {"x": {0: T}})


def test_places_looked_up_in_a_trip():
    """Ground truth: see `check`; what lies beyond is no index."""
    table = numbers(5, 2)
    index = tt.Tensor(np.array([4, 0, 3, 1, 2, 4, 1, 0]))

    def run(index):
        return tt.scan(lambda c, i: (c + nn.functional.embedding(i + 0, table), i), table[0], index)

    check(run, lambda n: (index[:n],), {"index": {0: T}})


def test_loops_in_loops():
    """Ground truth: see `check`: both along the length."""
    x = numbers(8, 2)

    def run(x):
        def outer(c, v):
            inner, _ = tt.scan(lambda d, u: (d * 0.5 + u, None), v, x)
            return c + inner, inner

        return tt.scan(outer, tt.zeros(2, dtype=tt.float64), x)

    check(run, lambda n: (x[:n],), {"x": {0: T}})


def test_what_no_rule_can_make_right_is_refused():
    """Ground truth: the phrase: a user's row along a length, inside a trip."""
    row = tt.primitive("of_a_trip", infer=lambda x: x, numpy=lambda x: x[::-1])
    try:
        compiled = tt.compile(
            lambda x: tt.scan(lambda c, v: (c, row(v)), None, x)[1], dynamic_shapes={"x": {1: B}}
        )
        with pytest.raises(CompileError, match="not known what this operation does"):
            compiled(numbers(3, 4))
    finally:
        del tt.primitives.TABLE["of_a_trip"]
