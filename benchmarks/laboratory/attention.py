"""Attention in numbered versions: all scores at once, a block of them at a time, the kernel.

Knows q, k, v of shape (heads, T, D) in float32, without scale or mask.
"""

from __future__ import annotations

import numpy as np

import tinytorch as tt
from benchmarks.laboratory.matmul import compiled_assembly
from benchmarks.laboratory.versions import Version
from tinytorch.codegen.target import Target
from tinytorch.core.attention import attention_naive

HEADS, T, D = 32, 512, 64
BLOCK = 64  # keys at a time


def all_scores(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """softmax(q k^T) v with the whole (heads, T, T) of scores in memory."""
    scores = q @ k.transpose(0, 2, 1)
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    return scores @ v / scores.sum(-1, keepdims=True)


def streaming(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The same, a block of keys at a time: the softmax is corrected as larger scores come.

    Source: Milakov & Gimelshein 2018, "Online normalizer calculation for softmax",
    https://arxiv.org/abs/1805.02867, algorithm 3; Dao et al. 2022, https://arxiv.org/abs/2205.14135
    """
    largest = np.full((*q.shape[:2], 1), -np.inf, q.dtype)
    total = np.zeros_like(largest)
    out = np.zeros_like(q)
    for at in range(0, k.shape[1], BLOCK):
        scores = q @ k[:, at : at + BLOCK].transpose(0, 2, 1)  # (heads, T, BLOCK)
        new = np.maximum(largest, scores.max(-1, keepdims=True))
        kept = np.exp(largest - new)  # what was summed up so far was too large by this
        weights = np.exp(scores - new)
        total = kept * total + weights.sum(-1, keepdims=True)
        out = kept * out + weights @ v[:, at : at + BLOCK]
        largest = new
    return out / total


def operands(heads: int = HEADS, length: int = T) -> tuple[np.ndarray, ...]:
    """q, k, v, of deviation 1/2: then a score, a sum of 64 products, has 2, and no key wins all."""
    draw = np.random.default_rng(0).standard_normal
    q, k, v = (draw((heads, length, D)).astype(np.float32) * 0.5 for _ in range(3))
    return q, k, v


def versions(target: Target, heads: int = HEADS, length: int = T) -> list[Version]:
    """All of them; `bytes` of q, k, v, the result, and of scores that lie in memory."""
    q, k, v = operands(heads, length)
    tensors = [tt.Tensor(x[None]) for x in (q, k, v)]
    flops = 4 * heads * length * length * D
    least, scores = 4 * 4 * heads * length * D, 4 * heads * length * length
    plain = tt.compile(attention_naive, target=target, threads=1)
    kernel = tt.compile(
        lambda q, k, v: tt.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0),
        target=target, threads=1,
    )  # fmt: skip
    return [
        Version(
            "three operations in NumPy", lambda: all_scores(q, k, v), flops, least + 8 * scores,
            "scores go to memory and back for each step of the softmax",
        ),
        Version(
            "a block of keys at a time, NumPy", lambda: streaming(q, k, v), flops,
            least + 8 * scores * 2 // 3,
            "NumPy's exponential, and small products: more work than the memory saved",
        ),
        Version(
            "three operations, compiled", lambda: plain(*tensors).numpy()[0], flops,
            least + 4 * scores, "scores are written and read twice; the products are gemm's",
        ),
        Version(
            "the shipped kernel", lambda: kernel(*tensors).numpy()[0], flops, least,
            "multiply-adds and the exponential: scores never leave the registers and first cache",
            compiled_assembly(kernel, *tensors),
        ),
        Version(
            "course: attention_naive, eager", lambda: attention_naive(*tensors).numpy()[0], flops,
            0, "each operation of the softmax is a pass over the scores", reference=True,
        ),
    ]  # fmt: skip


def expected(version: Version, heads: int = HEADS, length: int = T) -> np.ndarray:
    """In float64, all scores at once."""
    q, k, v = (x.astype(np.float64) for x in operands(heads, length))
    return all_scores(q, k, v)
