"""scan.py: closed forms, the loop written out, gradients, errors.

Eager mode; tests/compiler/record/test_loops.py compares compiled loops with it.
"""

from __future__ import annotations

import collections

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import TinyTorchError


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_sum(reverse):
    """Closed form: NumPy's cumulative sum, exact for whole numbers."""
    x = np.arange(12.0).reshape(6, 2)
    last, sums = tt.scan(
        lambda c, v: (c + v, c + v), tt.zeros(2, dtype=tt.float64), tt.Tensor(x), reverse=reverse
    )
    wanted = x[::-1].cumsum(0)[::-1] if reverse else x.cumsum(0)
    np.testing.assert_array_equal(sums.numpy(), wanted)
    np.testing.assert_array_equal(last.numpy(), x.sum(0))


def test_a_geometric_sequence():
    """Closed form: a r^t, powers of two are exact."""
    last, y = tt.scan(lambda c, _: (c * 2.0, c), tt.Tensor(3.0), length=10)
    assert y.tolist() == [3.0 * 2**t for t in range(10)] and last.item() == 3.0 * 2**10


def test_a_linear_recurrence():
    """Closed form: h_T = A^T h_0 + sum of A^(T-1-t) x_t; the bound is T products of 3 numbers."""
    a, x, h = numbers(3, 3) / 2, numbers(7, 3, seed=1), numbers(3, seed=2)
    weight = tt.Tensor(a)
    last, _ = tt.scan(lambda c, v: (weight @ c + v, None), tt.Tensor(h), tt.Tensor(x))
    powers = [np.linalg.matrix_power(a, t) for t in range(8)]
    wanted = powers[7] @ h + sum(powers[6 - t] @ x[t] for t in range(7))
    np.testing.assert_allclose(last.numpy(), wanted, rtol=1e-13, atol=1e-13)


def test_the_sum_of_a_geometric_sequence_has_its_derivative():
    """Closed form: d/dr of sum r^t is sum t r^(t-1)."""

    def total(r):
        return tt.scan(lambda c, _: (c * r, c), tt.ones((), dtype=tt.float64), length=6)[1].sum()

    r = 0.75
    got = tt.grad(total)(tt.Tensor(r, dtype=tt.float64)).item()
    assert got == pytest.approx(sum(t * r ** (t - 1) for t in range(1, 6)), rel=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_to_second_order(reverse):
    """Finite differences in float64: of the start, of xs and of a weight from outside."""

    def run(start, xs, weight):
        last, (y, z) = tt.scan(
            lambda c, v: ((c @ weight + v).tanh(), (c * v, c.sum())), start, xs, reverse=reverse
        )
        return last.sum() + (y * y).sum() + (z * z).sum()

    given = numbers(1, 3), numbers(4, 1, 3, seed=1), numbers(3, 3, seed=2) / 2
    assert tt.gradcheck(run, [tt.Tensor(x) for x in given])


Pair = collections.namedtuple("Pair", "a b")


def test_containers_stay_what_they_are():
    """Invariant: what comes back has the containers of what f gives; None is nothing."""

    def f(carry, x):
        new = {"p": Pair(carry["p"].a + 1, carry["p"].b), "l": [carry["l"][0] * 2], "n": None}
        return new, (x[0], {"y": x[1]["b"]}, None)

    init = {"p": Pair(tt.tensor(0), tt.zeros(2)), "l": [1.0], "n": None}
    xs = (tt.arange(3), {"b": tt.ones(3, 2)})
    last, (first, second, third) = tt.scan(f, init, xs)
    assert isinstance(last["p"], Pair) and last["n"] is None and third is None
    assert (last["p"].a.item(), last["l"][0].item()) == (3, 8.0)
    assert first.tolist() == [0, 1, 2] and second["y"].shape == (3, 2)


def test_no_trips():
    """Closed form: the start comes back, and stacks have no rows; f sees no numbers."""
    start = tt.Tensor([1.0, 2.0])
    last, (y, z) = tt.scan(
        lambda c, v: (c + v, (c.sum(), (c * v).astype(tt.float64))), start, tt.zeros(0, 2)
    )
    assert last.tolist() == [1.0, 2.0]
    assert (y.shape, y.dtype, z.shape, z.dtype) == ((0,), tt.float32, (0, 2), tt.float64)
    before = tt.default_generator.state.tolist()
    _, drawn = tt.scan(lambda c, _: (c, tt.rand(3)), None, length=0)
    assert drawn.shape == (0, 3) and tt.default_generator.state.tolist() == before


def test_one_trip():
    """Invariant: f itself, with an axis in front of y."""
    last, y = tt.scan(lambda c, v: (c * v, c + v), tt.Tensor(3.0), tt.Tensor([5.0]))
    assert last.item() == 15.0 and y.tolist() == [8.0]


def test_a_loop_in_a_loop():
    """Closed form: sums of sums."""

    def row(total, x):
        inner, _ = tt.scan(lambda c, v: (c + v, None), tt.tensor(0), x)
        return total + inner, inner

    total, rows = tt.scan(row, tt.tensor(0), tt.arange(12).reshape(3, 4))
    assert total.item() == 66 and rows.tolist() == [6, 22, 38]


@pytest.mark.parametrize(
    "call, phrase",
    [
        (lambda: tt.scan(lambda c, v: (c, v), 0.0, (tt.zeros(3), tt.zeros(4))), "not of one len"),
        (lambda: tt.scan(lambda c, v: (c, v), 0.0, tt.tensor(1.0)), "no axis to go along"),
        (lambda: tt.scan(lambda c, v: (c, v), 0.0), "number of trips is not known"),
        (lambda: tt.scan(lambda c, v: (c, v), 0.0, tt.zeros(3), length=4), "not that of the seq"),
        (lambda: tt.scan(lambda c, v: (c, v), 0.0, length=-1), "number of trips"),
        (lambda: tt.scan(lambda c, v: (c, v), 0.0, length=True), "number of trips"),
        (lambda: tt.scan(lambda c, v: c, 0.0, tt.zeros(3)), "does not give a pair"),
        (lambda: tt.scan(lambda c, v: ((c, c), v), 0.0, tt.zeros(3)), "in other containers"),
        (lambda: tt.scan(lambda c, v: ([c], v), (0.0,), tt.zeros(3)), "in other containers"),
        (lambda: tt.scan(lambda c, v: (c + v, v), 0.0, tt.zeros(3, 2)), "changes its shape"),
        (lambda: tt.scan(lambda c, v: (c + v, v), tt.tensor(0), tt.zeros(3)), "its number type"),
        (lambda: tt.scan(lambda c, v: (c, v), 0.0, tt.zeros(3), reverse=1), "reverse"),
    ],
)
def test_wrong_calls_are_refused_in_four_parts(call, phrase):
    """Ground truth: the phrase, eagerly and in a compiled function."""
    for run in (call, tt.compile(call)):
        with pytest.raises(TinyTorchError, match=phrase) as caught:
            run()
        error = caught.value
        assert all((error.what, error.got, error.rule, error.fix))


def test_y_of_another_kind_in_a_later_trip_is_refused():
    """Ground truth: the phrase."""
    given = iter([1, 2, 2])

    def f(c, v):
        return c, (v,) * next(given)

    with pytest.raises(TinyTorchError, match="y is not the same in every trip"):
        tt.scan(f, 0.0, tt.zeros(3))
