"""Products of activations rounded to int8 with weights of 8 or 4 bits.

Knows arrays, scales and the rows of the table, never layers. Activations are rounded on the fly, a
scale for each sample (each token), so that the sums of a product are exact integers and the scale
multiplies them once, at the end.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import float32, int32, uint8
from tinytorch.primitives import TABLE
from tinytorch.primitives.grouped import GROUPS, pack_groups, packed_bytes
from tinytorch.tensor.creation import iota
from tinytorch.tensor.dispatch import apply
from tinytorch.tensor.elementwise import abs as magnitude
from tinytorch.tensor.elementwise import round as rounded
from tinytorch.tensor.reductions import amax
from tinytorch.tensor.tensor import Tensor

__all__ = ["GROUPS", "bytes_times_bytes", "few_bits", "grouped_linear", "of_groups",
           "pack_groups", "packed_bytes"]  # fmt: skip


def few_bits(x: Tensor, axes: int | tuple[int, ...] = -1) -> tuple[Tensor, Tensor]:
    """x as int8 with one scale over `axes`: x is about q * scale, to within scale / 2.

        scale = max |x| / 127
        q = round(x * (127 / max |x|)), halves to even

    Args:
        x: floats of any shape.
        axes: over which a scale is shared; default the last.

    Returns:
        q, int8 in [-127, 127], of x's shape, and scale, float32, size 1 along `axes`. Zeros give
        zeros. Where x holds NaN or an infinity the scale is that, so that products are not finite.
    """
    x = x.astype(float32)
    largest = amax(magnitude(x), axes, keepdim=True)
    return rounded(x * (127.0 / largest)).astype("int8"), largest * (1.0 / 127.0)


def bytes_times_bytes(q: Tensor, weight: Tensor) -> Tensor:
    """q @ weight.T, exact, as int32: q (..., K) and weight (N, K) of int8."""
    return apply(TABLE["matmul"], (q, weight.mT), {"dtype": int32})


def grouped_linear(q: Tensor, weight: Tensor, scale: Tensor, bits: int, group: int) -> Tensor:
    """q @ w.T as float32, w of `bits` in groups; see `primitives/grouped.py`.

    Args:
        q: (..., K), int8.
        weight: (N, bytes of K).
        scale: (N, groups of K).
        bits: 4 or 8.
        group: numbers that share a scale, 32, 64 or 128.
    """
    return apply(TABLE["grouped_matmul"], (q, weight, scale), {"bits": bits, "group": group})


def of_groups(weight: Tensor, scale: Tensor, bits: int, group: int, k: int) -> Tensor:
    """The numbers that rows of groups stand for: (..., bytes), (..., groups) -> (..., k)."""
    lead, groups = weight.shape[:-1], scale.shape[-1]
    w = weight.reshape(*lead, groups, 1, group * bits // 8)
    if bits == 4:
        half = iota((2, 1), 0, dtype=uint8) * Tensor(np.uint8(4))
        low = apply(TABLE["bitwise_and"], (w >> half, Tensor(np.uint8(15))), {})
        w = low.astype(float32) - 8.0
    w = w.astype(float32) * scale.astype(float32).reshape(*lead, groups, 1, 1)
    return w.reshape(*lead, groups * group)[..., :k]
