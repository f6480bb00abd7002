"""Functions of caches of keys and values: tokens written into one, attention that reads it.

Knows shapes; what pages, starts and a table are says primitives/caches.py.
"""

from __future__ import annotations

from typing import Any

from tinytorch.primitives import TABLE
from tinytorch.tensor.dispatch import apply
from tinytorch.tensor.memory import TensorBase

_PUT, _ATTEND = TABLE["put_tokens"], TABLE["cached_attention"]


def put_tokens(
    x: TensorBase, new: TensorBase, starts: TensorBase, counts: TensorBase, table: TensorBase,
    *, bound: int = 0,
) -> Any:  # fmt: skip
    """A new Tensor: x with new tokens at each row's own position (compiled: written in place).

    Args:
        x: (P, G, N, D), pages of a cache.
        new: (B, G, T, D).
        starts: int64 (B,), the position of each row's first new token.
        counts: int64 (B,), how many of each row's T tokens are written.
        table: int64 (B, M), the pages of each row.
        bound: positions are below it; 0: the oldest tokens are overwritten.

    Raises:
        IndexRangeError: a position is not below the bound, or a page not in the cache.
    """
    return apply(_PUT, (x, new, starts, counts, table), {"bound": bound})


def cached_attention(
    q: TensorBase, keys: TensorBase, values: TensorBase, starts: TensorBase, table: TensorBase,
    *scales: TensorBase, scale: float, window: int = 0,
) -> Any:  # fmt: skip
    """softmax(scale q k^T) v over what is in a cache; row b does not depend on other rows.

    Args:
        q: (B, A, T, D), the queries of the tokens that were written last.
        keys: (P, G, N, D) of q's type, or int8; G divides A.
        values: as keys.
        starts: int64 (B,), the position of each row's first query.
        table: int64 (B, M), the pages of each row.
        scales: of int8 keys and values, float32 (P, G, N, 1) each.
        scale: factor of the logits.
        window: how many positions a query sees, itself among them; 0: all.

    Returns:
        (B, A, T, D). No gradient goes through it.

    Raises:
        IndexRangeError: a page is not in the cache.
    """
    operands = (q, keys, values, starts, table, *scales)
    return apply(_ATTEND, operands, {"scale": scale, "window": window})
