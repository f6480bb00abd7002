"""Scaled dot-product attention: each query gets the values of the keys it resembles.

Knows queries, keys, values and masks, never the weights that made them.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.base.checks import number
from tinytorch.base.errors import ShapeError
from tinytorch.nn.dropout_functions import dropout
from tinytorch.tensor.contractions import attention, matmul, scale_of
from tinytorch.tensor.creation import iota
from tinytorch.tensor.elementwise import exp, logical_not, where
from tinytorch.tensor.reductions import all as every
from tinytorch.tensor.reductions import shift_of
from tinytorch.tensor.reductions import sum as total
from tinytorch.tensor.repetition import repeat_interleave
from tinytorch.tensor.shaping import broadcast_to, pad, transpose
from tinytorch.tensor.tensor import Tensor


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: Any = None,
    enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(query key^T * scale + mask) value, for each head.

    Without mask and dropout it is one primitive, which never holds T x S numbers when compiled.

    Args:
        query: (..., A, T, D); leading axes of the three broadcast.
        key: (..., A, S, D).
        value: (..., A, S, V).
        attn_mask: broadcasts to (..., A, T, S): bools (True takes part) or floats (added).
        dropout_p: probability of dropping a weight, in [0, 1]; applies whenever it is not 0.
        is_causal: query t sees keys s <= t + S - T.
        scale: default 1 / sqrt(D); a number or a 0-d Tensor. With D = 0 all keys are alike.
        enable_gqa: key and value may have fewer heads, each shared by so many queries' heads side
            by side (Ainslie et al. 2023, https://arxiv.org/abs/2305.13245).

    Returns:
        (..., A, T, V). A query that may see nothing gets zeros. What is_causal hides from a query,
        and keys that attn_mask hides from all of several queries, may be infinite or NaN: neither
        the query nor its gradient learns of them.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1.

    Differs from PyTorch: with T != S and is_causal the last query sees all keys (as a cache of keys
    needs it), where PyTorch aligns the first query with the first key. is_causal and attn_mask may
    be given together.

    Example:
        >>> import tinytorch as tt
        >>> q, kv = tt.zeros(2, 4, 3, 8), tt.ones(2, 2, 5, 8)
        >>> scaled_dot_product_attention(q, kv, kv, enable_gqa=True).shape
        (2, 4, 3, 8)
    """
    if scale is None:
        scale = scale_of(query)
    if type(dropout_p) is not float:
        dropout_p = number("scaled_dot_product_attention", "dropout_p", dropout_p, "[0, 1]")
    if enable_gqa:
        key, value = _shared(query, key), _shared(query, value)
    if attn_mask is None and dropout_p == 0.0:
        lead = _together((query, key, value))
        q, k, v = _alike(*(_four_axes(x, lead) for x in (query, key, value)))
        out = attention(q, k, v, causal=is_causal, scale=scale)
        width = value.shape[-1]
        out = out if q.shape[-1] == width else out[..., :width]
        return out.reshape(*lead, *q.shape[2:3], width)
    if attn_mask is not None and query.shape[-2] > 1:
        key, value = _seen_by_some(key, attn_mask), _seen_by_some(value, attn_mask)
    scores = matmul(query, transpose(key)) * scale  # (..., T, S)
    if is_causal:
        rows, columns = scores.shape[-2:]
        sees = iota((rows, columns), 1) <= iota((rows, columns), 0) + (columns - rows)
        scores = where(sees, scores, -math.inf)
    if attn_mask is not None:
        added = attn_mask.dtype.is_float
        scores = (
            scores + attn_mask.astype(scores.dtype)
            if added
            else where(attn_mask, scores, -math.inf)
        )
    return matmul(dropout(_safe_softmax(scores), dropout_p), value)


def _shared(query: Tensor, x: Tensor) -> Tensor:
    """Keys or values repeated for each of the heads that share them."""
    if len(query.shape) < 3 or len(x.shape) < 3 or query.shape[-3] == x.shape[-3]:
        return x
    heads, shared = query.shape[-3], x.shape[-3]
    if not shared or heads % shared:
        raise ShapeError(
            "scaled_dot_product_attention: the queries do not share the keys evenly",
            got=f"{heads} heads of queries, {shared} of keys and values",
            rule="the heads of the queries are a multiple of those of keys and values",
            fix="as many heads of keys as of queries, or one",
        )
    return repeat_interleave(x, heads // shared, len(x.shape) - 3)


def _together(parts: tuple[Tensor, ...]) -> tuple[int, ...]:
    """The leading axes (batch, heads) that queries, keys and values stretch to."""
    leads = [tuple(x.shape[:-2]) for x in parts]
    rank = max(len(lead) for lead in leads)
    sizes = zip(*((1,) * (rank - len(lead)) + lead for lead in leads), strict=True)
    several = [{n for n in axis if n != 1} for axis in sizes]
    if any(len(found) > 1 for found in several):
        raise ShapeError(
            "scaled_dot_product_attention: leading axes differ",
            got=", ".join(str(tuple(x.shape)) for x in parts),
            rule="query, key and value have the same batch and heads, or 1",
            fix="enable_gqa=True for fewer heads, or expand key and value to those of the query",
        )
    return tuple(found.pop() if found else 1 for found in several)


def _four_axes(x: Tensor, lead: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[:-2]) != lead:
        x = broadcast_to(x, (*lead, *x.shape[-2:]))
    return (
        x
        if len(lead) == 2
        else x.reshape(math.prod(lead[:-1]), lead[-1] if lead else 1, *x.shape[-2:])
    )


def _alike(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Zeros beside queries and keys, or values, until both are as wide: no score changes."""
    if q.shape[-1] == k.shape[-1] == v.shape[-1] > 0 or q.shape[-1] != k.shape[-1]:
        return q, k, v
    size = max(q.shape[-1], v.shape[-1], 1)
    return tuple([pad(x, (0,) * 4, (0, 0, 0, size - x.shape[-1])) for x in (q, k, v)])


def _seen_by_some(x: Tensor, mask: Tensor) -> Tensor:
    """Keys or values, 0 where the mask hides one from every query: it may be NaN."""
    hidden = mask == -math.inf if mask.dtype.is_float else logical_not(mask)
    if len(mask.shape) > 1:
        hidden = every(hidden, -2)
    return where(hidden.unsqueeze(-1), 0.0, x)


def _safe_softmax(scores: Tensor) -> Tensor:
    """Softmax over the last axis in which a row of -inf becomes zeros, not NaN."""
    largest = shift_of(scores, -1)
    powers = exp(scores - where(largest == -math.inf, 0.0, largest))
    mass = total(powers, -1, keepdim=True)
    return powers / where(mass == 0.0, 1.0, mass)
