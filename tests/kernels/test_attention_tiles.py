"""Attention of bfloat16 inputs, by tiles where the machine has them, else widened.

Ground truth: the definition in float64 of the numbers that the bfloat16 inputs stand for. Weights
and their changes are rounded to bfloat16 before the second products: relative errors of 2**-9 each,
whose sum over a row stays below 2**-7 of the largest term.
"""

import numpy as np
import pytest

from tests.kernels.lowered_runner import element_strides, run_lowered, untouched
from tests.kernels.test_attention import TARGETS, definition, gradients
from tinytorch.base.dtypes import bfloat16, float32, from_bfloat16, round_to_bfloat16
from tinytorch.codegen.kernel import Operand
from tinytorch.kernels.attention import lower_attention
from tinytorch.kernels.attention_gradient import lower_attention_gradient
from tinytorch.kernels.attention_spec import AttentionGradientSpec, AttentionSpec

SHAPES = [(1, 4, 7, 1, 5), (2, 3, 50, 50, 24), (1, 8, 70, 131, 17), (1, 4, 131, 70, 64)]
LIMIT = 2.0**-7


def run(target, shape, causal, threads=1):
    """(out, lse, g_q, g_k, g_v) of the kernels, and the float64 inputs g, q, k, v."""
    b, a, t, s, d = shape
    rng = np.random.default_rng(0)
    fused = round_to_bfloat16(rng.standard_normal((b, t, 2, a, d)).astype(np.float32))
    q, g = (fused[:, :, i].transpose(0, 2, 1, 3) for i in range(2))
    k, v = (round_to_bfloat16(rng.standard_normal((b, a, s, d)).astype(np.float32)) for _ in "kv")
    out, lse = untouched(q.shape, np.float32), untouched(q.shape[:3], np.float32)
    given = {"q": q, "k": k, "v": v, "out": out, "lse": lse}
    operands = {n: lies(x) for n, x in given.items()}
    spec = AttentionSpec(b, a, t, s, d, causal, d**-0.5, **operands)
    run_lowered(target, lower_attention(target, spec), given, (threads,))
    grads = {n: untouched(x.shape, np.float32) for n, x in (("g_q", q), ("g_k", k), ("g_v", v))}
    whole = AttentionGradientSpec(spec, lies(g), *(lies(x) for x in grads.values()))
    buffers = given | grads | {"g": g}
    run_lowered(target, lower_attention_gradient(target, whole), buffers, (threads,))
    wide = [from_bfloat16(np.ascontiguousarray(x)).astype(np.float64) for x in (g, q, k, v)]
    return [out, lse, *grads.values()], wide


def lies(array) -> Operand:
    return Operand(bfloat16 if array.dtype == np.uint16 else float32, element_strides(array))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_is_the_definition(target, causal, shape):
    """Ground truth: float64 NumPy on the same bfloat16 numbers."""
    (out, lse, *grads), (g, q, k, v) = run(target, shape, causal)
    scale = shape[-1] ** -0.5
    exact, exact_lse, _ = definition(q, k, v, causal, scale)
    assert np.abs(out - exact).max() <= LIMIT * np.abs(v).max()
    seen = np.isfinite(exact_lse)
    assert np.array_equal(lse[~seen], exact_lse[~seen].astype(np.float32))
    np.testing.assert_allclose(lse[seen], exact_lse[seen], rtol=1e-5, atol=1e-5)
    for x, y in zip(grads, gradients(g, q, k, v, causal, scale), strict=True):
        assert np.abs(x - y).max() <= LIMIT * max(np.abs(y).max(), 1.0)


def test_threads_do_not_change_a_bit():
    """Invariant: 1, 2 and 3 threads give the same bits."""
    runs = [run(TARGETS[0], (2, 4, 150, 150, 32), True, n)[0] for n in (1, 2, 3)]
    for other in runs[1:]:
        assert all(np.array_equal(x, y) for x, y in zip(runs[0], other, strict=True))
