"""Functions of layers and losses, under PyTorch's names and argument orders.

Knows formulas, never weights that are kept: each is a composition of Tensor functions, so its
gradient is derived and the compiler fuses it.
"""

from __future__ import annotations

import math

from tinytorch.base.errors import DTypeError, ShapeError
from tinytorch.nn.activation_functions import gelu
from tinytorch.nn.classification import cross_entropy
from tinytorch.nn.dropout_functions import dropout
from tinytorch.nn.indices import inside
from tinytorch.nn.norm_functions import batch_norm, layer_norm
from tinytorch.nn.window_functions import conv2d
from tinytorch.tensor.contractions import attention, matmul, max_pool2d
from tinytorch.tensor.creation import iota
from tinytorch.tensor.elementwise import exp, relu, sigmoid, tanh, where
from tinytorch.tensor.indexing import take
from tinytorch.tensor.reductions import amax, log_softmax, softmax
from tinytorch.tensor.reductions import sum as total
from tinytorch.tensor.shaping import transpose
from tinytorch.tensor.tensor import Tensor

__all__ = [
    "batch_norm", "conv2d", "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear",
    "log_softmax", "max_pool2d", "mse_loss", "relu", "scaled_dot_product_attention", "sigmoid",
    "softmax", "tanh",
]  # fmt: skip


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Args:
        input: (..., C).
        weight: (K, C).
        bias: (K,).

    Returns:
        (..., K).
    """
    if len(weight.shape) != 2 or not input.shape or input.shape[-1] != weight.shape[1]:
        raise ShapeError(
            "linear: input and weight do not belong together",
            got=f"input {tuple(input.shape)}, weight {tuple(weight.shape)}",
            rule="input (..., C), weight (K, C)",
            fix="transpose the weight, or reshape the input",
        )
    # No reshape to one matrix: the row `matmul` and the compiler do that, and without it the
    # arithmetic that follows still has the shape of the product and is fused into it.
    out = matmul(input, transpose(weight))
    return out if bias is None else out + bias


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """weight[input], row by row.

    Args:
        input: integers (...) in [0, V).
        weight: (V, C).

    Returns:
        (..., C).

    Raises:
        IndexRangeError: an index outside [0, V).
    """
    if input.dtype.kind not in "iu":
        raise DTypeError(
            "embedding: tokens are whole numbers",
            got=f"input of dtype {input.dtype.name}",
            rule="integers in [0, V), one for each row that is wanted",
            fix='tokens.astype("int64")',
        )
    return take(weight, inside("embedding", "token", input, weight.shape[0]), 0)


def mse_loss(input: Tensor, target: Tensor) -> Tensor:
    """Mean of squared differences, 0-d.

    Args:
        input: any shape.
        target: the same shape.

    Raises:
        ShapeError: shapes differ; broadcasting would hide a mistake here.
    """
    if tuple(input.shape) != tuple(target.shape):
        raise ShapeError(
            "mse_loss: input and target have different shapes",
            got=f"input {tuple(input.shape)}, target {tuple(target.shape)}",
            rule="equal shapes",
            fix=f"target.reshape{tuple(input.shape)}",
        )
    distance = input - target
    return (distance * distance).mean()


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """softmax(query key^T * scale + mask) value, for each head.

    Without mask and dropout it is one primitive, which never holds T x S numbers when compiled.

    Args:
        query: (..., T, D).
        key: (..., S, D).
        value: (..., S, D).
        attn_mask: broadcasts to (..., T, S): bools (True takes part) or floats (added).
        dropout_p: probability of dropping a weight, in [0, 1]; applies whenever it is not 0.
        is_causal: query t sees keys s <= t + S - T.
        scale: default 1 / sqrt(D).

    Returns:
        (..., T, D). A query that may see nothing gets zeros.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1.

    Differs from PyTorch: with T != S and is_causal the last query sees all keys (as a cache of keys
    needs it), where PyTorch aligns the first query with the first key.
    """
    if scale is None:
        scale = float(query.shape[-1]) ** -0.5
    if attn_mask is None and dropout_p == 0.0:
        lead = tuple(query.shape[:-2])
        q, k, v = (_four_axes(x, lead) for x in (query, key, value))
        return attention(q, k, v, causal=is_causal, scale=scale).reshape(*lead, *q.shape[2:])
    scores = matmul(query, transpose(key)) * scale  # (..., T, S)
    if is_causal:
        rows, columns = scores.shape[-2:]
        sees = iota((rows, columns), 1) <= iota((rows, columns), 0) + (columns - rows)
        scores = where(sees, scores, -math.inf)
    if attn_mask is not None:
        added = attn_mask.dtype.is_float
        scores = scores + attn_mask if added else where(attn_mask, scores, -math.inf)
    return matmul(dropout(_safe_softmax(scores), dropout_p), value)


def _four_axes(x: Tensor, lead: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[:-2]) != lead:
        raise ShapeError(
            "scaled_dot_product_attention: leading axes differ",
            got=f"query {lead} + (T, D), and {tuple(x.shape)}",
            rule="query, key and value have the same batch and heads",
            fix="expand key and value to the heads of the query",
        )
    return (
        x
        if len(lead) == 2
        else x.reshape(math.prod(lead[:-1]), lead[-1] if lead else 1, *x.shape[-2:])
    )


def _safe_softmax(scores: Tensor) -> Tensor:
    """Softmax over the last axis in which a row of -inf becomes zeros, not NaN."""
    largest = amax(scores, -1, keepdim=True).detach()
    powers = exp(scores - where(largest == -math.inf, 0.0, largest))
    mass = total(powers, -1, keepdim=True)
    return powers / where(mass == 0.0, 1.0, mass)
