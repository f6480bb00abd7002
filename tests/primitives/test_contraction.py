"""Attention beyond the contract: cotangents of one output only, masks, mixed precision."""

import numpy as np
import pytest

from tests.reverse_mode import Traced, gradient, inner
from tinytorch.base.dtypes import bfloat16, float32, from_bfloat16
from tinytorch.primitives import TABLE, attention, attention_gradient, cast
from tinytorch.primitives.primitive import numbers, store

SIZE = (1, 2, 3, 4)


def heads():
    return [numbers(*SIZE), numbers(1, 2, 5, 4, seed=1), numbers(1, 2, 5, 4, seed=2)]


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_cotangent_of_either_output(which, causal):
    """Ground truth: finite differences of out alone, lse alone, and both."""
    arrays, h = heads(), 1e-5
    weights = [numbers(*SIZE, seed=4), numbers(*SIZE[:3], seed=5)]

    def value(arrays):
        outs = attention(*(Traced(a) for a in arrays), causal=causal, scale=0.7)
        return sum(float((outs[i].array * weights[i]).sum()) for i in which)

    variables = [Traced(a) for a in arrays]
    outs = attention(*variables, causal=causal, scale=0.7)
    found = gradient([(outs[i], Traced(weights[i])) for i in which], variables)
    for i, (x, g) in enumerate(zip(arrays, found, strict=True)):
        way = numbers(*x.shape, seed=7 + i)
        moved = [[y + s * h * way if j == i else y for j, y in enumerate(arrays)] for s in (1, -1)]
        numeric = (value(moved[0]) - value(moved[1])) / (2 * h)
        exact = 0.0 if g is None else float((g.array * way).sum())
        assert exact == pytest.approx(
            numeric, rel=1e-6, abs=1e-8
        )  # h^2 and eps / h are 1e-10, 1e-11
    assert (found[2] is None) == (which == (1,)), "v does not reach the log-sum-exp"


def test_third_order():
    """Ground truth: finite differences of a second derivative: compositions go on for ever."""

    def second(q_array):
        q, k, v = (Traced(a) for a in (q_array, *heads()[1:]))
        out, _ = attention(q, k, v, causal=True, scale=0.5)
        (first,) = gradient([(out, Traced(numbers(*SIZE, seed=3)))], [q])
        (again,) = gradient([(inner(first, numbers(*SIZE, seed=4)), Traced(np.ones(())))], [q])
        return q, inner(again, numbers(*SIZE, seed=5))

    q, value = second(heads()[0])
    (third,) = gradient([(value, Traced(np.ones(())))], [q])
    way, h = numbers(*SIZE, seed=6), 1e-4
    up, down = (float(second(heads()[0] + s * h * way)[1].array) for s in (1, -1))
    assert float((third.array * way).sum()) == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_a_query_that_sees_nothing_gives_zero():
    """Ground truth: the stated rule, for T = 3 queries and S = 1 key under causal."""
    q, k, v = numbers(1, 1, 3, 2), numbers(1, 1, 1, 2, seed=1), numbers(1, 1, 1, 2, seed=2)
    out, lse = attention(q, k, v, causal=True, scale=1.0)
    np.testing.assert_array_equal(out[0, 0, :2], 0)
    np.testing.assert_array_equal(lse[0, 0, :2], -np.inf)
    np.testing.assert_array_equal(out[0, 0, 2], v[0, 0, 0])
    grads = attention_gradient(np.ones_like(q), q, k, v, out, lse, causal=True, scale=1.0)
    assert all(np.isfinite(g).all() for g in grads)
    np.testing.assert_array_equal(grads[2][0, 0, 0], 1.0)


def test_large_scores_do_not_overflow():
    """Invariant: adding one vector to every key moves every score of a row alike."""
    q, k, v = (a * 30 for a in heads())
    out, lse = attention(
        q.astype("float32"), k.astype("float32"), v.astype("float32"), causal=False, scale=1.0
    )
    assert np.isfinite(out).all() and np.isfinite(lse).all() and np.abs(lse).max() > 88.7


def test_bfloat16_heads_with_float32_results():
    """Ground truth: the same rounded heads in float64; gradients are not rounded to bfloat16.

    Out and gradients differ by float32 rounding of sums of at most 5 terms with weights below 1 and
    scores below 30: 100 * 2^-24 relative to the largest.
    """
    rounded = [store(a, bfloat16) for a in heads()]
    exact = [from_bfloat16(a).astype(np.float64) for a in rounded]
    variables = [Traced(a) for a in rounded]
    out, lse = attention(*variables, causal=True, scale=0.5, dtype=float32)
    assert out.dtype is float32 and lse.dtype is float32
    wanted, wanted_lse = attention(*exact, causal=True, scale=0.5)
    np.testing.assert_allclose(out.array, wanted, rtol=0, atol=100 * 2**-24 * np.abs(wanted).max())
    np.testing.assert_allclose(lse.array, wanted_lse, rtol=100 * 2**-24)
    g = from_bfloat16(store(numbers(*SIZE, seed=3), bfloat16))
    found = gradient([(out, Traced(g))], variables)
    truth = attention_gradient(
        g.astype(np.float64), *exact, wanted, wanted_lse, causal=True, scale=0.5
    )
    for x, y in zip(found, truth, strict=True):
        assert x.dtype is float32
        np.testing.assert_allclose(x.array, y, rtol=0, atol=400 * 2**-24 * np.abs(y).max())


def test_mixed_precision_reaches_float32_leaves():
    """Invariant: through casts, the gradient of a float32 array is float32, of its shape."""
    x, w = Traced(numbers(3, 4, dtype="float32")), Traced(numbers(4, 2, dtype="float32"))
    low = [cast(a, dtype=bfloat16) for a in (x, w)]
    out = TABLE["matmul"](*low, dtype=float32)
    g = Traced(numbers(3, 2, seed=2, dtype="float32"))
    for leaf, found in zip((x, w), gradient([(out, g)], [x, w]), strict=True):
        assert found.dtype is float32 and found.shape == leaf.shape
