"""Both directions of attention against the definition in float64 NumPy, bfloat16 by AMX tiles too.

Weights of bfloat16 inputs and their changes are rounded to bfloat16 before the second products:
relative errors of 2**-9 each, whose sum over a row stays below 2**-7 of the largest term.
"""

import numpy as np
import pytest

from tests.kernels.attention_reference import (
    SHAPES,
    TARGETS,
    backward,
    bound,
    definition,
    forward,
    gradients,
    heads,
    run_bfloat16,
)
from tests.kernels.lowered_runner import AMX, PLAIN, untouched

BFLOAT16_SHAPES = [
    (1, 4, 7, 1, 5),
    (2, 3, 50, 50, 24),
    (1, 8, 70, 131, 17),
    (1, 4, 131, 70, 64),
    (1, 4, 150, 214, 20),
]
LIMIT = 2.0**-7


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_the_definition(target, causal, shape):
    """Ground truth: the gradient's formulas in float64.

    Every gradient is a sum over at most max(T, S) weights with the forward's relative error, times
    numbers of size |g| |v| |q|, and delta adds D more roundings.
    """
    q, k, v, g = heads(shape)
    found = backward(target, g, q, k, v, causal)
    exact = gradients(g, q, k, v, causal, shape[-1] ** -0.5)
    size = max(np.abs(x).max(initial=0) for x in (q, k, v))
    limit = 4 * bound(q, k, v, np.float32) * np.abs(g).max() * size * shape[-1] ** 0.5 + 1e-6
    for x, y in zip(found, exact, strict=True):
        assert x.shape == y.shape
        assert np.abs(x - y).max(initial=0) <= limit


@pytest.mark.parametrize("causal", [False, True])
def test_slices_of_one_activation_and_double_precision(causal):
    """Ground truth: float64 NumPy. q, k, v and their gradients are slices of (B, T, 3, A, D)."""
    rng = np.random.default_rng(1)
    fused = rng.standard_normal((2, 40, 3, 2, 16))
    q, k, v = (fused[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    g = rng.standard_normal((2, 40, 2, 16)).transpose(0, 2, 1, 3)
    place = untouched(fused.shape, fused.dtype)
    grads = [place[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]
    backward(TARGETS[0], g, q, k, v, causal, grads)
    for x, y in zip(grads, gradients(g, q, k, v, causal, 0.25), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_large_logits_stay_finite(target):
    """Invariant: with logits of +-1e4 and more a row is one value of v, and nothing overflows."""
    q, k, v, g = heads((1, 1, 40, 70, 16), size=1e4)
    out, lse, _ = forward(target, q, k, v, False)
    exact, _, weights = definition(q, k, v, False, 0.25)
    assert np.isfinite(out).all() and np.isfinite(lse).all()
    clear = weights.max(-1) > 1 - 1e-9
    assert clear.sum() > 30 and np.abs(out - exact)[clear].max() <= 1e-6
    assert all(np.isfinite(x).all() for x in backward(target, g, q, k, v, False))


@pytest.mark.parametrize("shape", [(1, 2, 150, 300, 32), (2, 20, 64, 64, 16)], ids=str)
def test_threads_do_not_change_a_bit(shape):
    """Invariant: 1, 2 and 3 threads give the same bits, with the keys of a head split or not."""
    q, k, v, g = heads(shape)
    runs = []
    for threads in (1, 2, 3):
        out, lse, _ = forward(TARGETS[0], q, k, v, True, threads=(threads,))
        runs.append([out, lse, *backward(TARGETS[0], g, q, k, v, True, threads=(threads,))])
    for other in runs[1:]:
        assert all(np.array_equal(x, y) for x, y in zip(runs[0], other, strict=True))


@pytest.mark.parametrize(
    "target", [*TARGETS, PLAIN, AMX], ids=[*(t.name for t in TARGETS), "plain", "amx"]
)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", BFLOAT16_SHAPES, ids=str)
def test_bfloat16_is_the_definition(target, causal, shape):
    """Ground truth: float64 NumPy on the same bfloat16 numbers."""
    (out, lse, *grads), (g, q, k, v) = run_bfloat16(target, shape, causal)
    scale = shape[-1] ** -0.5
    exact, exact_lse, _ = definition(q, k, v, causal, scale)
    assert np.abs(out - exact).max() <= LIMIT * np.abs(v).max()
    seen = np.isfinite(exact_lse)
    assert np.array_equal(lse[~seen], exact_lse[~seen].astype(np.float32))
    np.testing.assert_allclose(lse[seen], exact_lse[seen], rtol=1e-5, atol=1e-5)
    for x, y in zip(grads, gradients(g, q, k, v, causal, scale), strict=True):
        assert np.abs(x - y).max() <= LIMIT * max(np.abs(y).max(), 1.0)


@pytest.mark.parametrize("scale", [-0.5, 2.0])
def test_scales_of_bfloat16(scale):
    """Ground truth: float64 NumPy on the same bfloat16 numbers; blocks of 64 keys keep their
    largest logit, which for a scale below 0 is that of the least product."""
    (out, *_), (_, q, k, v) = run_bfloat16(TARGETS[0], (1, 4, 70, 131, 17), True, scale=scale)
    assert np.abs(out - definition(q, k, v, True, scale)[0]).max() <= LIMIT * np.abs(v).max()


def test_threads_do_not_change_a_bit_of_bfloat16():
    """Invariant: 1, 2 and 3 threads give the same bits."""
    runs = [run_bfloat16(TARGETS[0], (2, 4, 150, 150, 32), True, n)[0] for n in (1, 2, 3)]
    for other in runs[1:]:
        assert all(np.array_equal(x, y) for x, y in zip(runs[0], other, strict=True))
