"""Attention kernels against the definition in float64 NumPy, on every target this machine runs."""

import numpy as np
import pytest

from tests.kernels.lowered_runner import element_strides, run_lowered, untouched
from tinytorch.base.dtypes import OF_NUMPY
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.attention import lower_attention
from tinytorch.kernels.attention_gradient import lower_attention_gradient
from tinytorch.kernels.attention_spec import AttentionGradientSpec, AttentionSpec

TARGETS = [Target.named(name) for name in ("avx512", "avx2", "vector128")]
# B, A, T, S, D: one of each, primes, T != S both ways, ragged against every block and vector
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 2, 7, 1, 5),
    (1, 2, 1, 37, 64),
    (2, 3, 50, 50, 24),
    (1, 1, 70, 131, 17),
    (1, 1, 131, 70, 16),
    (1, 1, 5, 0, 3),
]


def definition(q, k, v, causal, scale):
    """out, lse and the weights in float64; a query that sees nothing gives 0 and -inf."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    logits = np.einsum("batd,basd->bats", q, k) * scale
    t, s = logits.shape[2:]
    if causal:
        logits = np.where(np.arange(s) <= np.arange(t)[:, None] + s - t, logits, -np.inf)
    largest = logits.max(-1, keepdims=True, initial=-np.inf)
    largest = np.where(np.isinf(largest), 0.0, largest)
    weights = np.exp(logits - largest)
    total = weights.sum(-1, keepdims=True)
    weights /= np.where(total == 0, 1.0, total)
    with np.errstate(divide="ignore"):
        return weights @ v, (largest + np.log(total))[..., 0], weights


def gradients(g, q, k, v, causal, scale):
    """g_q, g_k, g_v in float64."""
    out, _, weights = definition(q, k, v, causal, scale)
    g, q, k, v = (x.astype(np.float64) for x in (g, q, k, v))
    slope = weights * (np.einsum("batd,basd->bats", g, v) - (g * out).sum(-1)[..., None])
    g_k = np.einsum("bats,batd->basd", slope, q) * scale
    return slope @ k * scale, g_k, np.einsum("bats,batd->basd", weights, g)


def heads(shape, dtype=np.float32, size=1.0, seed=0):
    """q, k, v, g of one shape, all dense."""
    b, a, t, s, d = shape
    rng = np.random.default_rng(seed)
    made = [rng.standard_normal((b, a, n, d)) for n in (t, s, s, t)]
    made[0] *= size
    return [x.astype(dtype) for x in made]


def lies(array) -> Operand:
    return Operand(OF_NUMPY[array.dtype], element_strides(array))


def forward(target, q, k, v, causal, out=None, threads=(1,), scale=None):
    b, a, t, d = q.shape
    out = untouched(q.shape, q.dtype) if out is None else out
    lse = untouched(q.shape[:3], q.dtype)
    buffers = {"q": q, "k": k, "v": v, "out": out, "lse": lse}
    spec = AttentionSpec(
        b, a, t, k.shape[2], d, causal, scale or d**-0.5, *(lies(x) for x in buffers.values())
    )
    run_lowered(target, lower_attention(target, spec), buffers, threads)
    return out, lse, spec


def backward(target, g, q, k, v, causal, grads=None, threads=(1,)):
    out, lse, spec = forward(target, q, k, v, causal)
    grads = grads or [untouched(x.shape, x.dtype) for x in (q, k, v)]
    given = {"g": g, "q": q, "k": k, "v": v, "out": out, "lse": lse}
    buffers = given | dict(zip(("g_q", "g_k", "g_v"), grads, strict=True))
    spec = AttentionGradientSpec(spec, lies(g), *(lies(x) for x in grads))
    run_lowered(target, lower_attention_gradient(target, spec), buffers, threads)
    return grads


def bound(q, k, v, dtype):
    """Largest error of out: a logit, a sum of D products, is wrong by (D + 4) eps of its terms'
    sizes, which the exponential turns into a relative error of a weight; the weighted sum
    adds S roundings. A few units for the exponential and the quotient."""
    eps, (s, d) = np.finfo(dtype).eps, k.shape[2:]
    if s == 0:
        return 0.0
    terms = np.abs(q).astype(float) @ np.abs(k).astype(float).swapaxes(2, 3) * d**-0.5
    return ((d + 4) * terms.max() + s + 8) * eps * np.abs(v).max()


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_the_definition(target, causal, shape):
    """Ground truth: softmax(scale q k^T) v in float64."""
    q, k, v, _ = heads(shape)
    out, lse, _ = forward(target, q, k, v, causal)
    exact, exact_lse, _ = definition(q, k, v, causal, shape[-1] ** -0.5)
    assert np.abs(out - exact).max() <= bound(q, k, v, np.float32)
    seen = np.isfinite(exact_lse)
    assert np.array_equal(lse[~seen], exact_lse[~seen].astype(np.float32))
    np.testing.assert_allclose(lse[seen], exact_lse[seen], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_scales_that_need_no_rounding(target, scale):
    """Ground truth: as above; the bound grows with the logits."""
    q, k, v, _ = heads((2, 3, 50, 50, 24), size=0.1)
    out, _, _ = forward(target, q, k, v, False, scale=scale)
    exact, _, _ = definition(q, k, v, False, scale)
    assert np.abs(out - exact).max() <= bound(q, k, v, np.float32) * scale * 24**0.5


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


def test_elements_that_are_apart_and_rows_a_page_apart():
    """Ground truth: the same numbers laid out densely give the same bits."""
    q, k, v, _ = heads((1, 2, 33, 40, 8))
    dense, _, _ = forward(TARGETS[0], q, k, v, True)
    apart = [np.repeat(x, 3, axis=3)[..., ::3] for x in (q, k, v)]
    page = [np.pad(x, ((0, 0),) * 3 + ((0, 1016),))[..., :8] for x in (q, k, v)]
    for other in (apart, page):
        out, _, _ = forward(TARGETS[0], *other, True)
        assert np.array_equal(out, dense)


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


def test_nan_is_not_hidden():
    """Invariant: a NaN in a visible row of k reaches every query that sees it, and no other."""
    q, k, v, _ = heads((1, 1, 40, 40, 8))
    k[0, 0, 20, 3] = np.nan
    out, _, _ = forward(TARGETS[0], q, k, v, True)
    assert np.isnan(out[0, 0, 20:]).all() and np.isfinite(out[0, 0, :20]).all()


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


def test_equal_attentions_share_their_code():
    """A kernel's name is a hash of its code."""
    q, k, v, _ = heads((1, 1, 9, 9, 4))
    specs = [forward(TARGETS[0], q, k, v, causal)[2] for causal in (True, True, False)]
    names = [lower_attention(TARGETS[0], s).steps[0].kernel.name for s in specs]
    assert names[0] == names[1] != names[2]
