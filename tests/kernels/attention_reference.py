"""Attention by its definition in float64 NumPy, and runs of its kernels on arrays."""

import numpy as np

from tests.kernels.lowered_runner import (
    VECTOR_TARGETS,
    element_strides,
    run_lowered,
    untouched,
)
from tinytorch.base.dtypes import OF_NUMPY, bfloat16, float32, from_bfloat16, round_to_bfloat16
from tinytorch.codegen.kernel import Operand
from tinytorch.kernels.attention import lower_attention
from tinytorch.kernels.attention_gradient import lower_attention_gradient
from tinytorch.kernels.attention_spec import AttentionGradientSpec, AttentionSpec

TARGETS = [*VECTOR_TARGETS.values()]
# B, A, T, S, D: one of each, primes, T != S both ways, ragged against every block and vector;
# in the last the first query of each block sees whole blocks of keys and one key, when causal
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 2, 7, 1, 5),
    (1, 2, 1, 37, 64),
    (2, 3, 50, 50, 24),
    (1, 1, 70, 131, 17),
    (1, 1, 131, 70, 16),
    (1, 1, 5, 0, 3),
    (1, 1, 150, 214, 20),
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


def lies_as(array) -> Operand:
    """The operand of an array, whose 16-bit integers are bfloat16."""
    return Operand(bfloat16 if array.dtype == np.uint16 else float32, element_strides(array))


def run_bfloat16(target, shape, causal, threads=1, scale=None):
    """(out, lse, g_q, g_k, g_v) of the kernels, and the float64 inputs g, q, k, v."""
    b, a, t, s, d = shape
    rng = np.random.default_rng(0)
    fused = round_to_bfloat16(rng.standard_normal((b, t, 2, a, d)).astype(np.float32))
    q, g = (fused[:, :, i].transpose(0, 2, 1, 3) for i in range(2))
    k, v = (round_to_bfloat16(rng.standard_normal((b, a, s, d)).astype(np.float32)) for _ in "kv")
    out, lse = untouched(q.shape, np.float32), untouched(q.shape[:3], np.float32)
    given = {"q": q, "k": k, "v": v, "out": out, "lse": lse}
    operands = {n: lies_as(x) for n, x in given.items()}
    spec = AttentionSpec(b, a, t, s, d, causal, scale or d**-0.5, **operands)
    run_lowered(target, lower_attention(target, spec), given, (threads,))
    grads = {n: untouched(x.shape, np.float32) for n, x in (("g_q", q), ("g_k", k), ("g_v", v))}
    whole = AttentionGradientSpec(spec, lies_as(g), *(lies_as(x) for x in grads.values()))
    buffers = given | grads | {"g": g}
    run_lowered(target, lower_attention_gradient(target, whole), buffers, (threads,))
    wide = [from_bfloat16(np.ascontiguousarray(x)).astype(np.float64) for x in (g, q, k, v)]
    return [out, lse, *grads.values()], wide
