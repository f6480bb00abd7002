"""cond.py: closed forms, gradients, containers, errors.

Eager mode; tests/compiler/record/test_branches.py compares compiled branches with it.
"""

from __future__ import annotations

import collections

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import TinyTorchError

YES, NO = (tt.Tensor(np.array(holds)) for holds in (True, False))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_one_function_is_called():
    """Ground truth: Python's if; the other function would raise."""

    def refuse(*_):
        raise AssertionError

    x = tt.Tensor([1.0, 2.0])
    assert tt.cond(YES, lambda x, y: x + y, refuse, (x, x)).tolist() == [2.0, 4.0]
    assert tt.cond(NO, refuse, lambda x: x * 3, [x]).tolist() == [3.0, 6.0]
    assert tt.cond(x.sum() > 2, lambda: x[0], refuse).item() == 1.0
    for known in (True, np.bool_(True)):
        assert tt.cond(known, lambda: 1.0, refuse).item() == 1.0


@pytest.mark.parametrize("run", [lambda f: f, tt.compile], ids=["eager", "compiled"])
def test_an_absolute_value_has_its_derivatives(run):
    """Closed form: of |x|^3 = x^2 |x| they are 3 x |x| and 6 |x|; powers of two are exact."""

    def cube(x):
        return tt.cond(x > 0, lambda x: x * x * x, lambda x: -x * x * x, (x,))

    for x in (2.0, -4.0):
        given = tt.Tensor(x, dtype=tt.float64)
        assert run(tt.grad(cube))(given).item() == 3 * x * abs(x)
        assert run(tt.grad(tt.grad(cube)))(given).item() == 6 * abs(x)


@pytest.mark.parametrize("run", [lambda f: f, tt.compile], ids=["eager", "compiled"])
def test_newton_until_it_is_near(run):
    """Closed form: the square root of 2, from the trip on in which it is found the state stays."""

    def root(x):
        def trip(c, _):
            near = (c * c - x).abs() < 1e-12
            return tt.cond(near, lambda: c, lambda: (c + x / c) / 2), near

        return tt.scan(trip, x, None, 12)

    last, near = run(root)(tt.Tensor(2.0, dtype=tt.float64))
    assert last.item() == pytest.approx(2**0.5, rel=1e-15)
    assert near.tolist() == [False] * 5 + [True] * 7


@pytest.mark.parametrize("flag", [YES, NO])
def test_gradients_to_second_order(flag):
    """Finite differences in float64: of operands and of a weight from outside."""

    def run(x, weight):
        y, z = tt.cond(
            flag,
            lambda x: ((x @ weight).tanh(), x.sum()),
            lambda x: (x * weight.sum(), x.exp().sum()),
            (x,),
        )
        return (y * y).sum() + z * z

    given = numbers(1, 3), numbers(3, 3, seed=2) / 2
    assert tt.gradcheck(run, [tt.Tensor(x) for x in given])


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize("run", [lambda f: f, tt.compile], ids=["eager", "compiled"])
def test_containers_stay_what_they_are(run):
    """Invariant: what comes back has the containers that the functions give; None is nothing."""

    def both(flag, x):
        return tt.cond(
            flag,
            lambda p, d: {"p": Pair(p.a, d["x"]), "l": [1.0, None]},
            lambda p, d: {"p": Pair(p.b, d["x"] * 2), "l": [p.a, None]},
            (Pair(x, x + 1), {"x": tt.arange(2)}),
        )

    for flag, wanted in ((YES, (3.0, [0, 1], 1.0)), (NO, (4.0, [0, 2], 3.0))):
        out = run(both)(flag, tt.Tensor(3.0))
        assert isinstance(out["p"], Pair) and out["l"][1] is None
        assert (out["p"].a.item(), out["p"].b.tolist(), out["l"][0].item()) == wanted


@pytest.mark.parametrize("run", [lambda f: f, tt.compile], ids=["eager", "compiled"])
def test_what_is_handed_on_is_a_tensor_of_its_own(run):
    """Ground truth: later changes of what was given, or shown, are not seen; nor the other way."""
    x = tt.Tensor([1.0, 2.0])

    def step(flag):
        new = x * 3
        out = tt.cond(flag, lambda: (x, x[1:], new, new * 1), lambda: (x, x[:1], x, x))
        x.add_(10)
        for y in out:
            y.mul_(2)
        new.mul_(5)
        return (*out, new)

    assert [y.tolist() for y in run(step)(YES)] == [[2, 4], [4], [6, 12], [6, 12], [15, 30]]
    assert x.tolist() == [11.0, 12.0]


@pytest.mark.parametrize("run", [lambda f: f, tt.compile], ids=["eager", "compiled"])
def test_nothing_is_given(run):
    """Ground truth: None."""
    assert run(lambda flag: tt.cond(flag, lambda: None, lambda: None))(YES) is None


@pytest.mark.parametrize(
    "predicate, phrase, fix",
    [
        (tt.Tensor(1.0), "a number, not a truth value", "x > 0"),
        (tt.Tensor(np.array([True, False])), "not one truth value", "tt.where"),
        (tt.Tensor(np.array([True])), "not one truth value", ".item()"),
        (1, "no truth value", "bool(number)"),
        (None, "no truth value", "comparison"),
    ],
)
def test_what_is_no_truth_value_is_refused(predicate, phrase, fix):
    """Ground truth: the phrase, and what helps, eagerly and in a compiled function."""
    for run in (lambda f: f, tt.compile):
        with pytest.raises(TinyTorchError, match=phrase) as caught:
            run(lambda: tt.cond(predicate, lambda: 1.0, lambda: 2.0))()
        assert fix in caught.value.fix


def test_operands_are_a_tuple():
    """Ground truth: the phrase."""
    with pytest.raises(TinyTorchError, match="not in a tuple"):
        tt.cond(YES, lambda x: x, lambda x: x, tt.Tensor(1.0))


@pytest.mark.parametrize(
    "true, false, phrase",
    [
        (lambda x: x, lambda x: (x,), "other containers"),
        (lambda x: (x, None), lambda x: (x, x), "other containers"),
        (lambda x: x, lambda x: x.sum(), "other shapes"),
        (lambda x: x, lambda x: x.astype(tt.float64), "other number types"),
        (lambda x: x.sum(), lambda x: 0, "other number types"),
    ],
)
def test_functions_that_disagree_are_refused_where_both_are_seen(true, false, phrase):
    """Ground truth: the phrase, in four parts; eagerly one function alone is called."""
    x = tt.Tensor([1.0, 2.0])
    with pytest.raises(TinyTorchError, match=phrase) as caught:
        tt.compile(lambda flag, x: tt.cond(flag, true, false, (x,)))(YES, x)
    assert all((caught.value.what, caught.value.got, caught.value.rule, caught.value.fix))
    tt.cond(YES, true, false, (x,))
