"""Chapter "attention": each token gathers what it needs, slowly and fast."""

from __future__ import annotations

import functools
from collections.abc import Callable

from tinytorch.nn.attention import MultiHeadAttention, SelfAttention, TransformerBlock
from tinytorch.nn.embedding import LearnedPositions, RotaryPositions, SinusoidalPositions
from tinytorch.nn.functional import scaled_dot_product_attention, softmax
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.interpreter import current, is_grad_enabled
from tinytorch.tensor.operands import Operand
from tinytorch.tensor.tensor import Tensor

__all__ = [
    "LearnedPositions", "MultiHeadAttention", "RotaryPositions", "SelfAttention",
    "SinusoidalPositions", "TransformerBlock", "attention_naive", "attention_optimized",
    "scaled_dot_product_attention",
]  # fmt: skip


def attention_naive(Q: Operand, K: Operand, V: Operand) -> Tensor:
    """softmax(Q K^T) V in three operations: the baseline of the capstone, without scale or mask.

    Args:
        Q: (..., T, D).
        K: (..., S, D).
        V: (..., S, D).

    Returns:
        (..., T, D).

    Cost: T S numbers for each head, written and read five times.

    Example:
        >>> import tinytorch as tt
        >>> attention_naive(tt.ones(2, 3), tt.ones(4, 3), tt.ones(4, 3)).shape
        (2, 3)
    """
    q, k, v = asarray(Q), asarray(K), asarray(V)
    scores = q @ k.transpose(-1, -2)
    weights = softmax(scores)
    return weights @ v


def attention_optimized(Q: Operand, K: Operand, V: Operand) -> Tensor:
    """What `attention_naive` gives, by the compiled kernel, which never holds T S numbers.

    Where a gradient is wanted the operation takes its place in the tape; otherwise, and inside
    compiled functions, it is native code.

    Args:
        Q: (..., T, D).
        K: (..., S, D).
        V: (..., S, D).

    Returns:
        (..., T, D).

    Source: streaming softmax, Milakov, Gimelshein 2018, https://arxiv.org/abs/1805.02867.

    Example:
        >>> import tinytorch as tt
        >>> q, k, v = (tt.randn(5, 8) for _ in range(3))
        >>> bool(abs(attention_optimized(q, k, v) - attention_naive(q, k, v)).max().item() < 1e-5)
        True
    """
    q, k, v = asarray(Q), asarray(K), asarray(V)
    learns = is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if learns or current() is not None:
        return _unscaled(q, k, v)
    return _native()(q, k, v)


def _unscaled(Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
    missing = 4 - len(Q.shape)
    if missing > 0:
        Q, K, V = (x.reshape(*(1,) * missing, *x.shape) for x in (Q, K, V))
    out = scaled_dot_product_attention(Q, K, V, scale=1.0)
    return out.reshape(*out.shape[max(missing, 0) :])


@functools.cache
def _native() -> Callable:
    # Imported here: the course's first chapters need no LLVM.
    from tinytorch.compiler.compile import compile

    return compile(_unscaled)
